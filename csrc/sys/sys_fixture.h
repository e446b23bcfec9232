/* sys/sys_fixture.h - for the tests of sys: a folder of one's own, and a private mount namespace for tests that mount. */
#ifndef MSH_SYS_FIXTURE_H
#define MSH_SYS_FIXTURE_H
#include "sys/fd.h"
#include "sys/mounts.h"
#include "sys/tree.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

static char dir[64];

static inline const char *in_dir(const char *name)
{
    static char paths[8][4096];
    static unsigned turn;
    char *p = paths[turn++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

static inline int given_a_folder(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/msh-sys-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return 0;
}

static inline int after_a_folder(void **state)
{
    (void)state;
    return msh_remove_tree(dir, NULL) == MSH_OK ? 0 : -1;
}

/* Once per program: what the tests mount is seen by nobody else and goes with the process. */
static inline int given_own_mounts(void **state)
{
    (void)state;
    if (unshare(CLONE_NEWNS) == 0)
        return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    return 0; /* not root: the tests skip themselves */
}

static inline void need_root(void)
{
    if (geteuid() == 0)
        return;
    print_message("skipped: needs root\n");
    skip();
}

static inline void put_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static inline bool file_says(const char *path, const char *text)
{
    char got[64] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, got, sizeof got - 1);
    close(fd);
    return n >= 0 && strcmp(got, text) == 0;
}

static inline bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}
#endif
