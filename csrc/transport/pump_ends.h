/* transport/pump_ends.h - the two ends of a pump: what a descriptor is, and how to read and write it without waiting.
 *
 * Layer      transport, shared by the files of the pump.
 * Always     no flag of a descriptor is changed: what cannot be asked not to wait is used as far as poll promises. */
#ifndef MSH_TRANSPORT_PUMP_ENDS_H
#define MSH_TRANSPORT_PUMP_ENDS_H
#include "transport/pump.h"
#include <sys/types.h>

enum msh__end {
    PIPE,
    SOCKET,          /* its open file is shared with others: MSG_DONTWAIT and no splice */
    SOCKET_NONBLOCK, /* ours */
    TERMINAL,        /* an open file of our own, non-blocking: re-opened, or a master that we were given so */
    ODD,             /* a device we may only use as far as poll promises */
    FILE_,           /* regular file or disk: never says "not ready" */
    FILE_APPEND,     /* splice refuses it */
    MEMORY,          /* /dev/null and its like: never says "not ready" */
};

/* Says what `fd` is; a terminal is re-opened for us, in *own. */
msh_code msh__end_look(int fd, bool out, int *own, int *kind, msh_err *err);
bool msh__end_polls(int kind);
/* What poll says about it now. */
bool msh__end_ready(int fd, short events);
/* As read and write, but they never wait; EAGAIN instead. */
ssize_t msh__end_take(const msh_pump *p, char *to, size_t n);
ssize_t msh__end_give(const msh_pump *p, const char *from, size_t n);
/* What an errno of an end means for the pump. */
msh_pump_state msh__end_in_error(msh_pump *p, int e);
msh_pump_state msh__end_out_error(msh_pump *p, int e);
msh_pump_state msh__pump_failed(msh_pump *p, int e);
#endif
