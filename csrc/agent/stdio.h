/* agent/stdio.h - the sockets and pipes of a process's three streams. */
#ifndef MSH_AGENT_STDIO_H
#define MSH_AGENT_STDIO_H
#include "agent/agent.h"

typedef struct msh_stdio {
    bool want[3];
    uint32_t port[3];
} msh_stdio;

/* Connects what is wanted, strictly in the order stdin, stdout, stderr; all or none. -1 for the others. Blocks. */
msh_code msh_stdio_dial(const msh_agent *a, const msh_stdio *io, int sock[3], msh_err *err);
/* Pipes for the wanted streams: `child` is for the process, `mine` the other end; -1 for the others. */
msh_code msh_stdio_pipes(const bool want[3], int child[3], int mine[3], msh_err *err);
void msh_stdio_close(int fd[3]);
/* Hands sockets and pipe ends (both taken) to the data thread. An output without a socket is read and dropped, an input
 * without one ends at once. `init`: outputs survive the loss of any host (streams.h). */
void msh_stdio_stream(msh_agent *a, uint64_t owner, const msh_stdio *io, int sock[3], int mine[3], bool init);
#endif
