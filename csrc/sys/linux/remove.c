/* Removing trees that others may have mounted things into.
 *
 * A folder is opened with openat2 and RESOLVE_NO_XDEV, so the kernel itself refuses to step over a mount, also a
 * bind mount of the same file system, also one that appears while we work. There is no fallback for kernels
 * without openat2: a plain recursive delete has emptied users' folders before. */
#include "sys/fd.h"
#include "sys/tree.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    LEVELS = 64, /* open folders at once; what is deeper is first moved up to the top */
    PASSES = 64, /* looks at one folder that others keep filling */
};

typedef struct level {
    DIR *dir;
    char name[NAME_MAX + 1]; /* in the level above */
    unsigned passes;
    bool progress; /* something left since the last look */
    bool kept;     /* something below must stay */
} level;

typedef struct walk {
    level *levels; /* LEVELS of them */
    int depth;     /* open levels */
    unsigned lifted;
    uint64_t removed;
    msh_code first; /* first thing that could not go */
    msh_err *err;
} walk;

static int open_folder(int at, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_BENEATH,
    };
    for (int tries = 0;; tries++) {
        int fd = (int)syscall(SYS_openat2, at, name, &how, sizeof how);
        if (fd >= 0 || errno != EAGAIN || tries == 100) /* EAGAIN: a rename raced with the look-up */
            return fd;
    }
}

static void keep(walk *w, int errnum, const char *name)
{
    for (int i = 0; i < w->depth; i++)
        w->levels[i].kept = true;
    if (w->first != MSH_OK)
        return;
    if (errnum == EBUSY || errnum == EXDEV)
        w->first =
            msh_fail(w->err, MSH_FAILED_PRECONDITION, "remove tree: %s is a mount point or in use", name);
    else
        w->first = msh_fail_errno(w->err, errnum, "remove tree: %s", name);
}

static bool push(walk *w, int at, const char *name)
{
    int fd = open_folder(at, name);
    if (fd < 0) {
        if (errno != ENOENT)
            keep(w, errno, name);
        return false;
    }
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        keep(w, errno, name);
        msh_fd_close(&fd);
        return false;
    }
    level *l = &w->levels[w->depth++];
    *l = (level){.dir = dir};
    snprintf(l->name, sizeof l->name, "%s", name);
    return true;
}

/* A folder below the deepest open level goes to the top one under a name of its own, where it is met again. */
static void lift(walk *w, int at, const char *name)
{
    int top = dirfd(w->levels[0].dir);
    for (int tries = 0; tries < 1000; tries++) {
        char to[64];
        snprintf(to, sizeof to, ".moonshim-lifted-%d-%u", (int)getpid(), w->lifted++);
        if (syscall(SYS_renameat2, at, name, top, to, 1 /* RENAME_NOREPLACE */) == 0) {
            w->levels[w->depth - 1].progress = w->levels[0].progress = true;
            return;
        }
        if (errno != EEXIST)
            break;
    }
    if (errno != ENOENT)
        keep(w, errno, name);
}

/* One entry of the deepest open folder. An entry that is a folder with content becomes the deepest. */
static void one(walk *w, const char *name)
{
    level *l = &w->levels[w->depth - 1];
    int at = dirfd(l->dir);
    /* unlink and rmdir never look into what is mounted on the name: a mount point of this namespace answers EBUSY. */
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT) {
        l->progress = true;
        return;
    }
    if (errno != EISDIR && errno != EPERM) {
        keep(w, errno, name);
        return;
    }
    int e = errno;
    if (unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT) {
        l->progress = true;
        return;
    }
    if (errno == ENOTDIR) /* EPERM of the unlink was meant: an immutable file */
        keep(w, e, name);
    else if (errno != ENOTEMPTY && errno != EEXIST)
        keep(w, errno, name);
    else if (w->depth == LEVELS)
        lift(w, at, name);
    else
        push(w, at, name);
}

/* The deepest folder has been read to its end: take it away, or read it again if it was filled meanwhile. */
static void pop(walk *w, int parent)
{
    level *l = &w->levels[w->depth - 1];
    int up = w->depth > 1 ? dirfd(w->levels[w->depth - 2].dir) : parent;
    if (!l->kept && unlinkat(up, l->name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        int e = errno;
        if ((e == ENOTEMPTY || e == EEXIST) && l->progress && ++l->passes < PASSES) {
            l->progress = false; /* some file systems skip entries while others leave */
            rewinddir(l->dir);
            return;
        }
        keep(w, e, l->name);
    }
    bool kept = l->kept;
    closedir(l->dir);
    w->depth--;
    if (!kept && w->depth > 0)
        w->levels[w->depth - 1].progress = true;
}

static void run(walk *w, int parent, const char *name)
{
    if (!push(w, parent, name))
        return;
    while (w->depth > 0) {
        errno = 0;
        struct dirent *d = readdir(w->levels[w->depth - 1].dir);
        if (d == NULL) {
            if (errno != 0)
                keep(w, errno, w->levels[w->depth - 1].name);
            pop(w, parent);
        } else if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0) {
            char copy[NAME_MAX + 1];
            snprintf(copy, sizeof copy, "%s", d->d_name);
            one(w, copy);
        }
    }
}

msh_code msh_remove_tree(const char *path, msh_err *err)
{
    char folder[PATH_MAX];
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n == 0 || n >= sizeof folder)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "remove tree: path of %zu bytes", n);
    memcpy(folder, path, n);
    folder[n] = '\0';
    char *slash = strrchr(folder, '/');
    char name[NAME_MAX + 1];
    const char *last = slash != NULL ? slash + 1 : folder;
    if (last[0] == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0 || strlen(last) > NAME_MAX)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "remove tree: not a name: %s", path);
    snprintf(name, sizeof name, "%s", last);
    if (slash == NULL)
        snprintf(folder, sizeof folder, ".");
    else if (slash == folder)
        folder[1] = '\0';
    else
        *slash = '\0';

    int parent = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return errno == ENOENT ? MSH_OK : msh_fail_errno(err, errno, "remove tree: open %s", folder);
    walk w = {.err = err};
    w.levels = malloc(LEVELS * sizeof *w.levels);
    if (w.levels == NULL) {
        w.first = msh_fail(err, MSH_RESOURCE_EXHAUSTED, "remove tree: no memory");
    } else if (unlinkat(parent, name, 0) != 0 && errno != ENOENT) {
        int e = errno;
        if (e != EISDIR && e != EPERM)
            keep(&w, e, name);
        else if (unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
            if (errno == ENOTEMPTY || errno == EEXIST)
                run(&w, parent, name);
            else
                keep(&w, errno == ENOTDIR ? e : errno, name);
        }
    }
    free(w.levels);
    msh_fd_close(&parent);
    if (w.first != MSH_OK)
        msh_err_note(err, "%s", path);
    return w.first;
}
