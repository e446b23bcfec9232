#define MSH_ERR_C
#include "base/err.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *msh_code_text(msh_code code)
{
#define X(id, text) text,
    static const char *const texts[] = {MSH_CODES(X)};
#undef X
    return (unsigned)code < MSH_CODE_COUNT ? texts[code] : "unknown";
}

const char *msh_origin_text(msh_origin origin)
{
    switch (origin) {
    case MSH_HOST:
        return "host";
    case MSH_GUEST:
        return "guest";
    default:
        return "shim";
    }
}

/* What it quotes may come from an image or a script, and it may end on a terminal. */
static void one_line(char *s)
{
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = ' ';
}

static void fill(msh_err *e, msh_code code, const char *fmt, va_list ap)
{
    memset(e, 0, sizeof *e);
    e->code = code;
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    one_line(e->msg);
}

msh_code msh_fail(msh_err *e, msh_code code, const char *fmt, ...)
{
    if (e != NULL) {
        va_list ap;
        va_start(ap, fmt);
        fill(e, code, fmt, ap);
        va_end(ap);
    }
    return code;
}

msh_code msh_fail_errno(msh_err *e, int errnum, const char *fmt, ...)
{
    msh_code code = msh_code_of_errno(errnum);
    if (e != NULL) {
        va_list ap;
        va_start(ap, fmt);
        fill(e, code, fmt, ap);
        va_end(ap);
        size_t n = strlen(e->msg);
        char text[96];
        snprintf(e->msg + n, sizeof e->msg - n, ": %s", strerror_r(errnum, text, sizeof text));
    }
    return code;
}

void msh_err_note(msh_err *e, const char *fmt, ...)
{
    if (e == NULL)
        return;
    char old[sizeof e->msg];
    memcpy(old, e->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof e->msg)
        snprintf(e->msg + n, sizeof e->msg - (size_t)n, ": %s", old);
    one_line(e->msg);
}

void msh_err_from(msh_err *e, msh_origin origin, const char *op)
{
    if (e == NULL)
        return;
    e->origin = origin;
    snprintf(e->op, sizeof e->op, "%s", op);
}

msh_code msh_code_of_errno(int errnum)
{
    switch (errnum) {
    case 0:
        return MSH_OK;
    case ENOENT:
    case ENODEV:
    case ENXIO:
    case ESRCH:
        return MSH_NOT_FOUND;
    case EEXIST:
        return MSH_ALREADY_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return MSH_PERMISSION_DENIED;
    case ENOSPC:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EDQUOT:
        return MSH_RESOURCE_EXHAUSTED;
    case EINVAL:
    case ENAMETOOLONG:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
        return MSH_INVALID_ARGUMENT;
    case EBUSY:
    case ENOTEMPTY:
        return MSH_FAILED_PRECONDITION;
    case ETIMEDOUT:
        return MSH_DEADLINE_EXCEEDED;
    case ECANCELED:
        return MSH_CANCELLED;
    case ENOSYS:
    case EOPNOTSUPP:
        return MSH_UNIMPLEMENTED;
    case EAGAIN:
        return MSH_AGAIN;
    case EPIPE:
    case ECONNRESET:
    case ECONNREFUSED:
    case ENOTCONN:
        return MSH_UNAVAILABLE;
    default:
        return MSH_UNKNOWN;
    }
}
