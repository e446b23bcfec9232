#include "agent/shares.h"
#include "agent/fs.h"
#include "agent/log.h"
#include "agent/mounts.h"
#include "agent/paths.h"
#include "base/time.h"
#include "sys/usock.h"
#include "wire/gcs.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_WITHIN_MS 10000
#define NAME_LONGEST     255u

typedef struct share {
    msh_node node;
    char *path;
    char file[NAME_LONGEST + 1]; /* "" for a folder */
} share;

typedef struct share_job {
    msh_request *request;
    char path[MSH_PATH_MAX];
    char name[64]; /* of the share, digits */
    uint32_t port;
    bool read_only;
    char file[NAME_LONGEST + 1];
    bool known;                /* Remove: there is such a share */
    bool made_path, made_file; /* Add: what to take back when it fails */
    msh_err err;
} share_job;

static share *find(msh_agent *a, const char *path)
{
    for (msh_node *n = a->shares.next; n != &a->shares; n = n->next) {
        share *s = MSH_LIST_OF(n, share, node);
        if (strcmp(s->path, path) == 0)
            return s;
    }
    return NULL;
}

bool msh_share_holds(msh_agent *a, const char *path)
{
    for (msh_node *n = a->shares.next; n != &a->shares; n = n->next)
        if (msh_path_below(path, MSH_LIST_OF(n, share, node)->path))
            return true;
    return false;
}

msh_code msh_own_path(msh_agent *a, const char *what, const char *text, char *out, msh_err *err)
{
    msh_code rc = msh_path_target(what, text, out, MSH_PATH_MAX, err);
    if (rc == MSH_OK && msh_share_holds(a, out))
        rc = msh_fail(err, MSH_INVALID_ARGUMENT, "%s \"%.80s\" lies in a shared folder of the host", what,
                      out);
    return rc;
}

/* ---- the host's answer, on a pool thread ---- */

static msh_code wait_for(int fd, short events, msh_time end, msh_err *err)
{
    struct pollfd p = {.fd = fd, .events = events};
    msh_time now = msh_now();
    int n = now >= end ? 0 : poll(&p, 1, (int)((end - now) / MSH_MS) + 1);
    if (n < 0 && errno != EINTR)
        return msh_fail_errno(err, errno, "wait for the host");
    return n != 0 ? MSH_OK : msh_fail(err, MSH_DEADLINE_EXCEEDED, "the host does not answer");
}

/* Reads up to `max` bytes, one descriptor among them, until the answer is whole. */
static msh_code read_answer(int sock, char *text, size_t max, int *tree, msh_err *err)
{
    size_t n = 0;
    msh_time end = msh_now() + ANSWER_WITHIN_MS * MSH_MS;
    for (;;) {
        size_t got = 0;
        int pass = -1;
        msh_code rc = msh_socket_recv(sock, text + n, max - 1 - n, &got, &pass, err);
        if (pass >= 0 && *tree >= 0)
            msh_fd_close(&pass);
        if (pass >= 0)
            *tree = pass;
        if (rc == MSH_AGAIN) {
            *err = (msh_err){0}; /* it is no failure to wait */
            if ((rc = wait_for(sock, POLLIN, end, err)) != MSH_OK)
                return rc;
            continue;
        }
        if (rc != MSH_OK)
            return rc;
        n += got;
        text[n] = '\0';
        if (got == 0 || n == max - 1 || text[0] == 'D' || memchr(text, '\n', n) != NULL)
            return MSH_OK;
    }
}

