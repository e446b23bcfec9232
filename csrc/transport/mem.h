/* transport/mem.h - two streams joined in memory, for tests and for peers inside one process.
 *
 * Layer      transport. What one end writes is delivered to the other from the loop, in order, whole or cut
 *            at MSH_STREAM_READ. No descriptors, no peer. */
#ifndef MSH_TRANSPORT_MEM_H
#define MSH_TRANSPORT_MEM_H
#include "transport/stream.h"

/* Gives both ends; each is closed on its own. */
msh_code msh_mem_pair(uv_loop_t *loop, msh_stream **a, msh_stream **b, msh_err *err);
#endif
