/* sys/linux/netlink_socket.h - shared by netlink.c and netlink_read.c. */
#ifndef MSH_SYS_NETLINK_SOCKET_H
#define MSH_SYS_NETLINK_SOCKET_H
#include "sys/netlink.h"
#include <netlink/netlink.h>

struct msh_netlink {
    struct nl_sock *sock;
    int error; /* errno of the kernel's refusal: the library's own numbers say less; 0: it said nothing */
};

/* The socket for one exchange, before which no refusal is known. */
static inline struct nl_sock *msh__nl_ask(msh_netlink *nl)
{
    nl->error = 0;
    return nl->sock;
}

/* From the library's negative number, or better from the kernel's. Returns the code. */
msh_code msh__nl_fail(msh_netlink *nl, int rc, msh_err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
#endif
