#include "base/log.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

const char *msh_level_text(msh_level level)
{
    static const char *const texts[] = {"debug", "info", "warning", "error"};
    return (unsigned)level < sizeof texts / sizeof texts[0] ? texts[level] : "unknown";
}

void msh_log_line(const msh_log *log, msh_level level, const char *area, const char *fmt, ...)
{
    if (log == NULL || log->write == NULL || level < log->least)
        return;
    int saved = errno;
    char line[MSH_LOG_LINE + 1];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    for (char *p = line; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    log->write(log->ctx, level, area, line);
    errno = saved;
}

void msh_log_to_stderr(void *ctx, msh_level level, const char *area, const char *line)
{
    (void)ctx;
    char text[MSH_LOG_LINE + 64];
    int n = snprintf(text, sizeof text, "%s %.32s: %s\n", msh_level_text(level), area, line);
    if (n <= 0)
        return;
    size_t len = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    ssize_t done = write(2, text, len); /* a log that cannot be written has nobody to tell */
    (void)done;
}
