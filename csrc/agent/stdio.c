#include "agent/stdio.h"
#include "agent/log.h"
#include "base/time.h"
#include "sys/fd.h"
#include "sys/usock.h"
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define DIAL_WITHIN (10000 * MSH_MS)

static const char *const names[3] = {"stdin", "stdout", "stderr"};

void msh_stdio_close(int fd[3])
{
    for (int i = 0; i < 3; i++)
        msh_fd_close(&fd[i]);
}

static msh_code dial(const msh_agent *a, uint32_t port, int *fd, msh_err *err)
{
    char path[256];
    msh_time end = msh_now() + DIAL_WITHIN;
    msh_port_path(a, port, path, sizeof path);
    for (;;) {
        msh_code rc = msh_socket_connect(path, fd, err);
        if (rc != MSH_AGAIN || msh_now() > end)
            return rc;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL); /* the host's backlog is full */
    }
}

msh_code msh_stdio_dial(const msh_agent *a, const msh_stdio *io, int sock[3], msh_err *err)
{
    sock[0] = sock[1] = sock[2] = -1;
    for (int i = 0; i < 3; i++) {
        if (!io->want[i])
            continue;
        msh_code rc = dial(a, io->port[i], &sock[i], err);
        if (rc != MSH_OK) {
            msh_err_note(err, "%s", names[i]);
            msh_stdio_close(sock);
            if (err != NULL && err->hresult == 0)
                err->code = MSH_UNAVAILABLE; /* not to be taken for a missing program */
            return MSH_UNAVAILABLE;
        }
    }
    return MSH_OK;
}

msh_code msh_stdio_pipes(const bool want[3], int child[3], int mine[3], msh_err *err)
{
    for (int i = 0; i < 3; i++)
        child[i] = mine[i] = -1;
    for (int i = 0; i < 3; i++) {
        if (!want[i])
            continue;
        msh_code rc = i == 0 ? msh_fd_pipe(&child[i], &mine[i], err) : msh_fd_pipe(&mine[i], &child[i], err);
        if (rc != MSH_OK) {
            msh_stdio_close(child);
            msh_stdio_close(mine);
            return rc;
        }
    }
    return MSH_OK;
}

void msh_stdio_stream(msh_agent *a, uint64_t owner, const msh_stdio *io, int sock[3], int mine[3], bool init)
{
    for (int i = 0; i < 3; i++) {
        char path[256];
        msh_err err = {0};
        if (mine[i] < 0 || (i == 0 && sock[i] < 0)) {
            msh_fd_close(&mine[i]);
            msh_fd_close(&sock[i]);
            continue;
        }
        bool dialled = sock[i] >= 0;
        if (!dialled && (sock[i] = open("/dev/null", O_WRONLY | O_CLOEXEC)) < 0) {
            msh_fd_close(&mine[i]);
            continue;
        }
        msh_port_path(a, io->port[i], path, sizeof path);
        msh_stream s = {.owner = owner,
                        .from = i == 0 ? sock[i] : mine[i],
                        .to = i == 0 ? mine[i] : sock[i],
                        .input = i == 0,
                        .port = dialled ? path : NULL,
                        .words = a->resumes,
                        .init = init};
        if (msh_streams_add(a->streams, &s, &err) != MSH_OK)
            msh_warn("%s: %s", names[i], err.msg);
        sock[i] = mine[i] = -1;
    }
}
