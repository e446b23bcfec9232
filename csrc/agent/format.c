#include "agent/format.h"
#include "agent/fs.h"
#include "agent/paths.h"
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD          256u /* BINPRM_BUF_SIZE */
#define INTERPRETERS  5    /* that lead to each other */
#define ENTRY_LONGEST 4096u
#define PHDRS_LARGEST 65536u

msh_found msh_format_look(int root, const char *path, int *file)
{
    struct stat st;
    char name[MSH_FD_PATH];
    int fd = msh_fs_open(root, path, O_PATH, 0, RESOLVE_IN_ROOT);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? MSH_FILE_MISSING : MSH_FILE_UNUSABLE;
    bool found = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111) != 0;
    if (found && file != NULL) /* this very file, whatever its name leads to by now */
        *file = open(msh_fd_path(fd, name), O_RDONLY | O_CLOEXEC);
    msh_fd_close(&fd);
    return found ? MSH_FILE_FOUND : MSH_FILE_UNUSABLE;
}

/* ---- scripts ---- */

/* The interpreter that a "#!" line of a head names; false when there is none that the kernel would take. */
static bool interpreter(const char head[HEAD + 1], char out[HEAD + 1])
{
    const char *p = head + 2 + strspn(head + 2, " \t");
    size_t n = strcspn(p, " \t\n");
    bool cut = p + n == head + HEAD; /* the name may go on behind what the kernel looks at */
    if (n == 0 || cut)
        return false;
    memcpy(out, p, n);
    out[n] = '\0';
    return true;
}

/* ---- programs ---- */

static bool this_machine(const ElfW(Ehdr) * h)
{
    ElfW(Ehdr) own = {0};
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, &own, sizeof own, 0);
    msh_fd_close(&fd);
    if (n != (ssize_t)sizeof own || h->e_ident[EI_DATA] != own.e_ident[EI_DATA])
        return n != (ssize_t)sizeof own; /* who does not know itself refuses nothing */
    if (h->e_machine == own.e_machine)
        return true;
    /* The 32-bit sibling, which a kernel usually runs, too. */
    return (own.e_machine == EM_X86_64 && h->e_machine == EM_386) ||
           (own.e_machine == EM_AARCH64 && h->e_machine == EM_ARM);
}

/* The loader that a program of our own class asks for: 1 with `out`, 0 for none, -1 when its headers are broken. */
static int loader(int file, const ElfW(Ehdr) * h, char out[MSH_PATH_MAX])
{
    size_t size = (size_t)h->e_phnum * sizeof(ElfW(Phdr));
    int found = -1;
    if (h->e_phentsize != sizeof(ElfW(Phdr)) || size == 0 || size > PHDRS_LARGEST)
        return -1;
    ElfW(Phdr) *table = malloc(size);
    if (table == NULL)
        return 0; /* the kernel may have the memory */
    if (pread(file, table, size, (off_t)h->e_phoff) == (ssize_t)size) {
        found = 0;
        for (size_t i = 0; i < h->e_phnum && found == 0; i++)
            if (table[i].p_type == PT_INTERP) {
                size_t n = table[i].p_filesz;
                found = n >= 2 && n <= MSH_PATH_MAX &&
                                pread(file, out, n, (off_t)table[i].p_offset) == (ssize_t)n &&
                                out[n - 1] == '\0'
                            ? 1
                            : -1;
            }
    }
    free(table);
    return found;
}

/* ---- binfmt_misc ---- */

static bool hex(const char *text, size_t i, unsigned char *out)
{
    unsigned v = 0;
    if (sscanf(text + 2 * i, "%2x", &v) != 1)
        return false;
    *out = (unsigned char)v;
    return true;
}

bool msh_format_entry_takes(const char *entry, const char *path, msh_slice head)
{
    const char *extension = strstr(entry, "\nextension ."), *magic = strstr(entry, "\nmagic ");
    const char *offset = strstr(entry, "\noffset "), *mask = strstr(entry, "\nmask ");
    if (strncmp(entry, "enabled", 7) != 0)
        return false;
    if (extension != NULL) {
        extension += strlen("\nextension .");
        size_t n = strcspn(extension, "\n");
        const char *dot = strrchr(path, '.');
        return dot != NULL && strlen(dot + 1) == n && strncmp(dot + 1, extension, n) == 0;
    }
    if (magic == NULL)
        return false;
    magic += strlen("\nmagic ");
    size_t n = strspn(magic, "0123456789abcdef") / 2;
    size_t at = offset == NULL ? 0 : strtoul(offset + strlen("\noffset "), NULL, 10);
    if (n == 0 || at > head.n || n > head.n - at)
        return false;
    if (mask != NULL)
        mask += strlen("\nmask ");
    for (size_t i = 0; i < n; i++) {
        unsigned char want, care = 0xff;
        if (!hex(magic, i, &want) || (mask != NULL && !hex(mask, i, &care)) ||
            (((unsigned char)head.p[at + i] ^ want) & care) != 0)
            return false;
    }
    return true;
}

