#include "agent/log.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void line(const char *level, const char *fmt, va_list ap)
{
    int saved = errno;
    char text[1024];
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(text + n, sizeof text - n, ".%03ldZ %s ", ts.tv_nsec / 1000000, level);
    int m = vsnprintf(text + n, sizeof text - n - 1, fmt, ap);
    size_t end = m < 0 ? n : n + (size_t)m;
    if (end > sizeof text - 2)
        end = sizeof text - 2;
    for (size_t i = n; i < end; i++)
        if ((unsigned char)text[i] < ' ')
            text[i] = ' ';
    text[end++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, text, end);
    (void)ignored; /* a full disk must not stop the agent */
    errno = saved;
}

void msh_info(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    line("info", fmt, ap);
    va_end(ap);
}

void msh_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    line("warn", fmt, ap);
    va_end(ap);
}
