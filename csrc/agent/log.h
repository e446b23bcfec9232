/* agent/log.h - one text line per event on stderr, which the host keeps as the UVM's agent.log; the same, as JSON, to
 * whoever listens on the log port.
 *
 * Layer      agent. Any thread: a line is one write.
 * Never      environment, arguments or data of users; names, ids, codes and errors only.
 * Always     a host that does not read holds nothing up: what does not fit is dropped and counted, and the next record
 *            that fits says how many were. */
#ifndef MSH_AGENT_LOG_H
#define MSH_AGENT_LOG_H
#include <stdbool.h>

/* Sends records to the unix socket at `path` from now on, for the life of the process: one JSON object a line,
 * {"time":, "level":"info" or "warn", "msg":, "dropped": so many before it were lost, when there were}. False when nobody
 * listens there. Before other threads start; the second call replaces the first. */
bool msh_log_connect(const char *path);
void msh_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void msh_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#endif
