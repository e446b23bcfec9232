/* agent/network.h - the NICs that the host announced, by namespace, and their way into the pod's network.
 *
 * Layer      agent; sys/netlink.h. Records belong to the loop's thread, except that a task with a record's key may read it.
 * Words      record = a namespace of the host, by its id: NICs, and the network of a container once there is one.
 *            in place = the link is in its namespace and set up already (a namespace that was made by somebody else): the
 *            agent only takes its names and addresses.
 * Always     1. all requests about one namespace, and the Create of its container, run one after the other.
 *            2. a link is found by the bus that it came by, or by its hardware address; nothing but what the host announced
 *               is touched.
 *            3. removing forgets; the link itself goes with its namespace or by the host's hand. */
#ifndef MSH_AGENT_NETWORK_H
#define MSH_AGENT_NETWORK_H
#include "agent/agent.h"

typedef struct msh_network msh_network;

void msh_network_add(msh_request *r, const json_t *settings);
void msh_network_remove(msh_request *r, const json_t *settings);

/* The record that `spec` names (windows.network.networkNamespace), held for a container: *out, or NULL when it names none.
 * not_found when a sandbox names one that is unknown, unless it says that it can do without. */
msh_code msh_network_of(msh_agent *a, const json_t *spec, bool sandbox, msh_network **out, msh_err *err);
/* The container has gone, and its network with it. NULL is fine. */
void msh_network_leave(msh_network *n);
/* Key of the tasks that use a record; none for NULL. */
msh_key msh_network_key(const msh_network *n);

/* What the files of /etc say. Pool thread. */
typedef struct msh_network_names {
    char *resolv;     /* text of resolv.conf; free() */
    char address[46]; /* of the pod, "" when it has none */
} msh_network_names;
msh_code msh_network_read(const msh_network *n, msh_network_names *out, msh_err *err);

/* Moves all NICs into the network of a process (0: the UVM's own) and sets them up. Pool thread. NULL is fine. */
msh_code msh_network_enter(msh_network *n, pid_t pid, msh_err *err);
#endif
