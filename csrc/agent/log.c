#include "agent/log.h"
#include "sys/fd.h"
#include "sys/usock.h"
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Escapes make a text longer; what is longer still is no message of ours. */
enum { TEXT = 1024, RECORD = 8192 };

static int host = -1;
static _Atomic unsigned dropped;

bool msh_log_connect(const char *path)
{
    int fd = -1;
    if (msh_socket_connect(path, &fd, NULL) != MSH_OK)
        return false;
    msh_fd_close(&host);
    host = fd;
    return true;
}

static void tell_host(const char *time, const char *level, char *msg)
{
    char record[RECORD];
    json_t *text = json_string(msg);
    if (text == NULL) { /* a name of the user's in another encoding, or cut in the middle of a letter */
        for (char *c = msg; *c != '\0'; c++)
            if ((unsigned char)*c >= 0x80)
                *c = '?';
        text = json_string(msg);
    }
    unsigned lost = atomic_exchange(&dropped, 0);
    json_t *o = json_pack("{s:s,s:s,s:o}", "time", time, "level", level, "msg", text);
    if (lost > 0)
        json_object_set_new(o, "dropped", json_integer(lost));
    size_t n = o == NULL ? 0 : json_dumpb(o, record, sizeof record - 1, JSON_COMPACT);
    json_decref(o);
    bool sent = false;
    if (n > 0 && n < sizeof record) {
        record[n++] = '\n';
        /* A record is far smaller than what a unix socket takes in one piece: all of it goes, or nothing. */
        sent = send(host, record, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
    }
    if (!sent)
        atomic_fetch_add(&dropped, lost + 1);
}

static void line(const char *level, const char *fmt, va_list ap)
{
    int saved = errno;
    char text[TEXT], time[32];
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(time + n, sizeof time - n, ".%03dZ", (int)(ts.tv_nsec / 1000000));
    n = (size_t)snprintf(text, sizeof text, "%s %s ", time, level);
    int m = vsnprintf(text + n, sizeof text - n - 1, fmt, ap);
    size_t end = m < 0 ? n : n + (size_t)m;
    if (end > sizeof text - 2)
        end = sizeof text - 2;
    for (size_t i = n; i < end; i++)
        if ((unsigned char)text[i] < ' ')
            text[i] = ' ';
    text[end] = '\n';
    ssize_t ignored = write(STDERR_FILENO, text, end + 1);
    (void)ignored; /* a full disk must not stop the agent */
    text[end] = '\0';
    if (host >= 0)
        tell_host(time, level, text + n);
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