static bool name_ok(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= NAME_LONGEST && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* Gives the detached mount and, for a single file, its name. */
static msh_code ask(share_job *j, int *tree, msh_err *err)
{
    char path[256], line[128], text[512] = "";
    int sock = -1;
    size_t sent = 0;
    msh_port_path(j->request->agent, j->port, path, sizeof path);
    msh_code rc = msh_socket_connect(path, &sock, err);
    if (rc != MSH_OK)
        return rc;
    int n = snprintf(line, sizeof line, "{\"aname\":\"%s\"}\n", j->name);
    rc = msh_socket_send(sock, (msh_slice){line, (size_t)n}, -1, &sent, err);
    if (rc == MSH_OK && sent != (size_t)n)
        rc = msh_fail(err, MSH_UNAVAILABLE, "the host does not take the share's name");
    if (rc == MSH_OK)
        rc = read_answer(sock, text, sizeof text, tree, err);
    msh_fd_close(&sock);
    if (rc != MSH_OK)
        return rc;
    text[strcspn(text, "\n")] = '\0';
    if (text[0] == 'E')
        return msh_fail(err, MSH_FAILED_PRECONDITION, "refused by the host: %.150s", text + 1);
    if ((text[0] != 'D' && text[0] != 'F') || *tree < 0)
        return msh_fail(err, MSH_PROTOCOL, "the host gave no mount for the share");
    if (text[0] == 'F') {
        if (!name_ok(text + 1))
            return msh_fail(err, MSH_PROTOCOL, "the host gave a file name that is none");
        snprintf(j->file, sizeof j->file, "%s", text + 1);
    }
    return MSH_OK;
}

/* The place that the mount goes to: MountPath, or an empty file in it. Gives an O_PATH descriptor. */
static msh_code make_target(share_job *j, int *target, msh_err *err)
{
    int dir = -1;
    struct stat st;
    j->made_path = lstat(j->path, &st) != 0;
    msh_code rc = msh_fs_mkdirs(j->path, 0700, err);
    if (rc == MSH_OK)
        rc = msh_fs_open_plain(j->path, &dir, err);
    if (rc != MSH_OK || j->file[0] == '\0') {
        *target = dir;
        return rc;
    }
    int fd = msh_fs_open(dir, j->file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, RESOLVE_BENEATH);
    if (fd < 0)
        rc = msh_fail_errno(err, errno, "make %s/%s", j->path, j->file);
    j->made_file = fd >= 0;
    msh_fd_close(&fd);
    if (rc == MSH_OK && (fd = msh_fs_open(dir, j->file, O_PATH | O_NOFOLLOW, 0, RESOLVE_BENEATH)) < 0)
        rc = msh_fail_errno(err, errno, "open %s/%s", j->path, j->file);
    msh_fd_close(&dir);
    *target = fd;
    return rc;
}

static msh_code attach(const share_job *j, int tree, int target, msh_err *err)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_NODEV | (j->read_only ? MOUNT_ATTR_RDONLY : 0)};
    /* Mounts below the shared folder come along in a recursive tree and must not be writable either. */
    if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) != 0)
        return msh_fail_errno(err, errno, "set the flags of the share's mount");
    if (move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
        return msh_fail_errno(err, errno, "mount the share on %s", j->path);
    return MSH_OK;
}

/* The empty file that a file share was mounted on; anything else in its place is not ours. */
static msh_code remove_placeholder(const char *path, const char *file, msh_err *err)
{
    int dir = -1;
    struct stat st;
    msh_code rc = msh_fs_open_plain(path, &dir, err);
    if (rc != MSH_OK)
        return rc == MSH_NOT_FOUND ? MSH_OK : rc;
    if (fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!S_ISREG(st.st_mode) || st.st_size != 0)
            rc = msh_fail(err, MSH_FAILED_PRECONDITION, "%s/%s is not an empty file", path, file);
        else if (unlinkat(dir, file, 0) != 0)
            rc = msh_fail_errno(err, errno, "remove %s/%s", path, file);
    }
    msh_fd_close(&dir);
    return rc;
}

static msh_code take_away(const char *path, const char *file, msh_err *err)
{
    if (file[0] != '\0') {
        char at[MSH_PATH_MAX + NAME_LONGEST + 2];
        snprintf(at, sizeof at, "%s/%s", path, file);
        msh_code rc = msh_unmount(at, err);
        if (rc == MSH_OK)
            rc = remove_placeholder(path, file, err);
        if (rc != MSH_OK)
            return rc;
    }
    return msh_unmount_point(path, err);
}

static void add_work(void *ctx)
{
    share_job *j = ctx;
    int tree = -1, target = -1;
    msh_err ignored = {0};
    msh_code rc = msh_mounts_below(j->path) > 0
                      ? msh_fail(&j->err, MSH_ALREADY_EXISTS, "there are mounts at or below %s", j->path)
                      : ask(j, &tree, &j->err);
    if (rc == MSH_OK)
        rc = make_target(j, &target, &j->err);
    if (rc == MSH_OK)
        rc = attach(j, tree, target, &j->err);
    msh_fd_close(&target);
    msh_fd_close(&tree);
    if (rc == MSH_OK)
        return;
    if (j->made_file)
        remove_placeholder(j->path, j->file, &ignored);
    if (j->made_path)
        rmdir(j->path);
}

