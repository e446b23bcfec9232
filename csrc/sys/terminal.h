/* sys/terminal.h - the user's terminal: its size, its raw mode, and its modes given back whatever happens; and pseudo
 * terminals of our own.
 *
 * Layer      sys.
 * Words      raw = every byte goes through as it is typed and printed; Ctrl-C is a byte, not a signal.
 *            master, slave = the two sides of a pseudo terminal; a program runs on the slave.
 * Ownership  msh_terminal_raw keeps a duplicate of the descriptor until the modes are restored. No flag of a descriptor is
 *            ever changed.
 * Always     1. one terminal at a time is raw, since a signal handler has no other place to look for it than one of the
 *               process. This is the only state in this folder that belongs to nobody else.
 *            2. its modes are exactly as before after msh_terminal_restore, after exit(), and when a signal ends the
 *               process that nobody handles (SIGSEGV, SIGABRT, SIGQUIT, ...). Only SIGKILL leaves a raw terminal.
 *            3. a child of fork does not touch it.
 * See        csrc/sys/terminal_test.c */
#ifndef MSH_SYS_TERMINAL_H
#define MSH_SYS_TERMINAL_H
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct msh_terminal_size {
    uint16_t rows, columns; /* 0 by 0: nobody has told it its size */
} msh_terminal_size;

bool msh_terminal_is(int fd);
/* True for the master of a pseudo terminal, whatever file system it came from. */
bool msh_terminal_is_master(int fd);
/* failed_precondition: no terminal. */
msh_code msh_terminal_get_size(int fd, msh_terminal_size *out, msh_err *err);
/* Either side of a pseudo terminal. The programs on it get SIGWINCH when the size is a new one. */
msh_code msh_terminal_set_size(int fd, msh_terminal_size size, msh_err *err);

/* Remembers the modes of `fd` and makes it raw. Again for the same terminal: raw again, what is remembered stays; so it goes
 * on after the process was stopped and the shell has used the terminal. In the background the process is stopped, as any
 * that asks for this, until it is in the foreground. */
msh_code msh_terminal_raw(int fd, msh_err *err);
/* Gives the modes back; nothing to do when nothing is raw. Safe in a signal handler, never waits. */
void msh_terminal_restore(void);

/* Gives both sides of a new pseudo terminal, blocking; neither becomes our controlling terminal. */
msh_code msh_terminal_open(int *master, int *slave, msh_err *err);
#endif
