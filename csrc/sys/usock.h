/* sys/usock.h - unix sockets by path, of any length.
 *
 * Layer      sys.
 * Always     the 108-byte limit of socket addresses does not reach the caller: a longer path goes through its
 *            folder's descriptor. */
#ifndef MSH_SYS_USOCK_H
#define MSH_SYS_USOCK_H
#include "base/buf.h"
#include "base/err.h"
#include <sys/types.h>

/* Which socket file is ours: a path may be taken over by another. */
typedef struct msh_socket_id {
    uint64_t dev, ino;
} msh_socket_id;

typedef struct msh_peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
} msh_peer;

/* Gives a listening, non-blocking socket whose file is born with `mode`. already_exists when something stands
 * at the path. */
msh_code msh_socket_listen(const char *path, unsigned mode, int *fd, msh_socket_id *id, msh_err *err);
/* Unlinks `path` if it is still the socket `id`. */
void msh_socket_unlink(const char *path, const msh_socket_id *id);
/* Gives a connected, non-blocking socket. again = the listener's backlog is full; not_found = no file;
 * unavailable = nobody listens. */
msh_code msh_socket_connect(const char *path, int *fd, msh_err *err);
/* Next waiting connection, non-blocking; again when there is none. */
msh_code msh_socket_accept(int listener, int *fd, msh_err *err);
msh_code msh_socket_peer(int fd, msh_peer *out, msh_err *err);

/* One sendmsg with an optional descriptor (pass -1 for none; borrowed). *sent tells how much of `data` left,
 * and the descriptor left with the first byte. again = nothing could be sent now. Never raises SIGPIPE. */
msh_code msh_socket_send(int fd, msh_slice data, int pass, size_t *sent, msh_err *err);
/* One recvmsg. got 0 = end. With pass == NULL the kernel is given no room for descriptors, so a peer cannot
 * fill our table; otherwise *pass is a given descriptor or -1, and any beyond one are closed. */
msh_code msh_socket_recv(int fd, void *p, size_t n, size_t *got, int *pass, msh_err *err);
#endif
