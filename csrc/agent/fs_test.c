/* What an image, or whoever writes into a folder, can put into the place of a file or a folder that the agent wants. */
#include "agent/fs.h"
#include "sys/tree.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct fixture {
    char dir[64]; /* has root/ (the image) and outside/ */
    int root, outside;
} fixture;

static int given_a_root(void **state)
{
    fixture *x = calloc(1, sizeof *x);
    assert_non_null(x);
    snprintf(x->dir, sizeof x->dir, "/tmp/msh-fs-XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    int dir = open(x->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(dir, "root", 0755), 0);
    assert_int_equal(mkdirat(dir, "outside", 0755), 0);
    x->root = openat(dir, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    x->outside = openat(dir, "outside", O_PATH | O_DIRECTORY | O_CLOEXEC);
    msh_fd_close(&dir);
    assert_true(x->root >= 0 && x->outside >= 0);
    *state = x;
    return 0;
}

static int after(void **state)
{
    fixture *x = *state;
    msh_fd_close(&x->root);
    msh_fd_close(&x->outside);
    assert_int_equal(msh_remove_tree(x->dir, NULL), MSH_OK);
    free(x);
    return 0;
}

static void put(int dir, const char *name, const char *text)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    msh_fd_close(&fd);
}

static const char *at(const fixture *x, const char *rest)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", x->dir, rest);
    return path;
}

/* What the file has, "" when it cannot be read; then errno says why. */
static const char *text_of(int root, const char *path)
{
    static char text[64];
    msh_buf b;
    msh_buf_init(&b, 1u << 20);
    text[0] = '\0';
    if (msh_fs_read(root, path, 40, &b) == 0)
        snprintf(text, sizeof text, "%.*s", (int)msh_buf_slice(&b).n, msh_buf_slice(&b).p);
    int e = errno;
    msh_buf_free(&b);
    errno = e;
    return text;
}

static void links_of_an_image_stay_in_it(void **state)
{
    fixture *x = *state;
    put(x->outside, "secret", "outside");
    put(x->root, "secret", "inside");
    const char *const targets[] = {"/secret", "../outside/../secret", "../../../../../../secret",
                                   "/../secret"};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        assert_int_equal(symlinkat(targets[i], x->root, "link"), 0);
        const char *text = text_of(x->root, "/link");
        assert_true(strcmp(text, "inside") == 0 || (text[0] == '\0' && errno == ENOENT));
        assert_int_equal(unlinkat(x->root, "link", 0), 0);
    }
    assert_string_equal(text_of(x->root, "/../outside/secret"), "");
    assert_string_equal(text_of(x->root, "/secret"), "inside");
}

static void links_that_go_round_end(void **state)
{
    fixture *x = *state;
    assert_int_equal(symlinkat("b", x->root, "a"), 0);
    assert_int_equal(symlinkat("a", x->root, "b"), 0);
    assert_string_equal(text_of(x->root, "/a"), "");
    assert_int_equal(errno, ELOOP);
    assert_int_equal(msh_fs_mkdirs_in_root(x->root, "/a/x", 0755), -1);
    assert_int_equal(errno, ELOOP);
}

static void what_is_no_file_is_not_even_opened(void **state)
{
    fixture *x = *state;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s/root/socket", x->dir);
    assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof a), 0);
    msh_fd_close(&s);
    assert_int_equal(mkdirat(x->root, "folder", 0755), 0);
    assert_int_equal(mkfifoat(x->root, "fifo", 0666), 0);
    assert_int_equal(symlinkat("fifo", x->root, "link"), 0);
    int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    assert_true(inotify_add_watch(watch, at(x, "root"), IN_OPEN) >= 0);
    static const char *const names[] = {"/socket", "/folder", "/fifo", "/link"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_string_equal(text_of(x->root, names[i]), "");
        assert_int_equal(errno, EINVAL);
    }
    char event[sizeof(struct inotify_event) + 256];
    assert_int_equal(read(watch, event, sizeof event), -1);
    assert_int_equal(errno, EAGAIN);
    put(x->root, "file", "text");
    assert_string_equal(text_of(x->root, "/file"), "text");
    assert_true(read(watch, event, sizeof event) > 0); /* the watch does see what is opened */
    msh_fd_close(&watch);
}

static void a_file_has_a_limit(void **state)
{
    fixture *x = *state;
    put(x->root, "most", "0123456789012345678901234567890123456789");
    put(x->root, "more", "01234567890123456789012345678901234567890");
    assert_int_equal(strlen(text_of(x->root, "/most")), 40);
    assert_string_equal(text_of(x->root, "/more"), "");
    assert_int_equal(errno, EFBIG);
    assert_string_equal(text_of(x->root, "/none"), "");
    assert_int_equal(errno, ENOENT);
}

