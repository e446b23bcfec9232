#include "agent/format.h"
#include "agent/paths.h"
#include "sys/fd.h"
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

static char dir[64];
static int root;

static int given_a_root(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/msh-format-XXXXXX");
    assert_non_null(mkdtemp(dir));
    root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(root, "sub", 0755), 0);
    return 0;
}

static int after_a_root(void **state)
{
    (void)state;
    char command[96];
    close(root);
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command); /* NOLINT(cert-env33-c): the folder is ours */
}

static void put(const char *path, const void *data, size_t n, mode_t mode)
{
    int fd = openat(root, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, data, n), (ssize_t)n);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void put_text(const char *path, const char *text)
{
    put(path, text, strlen(text), 0755);
}

/* A program of this machine: its header, and one entry that names a loader (or one that does not). */
typedef struct image {
    ElfW(Ehdr) head;
    ElfW(Phdr) entry;
    char loader[32];
} image;

static image program(const char *loader)
{
    image it = {0};
    int fd = open("/proc/self/exe", O_RDONLY);
    assert_int_equal(read(fd, &it.head, sizeof it.head), (ssize_t)sizeof it.head);
    close(fd);
    it.head.e_phoff = offsetof(image, entry);
    it.head.e_phnum = 1;
    it.entry.p_type = loader == NULL ? PT_LOAD : PT_INTERP;
    it.entry.p_offset = offsetof(image, loader);
    it.entry.p_filesz = loader == NULL ? 0 : strlen(loader) + 1;
    snprintf(it.loader, sizeof it.loader, "%s", loader == NULL ? "" : loader);
    return it;
}

static void put_image(const char *path, const image *it)
{
    put(path, it, sizeof *it, 0755);
}

static msh_code check(const char *path, msh_err *err)
{
    int file = -1;
    *err = (msh_err){0};
    assert_int_equal(msh_format_look(root, path, &file), MSH_FILE_FOUND);
    msh_code rc = msh_format_check(root, "/sub", path, file, err);
    msh_fd_close(&file);
    return rc;
}

static void runs(const char *path)
{
    msh_err err;
    if (check(path, &err) != MSH_OK)
        fail_msg("%s: %s", path, err.msg);
    assert_int_equal(err.code, MSH_OK);
}

static void refused(const char *path, const char *words)
{
    msh_err err;
    assert_int_equal(check(path, &err), MSH_PERMISSION_DENIED);
    if (strstr(err.msg, path) == NULL || strstr(err.msg, words) == NULL || strchr(err.msg, '\n') != NULL)
        fail_msg("\"%s\" should say %s and \"%s\"", err.msg, path, words);
}

static void files_are_told_from_what_is_none(void **state)
{
    (void)state;
    put("tool", "", 0, 0755);
    put("plain", "", 0, 0644);
    assert_int_equal(symlinkat("/../../../../tool", root, "link"), 0);
    assert_int_equal(symlinkat("loop", root, "loop"), 0);
    assert_int_equal(mkfifoat(root, "fifo", 0755), 0);
    assert_int_equal(msh_format_look(root, "/tool", NULL), MSH_FILE_FOUND);
    assert_int_equal(msh_format_look(root, "/link", NULL),
                     MSH_FILE_FOUND); /* inside, as a process there sees it */
    assert_int_equal(msh_format_look(root, "/plain", NULL), MSH_FILE_UNUSABLE);
    assert_int_equal(msh_format_look(root, "/sub", NULL), MSH_FILE_UNUSABLE);
    assert_int_equal(msh_format_look(root, "/fifo", NULL),
                     MSH_FILE_UNUSABLE); /* and nobody waits for a writer */
    assert_int_equal(msh_format_look(root, "/loop", NULL), MSH_FILE_UNUSABLE);
    assert_int_equal(msh_format_look(root, "/tool/x", NULL), MSH_FILE_MISSING);
    assert_int_equal(msh_format_look(root, "/none", NULL), MSH_FILE_MISSING);
}

static void a_program_needs_its_machine_and_its_loader(void **state)
{
    (void)state;
    image it = program(NULL);
    put_image("alone", &it);
    runs("/alone");
    it.head.e_machine = it.head.e_machine == EM_S390 ? EM_PPC64 : EM_S390;
    put_image("foreign", &it);
    refused("/foreign", "another kind of machine");
    it = program(NULL);
    it.head.e_ident[EI_DATA] = it.head.e_ident[EI_DATA] == ELFDATA2LSB ? ELFDATA2MSB : ELFDATA2LSB;
    put_image("swapped", &it);
    refused("/swapped", "another kind of machine");

    it = program("/ld.so");
    put_image("dynamic", &it);
    refused("/dynamic", "loader \"/ld.so\", which is not in the container");
    put("ld.so", "x", 1, 0644);
    refused("/dynamic", "not executable");
    put("ld.so", "x", 1, 0755);
    runs("/dynamic");
}