static void remove_begin(void *ctx)
{
    share_job *j = ctx;
    const share *s = find(j->request->agent, j->path);
    j->known = s != NULL; /* what stands at other paths is not ours to take away */
    if (s != NULL)
        memcpy(j->file, s->file, sizeof j->file); /* its Add may have ended just now */
}

static void remove_work(void *ctx)
{
    share_job *j = ctx;
    if (j->known)
        take_away(j->path, j->file, &j->err);
}

/* ---- on the loop ---- */

static void add_done(void *ctx)
{
    share_job *j = ctx;
    share *s = j->err.code == MSH_OK ? find(j->request->agent, j->path) : NULL;
    if (s != NULL)
        memcpy(s->file, j->file, sizeof s->file);
    if (j->err.code != MSH_OK && (s = find(j->request->agent, j->path)) != NULL) {
        msh_list_remove(&s->node);
        free(s->path);
        free(s);
    }
    msh_finish(j->request, &j->err);
    free(j);
}

static void remove_done(void *ctx)
{
    share_job *j = ctx;
    share *s = find(j->request->agent, j->path);
    if (j->err.code == MSH_OK && s != NULL) {
        msh_list_remove(&s->node);
        free(s->path);
        free(s);
    }
    msh_finish(j->request, &j->err);
    free(j);
}

/* Reads Settings into a new job; refuses the request and gives NULL when they are wrong. */
static share_job *read_job(msh_request *r, const json_t *settings)
{
    msh_err err = {0};
    msh_reader in = msh_read(settings);
    const char *path = msh_read_text(&in, "MountPath"), *name = msh_read_text(&in, "ShareName");
    int64_t port = msh_read_signed(&in, "Port", 0, INT32_MAX);
    bool read_only = msh_read_flag(&in, "ReadOnly");
    if (in.bad != NULL) {
        msh_refuse(r, MSH_HR_INVALID_JSON, in.bad);
        return NULL;
    }
    share_job *j = calloc(1, sizeof *j);
    if (j == NULL) {
        msh_refuse(r, MSH_HR_FAIL, "no memory");
        return NULL;
    }
    j->request = r;
    j->port = port == 0 ? MSH_PORT_PLAN9 : (uint32_t)port;
    j->read_only = read_only;
    msh_code rc = msh_path_target("MountPath", path, j->path, sizeof j->path, &err);
    if (rc == MSH_OK && find(r->agent, j->path) == NULL)
        rc = msh_own_path(r->agent, "MountPath", path, j->path, &err); /* a share inside of a share */
    if (rc == MSH_OK && (strlen(name) >= sizeof j->name || strspn(name, "0123456789") != strlen(name)))
        rc = msh_fail(&err, MSH_INVALID_ARGUMENT, "ShareName \"%.60s\" is not a number", name);
    if (rc != MSH_OK) {
        free(j);
        msh_refuse_err(r, &err);
        return NULL;
    }
    memcpy(j->name, name, strlen(name) + 1);
    return j;
}

static void submit(share_job *j, void (*begin)(void *), void (*work)(void *), void (*done)(void *))
{
    msh_request *r = j->request;
    msh_err err = {0};
    msh_task t = {
        .key = {msh_key_of("path", j->path, false)}, .begin = begin, .work = work, .done = done, .ctx = j};
    if (msh_tasks_submit(r->agent->tasks, &t, &err) != MSH_OK) {
        j->err = err;
        done(j);
    }
}

void msh_share_add(msh_request *r, const json_t *settings)
{
    share_job *j = read_job(r, settings);
    if (j == NULL)
        return;
    /* Known before it is mounted: from here on nothing at this path counts as ours. */
    share *s = find(r->agent, j->path) != NULL ? NULL : calloc(1, sizeof *s);
    if (s == NULL || (s->path = strdup(j->path)) == NULL) {
        free(s);
        free(j);
        msh_refuse(r, MSH_HR_FAIL, "a share is mounted there already");
        return;
    }
    msh_list_push(&r->agent->shares, &s->node);
    submit(j, NULL, add_work, add_done);
}

void msh_share_remove(msh_request *r, const json_t *settings)
{
    share_job *j = read_job(r, settings);
    if (j == NULL)
        return;
    submit(j, remove_begin, remove_work, remove_done);
}
