/* agent/cgroup_fixture.h - folders that look like cgroup trees, for the tests of what reads and writes them. */
#ifndef MSH_AGENT_CGROUP_FIXTURE_H
#define MSH_AGENT_CGROUP_FIXTURE_H
#include "agent/cgfile.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct tree {
    char root[64];
    msh_cg cg;
} tree;

static inline void make_folders(const char *file)
{
    char path[MSH_CG_PATH];
    snprintf(path, sizeof path, "%s", file);
    for (char *p = path + 1; *p != '\0'; p++)
        if (*p == '/') {
            *p = '\0';
            mkdir(path, 0755);
            *p = '/';
        }
}

/* given a file of the cgroup with this text, as the kernel writes it */
static inline void given(const tree *t, const char *controller, const char *file, const char *text)
{
    char path[MSH_CG_PATH];
    make_folders(msh_cg_path(&t->cg, controller, file, path));
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fprintf(f, "%s\n", text);
    assert_int_equal(fclose(f), 0);
}

static inline void holds(const tree *t, const char *controller, const char *file, const char *text)
{
    char now[512];
    assert_true(msh_cg_read(&t->cg, controller, file, now, sizeof now));
    assert_string_equal(now, text);
}

static inline tree new_tree(bool v2, const char *path)
{
    tree t = {.root = "/tmp/msh-cgroup-XXXXXX"};
    assert_non_null(mkdtemp(t.root));
    t.cg = msh_cg_at(t.root, v2, path);
    return t;
}

static inline int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static inline void free_tree(const tree *t)
{
    nftw(t->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
#endif
