/* sys/netlink.h - links, addresses and routes of one network namespace.
 *
 * Layer      sys; libnl-route. All calls block for one answer of the kernel.
 * Words      link = network interface; netns = descriptor of a network namespace.
 * Ownership  a msh_netlink belongs to one thread at a time; lists are given, free() ends them.
 * Always     1. a socket stays in the namespace in which it was opened, whoever uses it.
 *            2. making is exclusive: already_exists when the name is taken, and then nothing was made or changed.
 *            3. errors are the kernel's: not_found for a link that is gone, permission_denied, ...
 * See        csrc/sys/netlink_test.c */
#ifndef MSH_SYS_NETLINK_H
#define MSH_SYS_NETLINK_H
#include "base/err.h"
#include <stddef.h>

#define MSH_IFNAME 16 /* with its end */

typedef struct msh_netlink msh_netlink;

typedef struct msh_mac {
    uint8_t b[6];
} msh_mac;

/* An address or a prefix: family 4 or 6, 0 for none; prefix in bits. */
typedef struct msh_ip {
    int family;
    uint8_t b[16];
    unsigned prefix;
} msh_ip;

typedef struct msh_link {
    unsigned index, master, mtu; /* master: index of the bridge that it is a port of, or 0 */
    bool up, loopback;
    char name[MSH_IFNAME], kind[MSH_IFNAME]; /* kind: "veth", "bridge", ..., "" for hardware */
    msh_mac mac;                             /* all zero when there is none */
} msh_link;

typedef struct msh_address {
    unsigned index; /* of its link */
    msh_ip ip;
} msh_address;

typedef struct msh_route {
    unsigned index;  /* of the link; 0 when it has several */
    msh_ip to;       /* prefix 0: default */
    msh_ip via;      /* family 0: on the link */
    uint32_t metric; /* 0: the kernel's default */
    uint32_t table;  /* 0: main */
} msh_route;

/* "10.1.2.3", "10.1.0.0/16", "fd00::1/64"; without a length the prefix is the whole address. */
msh_code msh_ip_parse(const char *text, msh_ip *out, msh_err *err);
/* The address alone; `out` has 46 bytes. */
const char *msh_ip_text(const msh_ip *ip, char *out);
/* Six pairs of hex digits with ':' or '-' between them. */
msh_code msh_mac_parse(const char *text, msh_mac *out, msh_err *err);
/* "02:00:00:00:00:01"; `out` has 18 bytes. */
const char *msh_mac_text(const msh_mac *mac, char *out);

/* Gives a descriptor of the network namespace behind a path; invalid_argument when it is another kind of file. */
msh_code msh_netns_open(const char *path, int *fd, msh_err *err);
/* Likewise of a process, which must have that start time (0: whichever has the pid); gone when it ended. */
msh_code msh_netns_of(int pid, uint64_t start_time, int *fd, msh_err *err);

/* Opens a socket in `netns` (borrowed; -1: the caller's own). */
msh_code msh_netlink_open(int netns, msh_netlink **out, msh_err *err);
/* NULL is fine. */
void msh_netlink_close(msh_netlink *nl);

msh_code msh_netlink_links(msh_netlink *nl, msh_link **list, size_t *n, msh_err *err);
msh_code msh_netlink_addresses(msh_netlink *nl, msh_address **list, size_t *n, msh_err *err);
/* Of the main table; unicast only. */
msh_code msh_netlink_routes(msh_netlink *nl, msh_route **list, size_t *n, msh_err *err);
/* The link with this hardware address, of that kind unless `kind` is NULL; not_found. */
msh_code msh_netlink_by_mac(msh_netlink *nl, const msh_mac *mac, const char *kind, msh_link *out,
                            msh_err *err);
msh_code msh_netlink_by_name(msh_netlink *nl, const char *name, msh_link *out, msh_err *err);

msh_code msh_netlink_bridge_make(msh_netlink *nl, const char *name, const msh_mac *mac, msh_err *err);

typedef struct msh_veth {
    const char *name, *peer_name;
    msh_mac mac, peer_mac;
    unsigned master; /* index of a bridge, or 0; not_found when it went meanwhile */
    unsigned mtu;    /* of both ends; 0: the kernel's default */
    int peer_netns;  /* borrowed: the peer is born there; -1: here */
} msh_veth;
/* Both ends come into being at once, the first as a port of its bridge. */
msh_code msh_netlink_veth_make(msh_netlink *nl, const msh_veth *v, msh_err *err);

typedef struct msh_link_change {
    const char *name; /* NULL: as it is; "eth%d": the first that is free */
    int up;           /* 1 up, -1 down, 0 as it is */
    unsigned mtu;     /* 0: as it is */
    int netns; /* where it moves to, borrowed; -1: it stays. Moving takes it down and drops its addresses */
} msh_link_change;
#define MSH_LINK_AS_IT_IS ((msh_link_change){.netns = -1})
msh_code msh_netlink_change(msh_netlink *nl, unsigned index, const msh_link_change *c, msh_err *err);
/* gone when there is no such link. The other end of a pair goes with it. */
msh_code msh_netlink_delete(msh_netlink *nl, unsigned index, msh_err *err);

/* already_exists when the link has it. IPv6 addresses are used at once, without a search for a double. */
msh_code msh_netlink_address_add(msh_netlink *nl, unsigned index, const msh_ip *ip, msh_err *err);
/* unavailable when the gateway cannot be reached through the link's own addresses; already_exists. */
msh_code msh_netlink_route_add(msh_netlink *nl, const msh_route *r, msh_err *err);
/* Packets from this address look into `table` first; already_exists. */
msh_code msh_netlink_rule_add(msh_netlink *nl, const msh_ip *from, uint32_t table, uint32_t priority,
                              msh_err *err);
#endif
