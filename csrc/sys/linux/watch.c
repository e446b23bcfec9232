#include "sys/fd.h"
#include "sys/process.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>

struct msh_watch {
    uv_poll_t poll;
    int pidfd;
    msh_watch_fn on_exit;
    void *ctx;
};

/* Looks without reaping: a child of uv_spawn is libuv's to reap, and taking it away would leave its handle open for
 * ever. False: it still runs. */
static bool ended(int pidfd, msh_exit *out)
{
    siginfo_t si = {0};
    int rc;
    do
        rc = waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG | WNOWAIT);
    while (rc != 0 && errno == EINTR);
    *out = (msh_exit){.gone = rc != 0};
    if (rc == 0 && si.si_pid == 0)
        return false;
    if (rc == 0 && si.si_code == CLD_EXITED)
        out->code = si.si_status;
    else if (rc == 0)
        out->signal = si.si_status;
    return true;
}

static void on_readable(uv_poll_t *h, int status, int events)
{
    (void)events;
    msh_watch *w = h->data;
    msh_exit how = {.gone = true};
    if (status == 0 && !ended(w->pidfd, &how))
        return;
    uv_poll_stop(h);
    msh_watch_fn fn = w->on_exit;
    w->on_exit = NULL;
    if (fn != NULL)
        fn(w->ctx, &how); /* may close the watch */
}

msh_code msh_watch_start(uv_loop_t *loop, pid_t pid, uint64_t start_time, msh_watch_fn on_exit, void *ctx,
                         msh_watch **out, msh_err *err)
{
    msh_watch *w = malloc(sizeof *w);
    if (w == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "watch process %d: no memory", (int)pid);
    *w = (msh_watch){.pidfd = -1, .on_exit = on_exit, .ctx = ctx};
    msh_code rc = msh_process_open(pid, start_time, &w->pidfd, err);
    if (rc != MSH_OK) {
        free(w);
        return rc;
    }
    int e = uv_poll_init(loop, &w->poll, w->pidfd);
    if (e != 0) {
        msh_fd_close(&w->pidfd);
        free(w);
        return msh_fail_errno(err, -e, "watch process %d", (int)pid);
    }
    w->poll.data = w;
    e = uv_poll_start(&w->poll, UV_READABLE, on_readable);
    if (e != 0) {
        msh_watch_close(w);
        return msh_fail_errno(err, -e, "watch process %d", (int)pid);
    }
    *out = w;
    return MSH_OK;
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

void msh_watch_close(msh_watch *w)
{
    if (w == NULL)
        return;
    w->on_exit = NULL;
    uv_close((uv_handle_t *)&w->poll, on_closed);
    msh_fd_close(&w->pidfd);
}