static void a_broken_program_is_refused_and_read_within_bounds(void **state)
{
    (void)state;
    image it = program("/ld.so");
    put("short", &it, 20, 0755);
    refused("/short", "broken");
    put("cut", &it, offsetof(image, entry) + 8, 0755);
    refused("/cut", "broken");
    it.head.e_phnum = 0xffff;
    put_image("many", &it);
    refused("/many", "broken");
    it = program("/ld.so");
    it.entry.p_filesz = (size_t)1 << 40;
    put_image("endless", &it);
    refused("/endless", "broken");
    it = program("/ld.so");
    it.entry.p_filesz = 3; /* without its end */
    put_image("unended", &it);
    refused("/unended", "broken");
    it = program("/ld.so");
    it.head.e_phoff = (ElfW(Off)) - 1;
    put_image("nowhere", &it);
    refused("/nowhere", "broken");
}

static void a_script_needs_its_interpreter(void **state)
{
    (void)state;
    image it = program(NULL);
    put_image("sh", &it);
    put_image("sub/sh", &it);
    put_text("script", "#!/sh\n");
    runs("/script");
    put_text("script", "#! \t/sh -e x\nline\n");
    runs("/script");
    put_text("script", "#!/sh"); /* no end of the line */
    runs("/script");
    put_text("script", "#!sh\n"); /* from the working directory */
    runs("/script");
    put_text("script", "#!/bin/none -x\n");
    refused("/script", "interpreter \"/bin/none\", which is not in the container");
    put_text("script", "#!/sub\n");
    refused("/script", "not executable");
    put_text("script", "#!\n/sh\n");
    refused("/script", "names no program");
    put_text("script", "#!   ");
    refused("/script", "names no program");
    put_text("script", "#!/sh\r\n"); /* written on another system */
    refused("/script", "not in the container");

    char line[400];
    memset(line, 'x', sizeof line);
    line[0] = '#', line[1] = '!', line[2] = '/';
    put("script", line, sizeof line, 0755);
    refused("/script", "names no program");
}

static void a_script_may_be_the_interpreter_of_a_script_but_not_for_ever(void **state)
{
    (void)state;
    image it = program(NULL);
    put_image("sh", &it);
    put_text("1", "#!/sh\n");
    for (int n = 2; n <= 6; n++) {
        char name[2] = {(char)('0' + n), 0}, text[8] = "#!/?\n";
        text[3] = (char)('0' + n - 1);
        put_text(name, text);
    }
    runs("/5"); /* five interpreters: 4, 3, 2, 1, sh */
    refused("/6", "too often");
    put_text("self", "#!/self\n");
    refused("/self", "too often");
    put_text("1", "text");
    refused("/1", "neither");
}

static void text_and_nothing_are_no_programs(void **state)
{
    (void)state;
    put_text("text", "echo hello\n");
    refused("/text", "neither a program nor a script");
    put_text("empty", "");
    refused("/empty", "neither a program nor a script");
    put_text("one", "#");
    refused("/one", "neither a program nor a script");
}

static void an_entry_of_binfmt_misc_takes_what_it_says(void **state)
{
    (void)state;
    static const char magic[] =
        "enabled\ninterpreter /usr/bin/i\nflags: OCF\noffset 2\nmagic 0aff\nmask ff0f\n";
    static const char plain[] = "enabled\ninterpreter /usr/bin/i\nflags: \noffset 0\nmagic 6162\n";
    static const char name[] = "enabled\ninterpreter /usr/bin/i\nflags: \nextension .jar\n";
    assert_true(msh_format_entry_takes(magic, "/x", (msh_slice){"..\x0a\x5f", 4}));
    assert_false(msh_format_entry_takes(magic, "/x", (msh_slice){"..\x0a\x5e", 4}));
    assert_false(msh_format_entry_takes(magic, "/x", (msh_slice){"..\x0a", 3}));
    assert_false(msh_format_entry_takes(magic, "/x", (msh_slice){"", 0}));
    assert_true(msh_format_entry_takes(plain, "/x", (msh_slice){"abc", 3}));
    assert_false(msh_format_entry_takes(plain, "/x", (msh_slice){"acb", 3}));
    assert_true(msh_format_entry_takes(name, "/x.jar", (msh_slice){"", 0}));
    assert_false(msh_format_entry_takes(name, "/x.jars", (msh_slice){"", 0}));
    assert_false(msh_format_entry_takes(name, "/jar", (msh_slice){"", 0}));
    assert_false(msh_format_entry_takes("disabled\nextension .jar\n", "/x.jar", (msh_slice){"", 0}));
    assert_false(msh_format_entry_takes("enabled\n", "/x", (msh_slice){"abc", 3})); /* "status" */
    assert_false(msh_format_entry_takes("enabled\noffset 99999999999999999999\nmagic 61\n", "/x",
                                        (msh_slice){"a", 1}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_are_told_from_what_is_none, given_a_root, after_a_root),
        cmocka_unit_test_setup_teardown(a_program_needs_its_machine_and_its_loader, given_a_root,
                                        after_a_root),
        cmocka_unit_test_setup_teardown(a_broken_program_is_refused_and_read_within_bounds, given_a_root,
                                        after_a_root),
        cmocka_unit_test_setup_teardown(a_script_needs_its_interpreter, given_a_root, after_a_root),
        cmocka_unit_test_setup_teardown(a_script_may_be_the_interpreter_of_a_script_but_not_for_ever,
                                        given_a_root, after_a_root),
        cmocka_unit_test_setup_teardown(text_and_nothing_are_no_programs, given_a_root, after_a_root),
        cmocka_unit_test(an_entry_of_binfmt_misc_takes_what_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
