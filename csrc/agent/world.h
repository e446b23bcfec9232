/* agent/world.h - the look-ups of spec.h in this UVM. Blocks: pool threads. */
#ifndef MSH_AGENT_WORLD_H
#define MSH_AGENT_WORLD_H
#include "agent/spec.h"

/* `hostname` has 256 bytes and must live as long as *out. */
void msh_world_open(msh_spec_world *out, char *hostname);
#endif
