/* agent/bridge.h - the connection to the host: dialled, lost and dialled again for as long as the agent lives.
 *
 * Layer      agent.
 * Always     1. frames leave in the order in which they were given, whole, many in one write.
 *            2. a new connection starts un-negotiated, with the queued notifications first.
 *            3. a response without a connection is dropped; so is a connection whose host does not read. */
#ifndef MSH_AGENT_BRIDGE_H
#define MSH_AGENT_BRIDGE_H
#include "agent/agent.h"

msh_code msh_bridge_open(msh_agent *a, msh_bridge **out, msh_err *err);
/* Counts connections: the number of the present one, or of the last while there is none. */
uint64_t msh_bridge_connection(const msh_bridge *b);
/* All take `body`. */
void msh_bridge_respond(msh_bridge *b, uint32_t request_type, uint64_t id, json_t *body);
void msh_bridge_notify(msh_bridge *b, json_t *body);
/* The same for a notification of another type: an extension. */
void msh_bridge_tell(msh_bridge *b, uint32_t type, json_t *body);
#endif
