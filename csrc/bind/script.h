/* bind/script.h - an operator's script in a Lua state of its own.
 *
 * Layer      bind. The engine's state and the script's never share a value: plain data is copied (bind/copy.h).
 * Words      prelude = trusted Lua run first in the script's state; it gets the verbs and builds the API that the
 *            script sees. call = one run of a function of that state, on a coroutine of its own, with a budget.
 *            request = what a call wants from the engine: the call is suspended until it is answered.
 *
 *   call --"return"--> done      call --"yield"--> waiting --resume--> ...      call --nil, err--> done
 *
 * Always     1. nothing that a script does crashes, blocks or exits the engine: memory is bounded by the allocator,
 *               time by instructions and by processor time; both budgets are per call, and once used up they keep
 *               raising, so that no pcall, coroutine, error handler or __close gets past them.
 *            2. calls of C functions that could run for ever without an instruction are refused beforehand (patterns,
 *               string.rep, table.move; __gc, which runs without hooks, cannot be set).
 *            3. only text is loaded. No io, os, debug, package, load, print, collectgarbage.
 *            4. a failure names file and line; it ends its call, and the state goes on.
 * See        csrc/bind/sandbox.c, spec/unit/bind/script_spec.lua */
#ifndef MSH_BIND_SCRIPT_H
#define MSH_BIND_SCRIPT_H
#include "bind/call.h"

#define MSH_SCRIPT_MEMORY       (64u << 20)
#define MSH_SCRIPT_INSTRUCTIONS 10000000
#define MSH_SCRIPT_CPU_MS       2000
#define MSH_SCRIPT_CALLS        64    /* calls of one script that may wait at once */
#define MSH_SCRIPT_FUNCTIONS    10000 /* functions of one script that the engine may know at once */
#define MSH_SCRIPT_VALUES       32    /* arguments and results of one call */

/* Registers the class and pushes the function core.script. [-0, +1, m] */
void msh_l_open_script(lua_State *L);
#endif
