#include "agent/console.h"
#include "agent/log.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

msh_code msh_console_listen(msh_console *c, const char *path, msh_err *err)
{
    *c = (msh_console){.listener = -1};
    snprintf(c->path, sizeof c->path, "%s", path);
    return msh_socket_listen(c->path, 0600, &c->listener, &c->id, err);
}

void msh_console_close(msh_console *c)
{
    if (c->listener < 0)
        return;
    msh_socket_unlink(c->path, &c->id);
    msh_fd_close(&c->listener);
}

msh_code msh_console_take(msh_console *c, int *master, msh_err *err)
{
    char name[256];
    size_t n = 0;
    int sock = -1, got = -1;
    msh_code rc = msh_socket_accept(c->listener, &sock, err);
    if (rc == MSH_OK)
        rc = msh_socket_recv(sock, name, sizeof name, &n, &got, err);
    msh_fd_close(&sock);
    if (rc != MSH_OK && rc != MSH_AGAIN)
        return rc;
    if (got < 0)
        return msh_fail(err, MSH_INTERNAL, "the runtime sent no terminal");
    if (!msh_terminal_is_master(got) || fcntl(got, F_SETFL, fcntl(got, F_GETFL) | O_NONBLOCK) != 0) {
        msh_fd_close(&got);
        return msh_fail(err, MSH_INTERNAL, "what the runtime sent is no terminal");
    }
    *master = got;
    return MSH_OK;
}

msh_code msh_console_give(int master, uid_t uid, msh_err *err)
{
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    msh_code rc = MSH_OK;
    if (slave < 0 || fchown(slave, uid, (gid_t)-1) != 0)
        rc = msh_fail_errno(err, errno, "give the terminal to user %u", (unsigned)uid);
    msh_fd_close(&slave);
    return rc;
}

msh_code msh_console_open(int *master, int *slave, msh_err *err)
{
    msh_code rc = msh_terminal_open(master, slave, err);
    if (rc == MSH_OK)
        fcntl(*master, F_SETFL, fcntl(*master, F_GETFL) | O_NONBLOCK);
    return rc;
}

msh_terminal_size msh_console_read_size(msh_reader *params)
{
    const json_t *list = msh_read_array(params, "ConsoleSize");
    const json_t *rows = json_array_get(list, 0), *columns = json_array_get(list, 1);
    json_int_t r = json_integer_value(rows), c = json_integer_value(columns);
    if (list == NULL)
        return (msh_terminal_size){0};
    if (json_array_size(list) != 2 || !json_is_integer(rows) || !json_is_integer(columns) || r < 0 ||
        r > UINT16_MAX || c < 0 || c > UINT16_MAX) {
        params->bad = params->bad != NULL ? params->bad : "ConsoleSize";
        return (msh_terminal_size){0};
    }
    return (msh_terminal_size){(uint16_t)r, (uint16_t)c};
}

void msh_console_stream(msh_agent *a, uint64_t owner, const msh_stdio *io, int sock[3], int master, bool init)
{
    msh_fd_close(&sock[2]);
    for (int i = 0; i < 2; i++) {
        char path[256];
        msh_err err = {0};
        int end = -1;
        if (sock[i] < 0)
            continue;
        msh_port_path(a, io->port[i], path, sizeof path);
        msh_code rc = msh_fd_dup(master, &end, &err);
        if (rc == MSH_OK) {
            msh_stream s = {.owner = owner,
                            .from = i == 0 ? sock[i] : end,
                            .to = i == 0 ? end : sock[i],
                            .input = i == 0,
                            .terminal = true,
                            .port = path,
                            .words = a->resumes,
                            .init = init};
            sock[i] = -1;
            rc = msh_streams_add(a->streams, &s, &err);
        }
        if (rc != MSH_OK)
            msh_warn("terminal: %s", err.msg);
        msh_fd_close(&sock[i]);
    }
}
