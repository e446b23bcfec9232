#include "relay/io.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const stream_names[MSH_STDIO] = {"stdin", "stdout", "stderr"};

/* Opened for both directions: that never waits for the other side, keeps the bytes of an output while no reader is
 * there, and keeps a stdin alive when its client goes away. */
static msh_code open_fifo(const char *path, int *fd, msh_err *err)
{
    struct stat st;
    int f = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (f < 0)
        return msh_fail_errno(err, errno, "open %s", path);
    if (fstat(f, &st) != 0 || !S_ISFIFO(st.st_mode)) {
        msh_fd_close(&f);
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%s is no fifo", path);
    }
    *fd = f;
    return MSH_OK;
}

static msh_code prepare_flow(msh_flow *f, const msh_io_want *want, msh_err *err)
{
    const msh_io_end *e = &want->end[f->index];
    f->resume = want->resume;
    f->lossy = e->lossy && f->index != MSH_STDIN;
    msh_code rc;
    if (e->path != NULL) {
        f->fifo = true;
        rc = open_fifo(e->path, &f->end, err);
    } else {
        rc = msh_fd_dup(e->fd, &f->end, err);
    }
    if (rc != MSH_OK)
        return rc;
    size_t n = strlen(want->dir) + 16;
    f->path = malloc(n);
    if (f->path == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    snprintf(f->path, n, "%s/%u", want->dir, (unsigned)e->port);
    rc = msh_socket_listen(f->path, 0600, &f->listener, &f->id, err);
    if (rc == MSH_OK)
        f->state = FLOW_LISTEN;
    return rc;
}

msh_code msh__io_prepare(msh_io *io, const msh_io_want *want, msh_err *err)
{
    msh_code rc = MSH_OK;
    for (int i = 0; i < MSH_STDIO; i++)
        io->flow[i] = (msh_flow){.io = io, .index = i, .listener = -1, .sock = -1, .end = -1, .watch = -1};
    for (int i = 0; i < MSH_STDIO && rc == MSH_OK; i++) {
        const msh_io_end *e = &want->end[i];
        if ((e->path == NULL && e->fd < 0) || (want->tty && i == MSH_STDERR))
            continue;
        rc = prepare_flow(&io->flow[i], want, err);
        if (rc != MSH_OK)
            msh_err_note(err, "%s of %s", stream_names[i], want->name != NULL ? want->name : "a process");
    }
    if (rc != MSH_OK)
        for (int i = 0; i < MSH_STDIO; i++)
            msh__flow_release(&io->flow[i]);
    return rc;
}

void msh__flow_release(msh_flow *f)
{
    if (f->piped)
        msh_pump_free(&f->pump);
    f->piped = false;
    if (f->listener >= 0)
        msh_socket_unlink(f->path, &f->id);
    msh_fd_close(&f->listener);
    msh_fd_close(&f->sock);
    msh_fd_close(&f->end);
    free(f->path);
    f->path = NULL;
}
