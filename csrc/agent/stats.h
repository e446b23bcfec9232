/* agent/stats.h - what a cgroup has used: the LCOWMetrics object of GetProperties.
 *
 * Layer      agent; blocking only on the kernel.
 * Units      bytes and nanoseconds; v2 counts microseconds, which are converted.
 * Always     an absent controller gives an absent object, an absent counter an absent field. Zero is written: a
 *            container that used nothing and a counter that nobody keeps are different news.
 * See        agent/stats_test.c, over folders that look like v1 and v2 */
#ifndef MSH_AGENT_STATS_H
#define MSH_AGENT_STATS_H
#include "agent/cgfile.h"
#include <jansson.h>

/* Gives a new object (json_decref); an empty one when the cgroup is not there (any more). */
json_t *msh_stats(const msh_cg *cg);
#endif
