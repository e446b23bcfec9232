/* agent/nic.h - one NIC: what the host said about it, and what is done to its link.
 *
 * Layer      agent; sys/netlink.h. find and place block: pool threads.
 * Always     place may be called again after a failure: what is done already is found so. */
#ifndef MSH_AGENT_NIC_H
#define MSH_AGENT_NIC_H
#include "agent/json.h"
#include "agent/reap.h"
#include "base/list.h"
#include "sys/netlink.h"

#define MSH_NIC_ID        64
#define MSH_NIC_ADDRESSES 32
#define MSH_NIC_ROUTES    256

typedef struct msh_nic {
    msh_node node;
    char id[MSH_NIC_ID]; /* lower case */
    char *search, *servers;
    msh_mac mac;
    bool has_mac, in_place, low_metric, policy_routing;
    unsigned overhead;
    unsigned mtu; /* of the link as it came; 0: not known yet */
    size_t n_addresses, n_routes;
    msh_ip *address;
    msh_route *route; /* without a link */
} msh_nic;

/* From the settings of a Network request; NULL with err. */
msh_nic *msh_nic_read(const json_t *settings, const char *id, msh_err *err);
/* NULL is fine. */
void msh_nic_free(msh_nic *nic);

/* Waits a few seconds until its link is there, and learns its address and size. Nothing to do for one that is in place. */
msh_code msh_nic_find(msh_nic *nic, msh_err *err);
/* Takes its link into `netns` (borrowed) and gives it its addresses and routes. */
msh_code msh_nic_place(const msh_nic *nic, int netns, msh_reap *reap, msh_err *err);
/* After a place that failed: brings its link back, down and as large as it came, if it is in `netns`. What that cannot is
 * logged. */
void msh_nic_return(const msh_nic *nic, int netns);
#endif
