/* base/log.h - one log line, to whoever was given as the sink. There is no global log: it is an argument.
 *
 * Layer      base.
 * Ownership  the sink borrows `line` for the call. A NULL log, or one without a sink, takes everything silently.
 * Always     a line has no control characters and at most MSH_LOG_LINE bytes; errno survives a call. */
#ifndef MSH_BASE_LOG_H
#define MSH_BASE_LOG_H

#define MSH_LOG_LINE 1000

typedef enum msh_level { MSH_DEBUG, MSH_INFO, MSH_WARNING, MSH_ERROR } msh_level;

typedef struct msh_log {
    void (*write)(void *ctx, msh_level level, const char *area, const char *line);
    void *ctx;
    msh_level least; /* lines below are not even formatted */
} msh_log;

/* `area`: which part speaks, such as "bridge". */
void msh_log_line(const msh_log *log, msh_level level, const char *area, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* A sink for programs: "<level> <area>: <line>" and a newline to file descriptor 2, in one write. */
void msh_log_to_stderr(void *ctx, msh_level level, const char *area, const char *line);
const char *msh_level_text(msh_level level);
#endif
