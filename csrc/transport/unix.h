/* transport/unix.h - streams over unix sockets.
 *
 * Layer      transport.
 * Ownership  see each function; what is closed on its own loop is freed when the loop has turned. */
#ifndef MSH_TRANSPORT_UNIX_H
#define MSH_TRANSPORT_UNIX_H
#include "transport/stream.h"

typedef struct msh_listener msh_listener;
typedef struct msh_connect msh_connect;

/* Takes `fd`, a connected unix stream socket, also when it fails. */
msh_code msh_unix_stream(uv_loop_t *loop, int fd, msh_stream **out, msh_err *err);

/* on_accept takes the stream. The socket file is born with `mode` (0600 is usual). already_exists when
 * something stands at the path. */
msh_code msh_unix_listen(uv_loop_t *loop, const char *path, unsigned mode,
                         void (*on_accept)(void *ctx, msh_stream *s), void *ctx, msh_listener **out,
                         msh_err *err);
/* Takes it (NULL is fine), stops listening and unlinks the file if it is still ours. */
void msh_listener_close(msh_listener *l);

/* `done` runs once from the loop and takes the stream, or gets the reason; it ends the request. A full
 * backlog is waited for until msh_connect_cancel; there is no other wait. */
msh_code msh_unix_connect(uv_loop_t *loop, const char *path,
                          void (*done)(void *ctx, msh_stream *s, const msh_err *err), void *ctx,
                          msh_connect **out, msh_err *err);
/* Before `done` alone: then it never runs. NULL is fine. */
void msh_connect_cancel(msh_connect *c);
#endif
