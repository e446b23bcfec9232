/* agent/log.h - one text line per event on stderr, which the host keeps as the UVM's agent.log.
 *
 * Layer      agent. Any thread: a line is one write.
 * Never      environment, arguments or data of users; names, ids, codes and errors only. */
#ifndef MSH_AGENT_LOG_H
#define MSH_AGENT_LOG_H

void msh_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void msh_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#endif
