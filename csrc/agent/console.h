/* agent/console.h - the terminal of a process, from where it comes from to its streams.
 *
 * Layer      agent.
 * Words      master = our end of a pseudo terminal; the process has the other. It is non-blocking, which concerns nobody
 *            else: its open file is ours alone.
 * Rules      Typed bytes go from the stdin socket into the master, everything printed from the master to the stdout socket;
 *            a stderr socket is dialled, as the host asks for it, and ends at once. The end of stdin reaches nobody: a
 *            terminal has no such thing. Without stdout nobody reads the master, and the process waits when it is full.
 *            After the exit of its process a master stays open for as long as the host reads what was printed; then it
 *            closes, which hangs up on those that are left on the terminal.
 * See        csrc/agent/console_test.c */
#ifndef MSH_AGENT_CONSOLE_H
#define MSH_AGENT_CONSOLE_H
#include "agent/json.h"
#include "agent/stdio.h"
#include "sys/terminal.h"
#include "sys/usock.h"

/* The socket over which a runtime sends the master of the terminal that it made. */
typedef struct msh_console {
    char path[128];
    int listener;
    msh_socket_id id;
} msh_console;

msh_code msh_console_listen(msh_console *c, const char *path, msh_err *err);
/* Gives the master. The runtime has ended by now, so that nothing is waited for. */
msh_code msh_console_take(msh_console *c, int *master, msh_err *err);
/* Also what nobody has taken; the path goes, too. Idempotent. */
void msh_console_close(msh_console *c);

/* Makes `uid` the owner of the other end, as programs expect of their terminal. */
msh_code msh_console_give(int master, uid_t uid, msh_err *err);

/* A terminal of the UVM itself: the master, and the end for the process. */
msh_code msh_console_open(int *master, int *slave, msh_err *err);

/* "ConsoleSize": [rows, columns] of the process parameters; 0 by 0 when nothing is said. A wrong one is the reader's `bad`. */
msh_terminal_size msh_console_read_size(msh_reader *params);

/* Takes the sockets; `master` stays the caller's. `init` as in msh_stdio_stream. */
void msh_console_stream(msh_agent *a, uint64_t owner, const msh_stdio *io, int sock[3], int master,
                        bool init);
#endif
