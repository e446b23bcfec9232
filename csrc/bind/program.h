/* bind/program.h - a whole program of ours in one Lua state: what main() needs, without Lua in sight.
 *
 * Layer      bind.
 * Words      embedded = a file of our Lua inside the executable: a module ("moonshim.plan") as bytecode, or the text of
 *            a default policy under "text:" and its name. tree = the lua/ folder of a source tree. */
#ifndef MSH_BIND_PROGRAM_H
#define MSH_BIND_PROGRAM_H
#include <stddef.h>

typedef struct msh_embedded {
    const char *name;
    const unsigned char *data;
    size_t size;
} msh_embedded;

typedef struct msh_program {
    int argc;
    char **argv;
    const char *module;           /* its main(arg) returns the exit status */
    const char *tree;             /* NULL: what is embedded comes first; else the tree does */
    const msh_embedded *embedded; /* by name, as bytes */
    unsigned nembedded;
    int failed; /* exit status of our own failures */
} msh_program;

/* Runs it to its end and closes everything. Luv, cjson and moonshim.core need no file. Borrows `p`. */
int msh_program_run(const msh_program *p);
#endif
