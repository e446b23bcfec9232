#include "agent/spawn.h"
#include "sys/fd.h"
#include "wire/gcs.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char oom_score[16]; /* "" = as the agent's; set once, before any child */

void msh_spawn_oom_score(int score)
{
    snprintf(oom_score, sizeof oom_score, "%d", score);
}

static uint64_t files; /* soft limit of descriptors, 0 = as the agent's; set once, before any child */

void msh_spawn_files(uint64_t soft)
{
    files = soft;
}

/* In the child: only calls that are safe after fork in a program with threads. */
static void child(const msh_spawn *s, const sigset_t *mask, int told)
{
    for (int sig = 1; sig < NSIG; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            signal(sig, SIG_DFL);
    int null = -1;
    for (int i = 0; i < 3; i++) {
        int from = s->fd[i];
        if (from == MSH_SPAWN_NULL) {
            if (null < 0)
                null = open("/dev/null", O_RDWR | O_CLOEXEC);
            from = null;
        }
        if (from >= 0 && dup2(from, i) < 0)
            goto fail;
    }
    for (int i = 0; i < 3; i++)
        if (s->fd[i] == MSH_SPAWN_CLOSED)
            close(i);
    int oom = oom_score[0] == '\0' ? -1 : open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (oom >= 0 && write(oom, oom_score, strlen(oom_score)) < 0)
        goto fail;
    syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC: `told` lives until exec has worked */);
    umask(022);
    msh_fd_limit_set(files);
    setsid();
    if (s->terminal && ioctl(0, TIOCSCTTY, 0) != 0)
        goto fail;
    if (s->cwd != NULL && chdir(s->cwd) != 0)
        goto fail;
    sigprocmask(SIG_SETMASK, mask, NULL);
    execve(s->path, (char *const *)s->argv, (char *const *)s->env);
fail:;
    int e = errno;
    ssize_t ignored = write(told, &e, sizeof e);
    (void)ignored;
    _exit(127);
}

msh_code msh_spawn_run(const msh_spawn *s, pid_t *pid, msh_err *err)
{
    int told[2];
    sigset_t all, old, none;
    if (pipe2(told, O_CLOEXEC) != 0)
        return msh_fail_errno(err, errno, "pipe");
    sigfillset(&all);
    sigemptyset(&none);
    pthread_sigmask(SIG_BLOCK, &all, &old); /* the parent's handlers must not run in the child */
    pid_t p = fork();
    if (p == 0)
        child(s, &none, told[1]);
    int e = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    msh_fd_close(&told[1]);
    if (p < 0) {
        msh_fd_close(&told[0]);
        return msh_fail_errno(err, e, "start %s", s->path);
    }
    *pid = p; /* also on failure: the caller reaps it */
    ssize_t n;
    do
        n = read(told[0], &e, sizeof e);
    while (n < 0 && errno == EINTR);
    msh_fd_close(&told[0]);
    if (n == (ssize_t)sizeof e) {
        msh_code rc = msh_fail_errno(err, e, "start %s", s->path);
        if (err != NULL && (e == ENOENT || e == ENOTDIR))
            err->hresult = MSH_HR_FILE_NOT_FOUND;
        else if (err != NULL && (e == EACCES || e == ENOEXEC || e == EISDIR))
            err->hresult = MSH_HR_ACCESS_DENIED;
        return rc;
    }
    return MSH_OK;
}

msh_code msh_spawn_find(const char *name, const char *path, char *out, size_t size, msh_err *err)
{
    if (strchr(name, '/') != NULL) {
        int n = snprintf(out, size, "%s", name);
        if (n < 0 || (size_t)n >= size)
            return msh_fail(err, MSH_INVALID_ARGUMENT, "program name is too long");
        return MSH_OK;
    }
    bool seen = false;
    for (const char *p = path; name[0] != '\0' && *p != '\0';) {
        size_t len = strcspn(p, ":");
        struct stat st;
        int n = snprintf(out, size, "%.*s/%s", (int)len, p, name);
        if (n > 0 && (size_t)n < size && stat(out, &st) == 0 && S_ISREG(st.st_mode)) {
            if ((st.st_mode & 0111) != 0)
                return MSH_OK;
            seen = true;
        }
        p += len;
        p += *p == ':';
    }
    msh_code rc = msh_fail(err, seen ? MSH_PERMISSION_DENIED : MSH_NOT_FOUND, "program \"%.100s\" %s", name,
                           seen ? "is not executable" : "is not in the search path");
    if (err != NULL)
        err->hresult = seen ? MSH_HR_ACCESS_DENIED : MSH_HR_FILE_NOT_FOUND;
    return rc;
}