static void folders_are_made_inside_whatever_links_say(void **state)
{
    fixture *x = *state;
    struct stat st;
    assert_int_equal(symlinkat("../outside", x->root, "up"), 0);
    assert_int_equal(symlinkat("/outside", x->root, "top"), 0);
    assert_int_equal(mkdirat(x->root, "outside", 0755), 0);
    assert_int_equal(symlinkat("/nowhere", x->root, "dangling"), 0);
    static const char *const paths[] = {"/up/a", "/top/b", "/../outside/c", "/outside/../../outside/d"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        int fd = msh_fs_mkdirs_in_root(x->root, paths[i], 0755);
        assert_true(fd >= 0);
        msh_fd_close(&fd);
    }
    for (const char *name = "abcd"; *name != '\0'; name++) {
        char one[2] = {*name, '\0'}, inside[16];
        snprintf(inside, sizeof inside, "outside/%s", one);
        assert_int_equal(fstatat(x->root, inside, &st, 0), 0);
        assert_int_equal(fstatat(x->outside, one, &st, 0), -1);
    }
    assert_int_equal(msh_fs_mkdirs_in_root(x->root, "/dangling/x", 0755), -1);
    put(x->root, "file", "");
    assert_int_equal(msh_fs_mkdirs_in_root(x->root, "/file/x", 0755), -1);
    assert_int_equal(errno, ENOTDIR);
}

static void names_have_a_limit(void **state)
{
    fixture *x = *state;
    char path[600];
    memset(path, 'x', sizeof path);
    path[0] = '/';
    path[257] = '\0';
    assert_int_equal(msh_fs_mkdirs_in_root(x->root, path, 0755), -1);
    assert_int_equal(errno, ENAMETOOLONG);
    char *deep = malloc(9001);
    assert_non_null(deep);
    for (size_t i = 0; i < 9000; i += 2)
        memcpy(deep + i, "/x", 2);
    deep[9000] = '\0';
    assert_int_equal(msh_fs_mkdirs_in_root(x->root, deep, 0755), -1);
    assert_int_equal(errno, ENAMETOOLONG);
    free(deep);
}

static void a_plain_path_has_no_links(void **state)
{
    fixture *x = *state;
    int fd = -1;
    assert_int_equal(symlinkat("../outside", x->root, "up"), 0);
    assert_int_not_equal(msh_fs_mkdirs(at(x, "root/up/new"), 0755, NULL), MSH_OK);
    assert_int_not_equal(msh_fs_open_plain(at(x, "root/up"), &fd, NULL), MSH_OK);
    assert_int_not_equal(msh_fs_write(at(x, "root/up/file"), msh_slice_of("text"), 0600, NULL), MSH_OK);
    assert_int_equal(faccessat(x->outside, "new", F_OK, 0), -1);
    assert_int_equal(faccessat(x->outside, "file", F_OK, 0), -1);
    assert_int_equal(fd, -1);
}

static void only_a_file_is_written_to(void **state)
{
    fixture *x = *state;
    put(x->outside, "file", "outside");
    assert_int_equal(symlinkat("../outside/file", x->root, "link"), 0);
    assert_int_equal(mkfifoat(x->root, "fifo", 0666), 0);
    assert_int_equal(mkdirat(x->root, "folder", 0755), 0);
    static const char *const names[] = {"root/link", "root/fifo", "root/folder"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_not_equal(msh_fs_write(at(x, names[i]), msh_slice_of("text"), 0600, NULL), MSH_OK);
    int reader = openat(x->root, "fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(msh_fs_write(at(x, "root/fifo"), msh_slice_of("text"), 0600, NULL),
                     MSH_INVALID_ARGUMENT);
    char byte;
    assert_int_equal(read(reader, &byte, 1), 0); /* nobody wrote */
    msh_fd_close(&reader);
    assert_string_equal(text_of(x->outside, "/file"), "outside");

    struct stat st;
    put(x->root, "file", "a longer text");
    assert_int_equal(msh_fs_write(at(x, "root/file"), msh_slice_of("text"), 0600, NULL), MSH_OK);
    assert_string_equal(text_of(x->root, "/file"), "text");
    assert_int_equal(fstatat(x->root, "file", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

int main(void)
{
#define IN_A_ROOT(f) cmocka_unit_test_setup_teardown(f, given_a_root, after)
    const struct CMUnitTest tests[] = {
        IN_A_ROOT(links_of_an_image_stay_in_it),
        IN_A_ROOT(links_that_go_round_end),
        IN_A_ROOT(what_is_no_file_is_not_even_opened),
        IN_A_ROOT(a_file_has_a_limit),
        IN_A_ROOT(folders_are_made_inside_whatever_links_say),
        IN_A_ROOT(names_have_a_limit),
        IN_A_ROOT(a_plain_path_has_no_links),
        IN_A_ROOT(only_a_file_is_written_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
