#include "sys/system.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

msh_code msh_boot_id(char out[MSH_BOOT_ID], msh_err *err)
{
    static const char path[] = "/proc/sys/kernel/random/boot_id";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return msh_fail_errno(err, errno, "open %s", path);
    char text[64];
    ssize_t n = read(fd, text, sizeof text);
    int e = errno;
    msh_fd_close(&fd);
    if (n < 0)
        return msh_fail_errno(err, e, "read %s", path);
    if (n < MSH_BOOT_ID - 1)
        return msh_fail(err, MSH_INTERNAL, "%s holds no boot id", path);
    memcpy(out, text, MSH_BOOT_ID - 1);
    out[MSH_BOOT_ID - 1] = '\0';
    return MSH_OK;
}

msh_code msh_random(void *p, size_t n, msh_err *err)
{
    char *at = p;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return msh_fail_errno(err, errno, "get random bytes");
        }
        at += got;
        n -= (size_t)got;
    }
    return MSH_OK;
}

msh_code msh_random_hex(char *out, size_t n, msh_err *err)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[256];
    if (n > sizeof raw)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "at most %zu random bytes at once", sizeof raw);
    msh_code rc = msh_random(raw, n, err);
    if (rc != MSH_OK)
        return rc;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[raw[i] >> 4];
        out[2 * i + 1] = digits[raw[i] & 15];
    }
    out[2 * n] = '\0';
    return MSH_OK;
}