/* Looking must not load the module, so what the kernel has not got is not asked for. */
static bool known_to_the_kernel(void)
{
    char text[2 * ENTRY_LONGEST];
    int fd = open("/proc/filesystems", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    msh_fd_close(&fd);
    text[n > 0 ? n : 0] = '\0';
    return strstr(text, "\tbinfmt_misc\n") != NULL;
}

/* Whether a format that is registered with the kernel is this file's. Mounted nowhere: nobody else sees the mount. */
static bool registered(const char *path, msh_slice head)
{
    bool takes = false;
    int fs = known_to_the_kernel() ? fsopen("binfmt_misc", FSOPEN_CLOEXEC) : -1;
    int at = fs >= 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0
                 ? fsmount(fs, FSMOUNT_CLOEXEC, 0)
                 : -1;
    msh_fd_close(&fs);
    int list = at < 0 ? -1 : msh_fs_open(at, ".", O_RDONLY | O_DIRECTORY, 0, 0);
    DIR *dir = list < 0 ? NULL : fdopendir(list);
    if (dir == NULL)
        msh_fd_close(&list);
    for (struct dirent *e; dir != NULL && !takes && (e = readdir(dir)) != NULL;) {
        char text[ENTRY_LONGEST];
        int fd = openat(at, e->d_name, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        msh_fd_close(&fd);
        text[n > 0 ? n : 0] = '\0';
        takes = msh_format_entry_takes(text, path, head); /* "status" says enabled and nothing else */
    }
    if (dir != NULL)
        closedir(dir);
    msh_fd_close(&at);
    return takes;
}

/* ---- all of it ---- */

/* Why the kernel would not run `file`, or MSH_OK. A script is fine as far as it goes: *next is its interpreter. */
static msh_code judge(const char *path, int file, const char *head, size_t n, char *next, int root,
                      const char *cwd, msh_err *err)
{
    ElfW(Ehdr) h;
    char name[MSH_PATH_MAX], where[2 * MSH_PATH_MAX];
    const char *what = "interpreter";
    *next = '\0';
    if (n >= 2 && memcmp(head, "#!", 2) == 0) {
        if (!interpreter(head, name))
            return msh_fail(err, MSH_PERMISSION_DENIED,
                            "\"%.100s\" is a script whose first line names no program", path);
    } else if (n >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0) {
        memset(&h, 0, sizeof h);
        memcpy(&h, head, n < sizeof h ? n : sizeof h);
        if (!this_machine(&h))
            return msh_fail(err, MSH_PERMISSION_DENIED, "\"%.100s\" is a program for another kind of machine",
                            path);
        bool own_class = h.e_ident[EI_CLASS] == (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32);
        int needs = own_class ? loader(file, &h, name) : 0;
        if (needs < 0)
            return msh_fail(err, MSH_PERMISSION_DENIED, "\"%.100s\" is a broken program", path);
        if (needs == 0)
            return MSH_OK;
        what = "loader";
    } else {
        return msh_fail(err, MSH_PERMISSION_DENIED,
                        "\"%.100s\" is neither a program nor a script that names one", path);
    }
    snprintf(where, sizeof where, "%s/%s", name[0] == '/' ? "" : cwd, name);
    msh_found found = msh_format_look(root, where, NULL);
    if (found != MSH_FILE_FOUND)
        return msh_fail(err, MSH_PERMISSION_DENIED, "\"%.100s\" needs the %s \"%.100s\", which is %s", path,
                        what, name, found == MSH_FILE_MISSING ? "not in the container" : "not executable");
    if (what[0] == 'i')
        snprintf(next, 2 * (size_t)MSH_PATH_MAX, "%s", where);
    return MSH_OK;
}

msh_code msh_format_check(int root, const char *cwd, const char *path, int file, msh_err *err)
{
    char name[2 * MSH_PATH_MAX], next[2 * MSH_PATH_MAX], head[HEAD + 1];
    msh_err why = {0};
    msh_code rc = MSH_OK;
    int mine = -1;
    snprintf(name, sizeof name, "%s", path);
    for (int depth = 0; file >= 0; depth++) {
        ssize_t n = pread(file, head, HEAD, 0);
        if (n < 0)
            break; /* the kernel may see what we do not */
        head[n] = '\0';
        rc =
            depth > INTERPRETERS
                ? msh_fail(&why, MSH_PERMISSION_DENIED, "\"%.100s\" is a script of a script, too often", path)
                : judge(name, file, head, (size_t)n, next, root, cwd == NULL ? "" : cwd, &why);
        if (rc != MSH_OK && registered(name, (msh_slice){head, (size_t)n}))
            rc = MSH_OK;
        msh_fd_close(&mine);
        if (rc != MSH_OK || next[0] == '\0')
            break;
        snprintf(name, sizeof name, "%s", next);
        if (msh_format_look(root, name, &mine) != MSH_FILE_FOUND)
            break; /* it was there a moment ago */
        file = mine;
    }
    msh_fd_close(&mine);
    if (rc != MSH_OK && err != NULL)
        *err = why;
    return rc;
}
