/* agent/effects.h - carries out what spec.h decided. Blocks: pool threads. */
#ifndef MSH_AGENT_EFFECTS_H
#define MSH_AGENT_EFFECTS_H
#include "agent/spec.h"

/* In order, up to the first failure. `root` is the sandbox's folder: no effect leaves it, and no link is followed. */
msh_code msh_effects_do(const msh_effects *e, const char *root, msh_err *err);
#endif
