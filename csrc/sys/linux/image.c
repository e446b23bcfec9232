#include "sys/image.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD = 2048, FOOT = 512 };

static uint32_t le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t be32(const unsigned char *p)
{
    return (uint32_t)p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24;
}

static msh_image_format content_of(const unsigned char *head, size_t n)
{
    if (n >= 4 && memcmp(head, "hsqs", 4) == 0)
        return MSH_IMAGE_SQUASHFS;
    if (n >= 4 && memcmp(head, "XFSB", 4) == 0)
        return MSH_IMAGE_XFS;
    if (n >= 4 && memcmp(head, "QFI\xfb", 4) == 0)
        return MSH_IMAGE_QCOW2;
    if (n >= 8 && memcmp(head, "vhdxfile", 8) == 0)
        return MSH_IMAGE_VHDX;
    if (n >= 1024 + 4 && le32(head + 1024) == 0xe0f5e1e2u)
        return MSH_IMAGE_EROFS;
    if (n >= 1024 + 58 && head[1024 + 56] == 0x53 && head[1024 + 57] == 0xef)
        return MSH_IMAGE_EXT4;
    return MSH_IMAGE_UNKNOWN;
}

/* The footer of a virtual hard disk: its sum leaves out its own four bytes. */
static bool is_footer(const unsigned char *f)
{
    if (memcmp(f, "conectix", 8) != 0)
        return false;
    uint32_t sum = 0;
    for (int i = 0; i < FOOT; i++)
        if (i < 64 || i > 67)
            sum += f[i];
    return ~sum == be32(f + 64);
}

static bool read_at(int fd, void *p, size_t want, uint64_t at, size_t *got)
{
    *got = 0;
    while (*got < want) {
        ssize_t n = pread(fd, (char *)p + *got, want - *got, (off_t)(at + *got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return true;
}

static msh_code look(int fd, const char *path, msh_image *out, msh_err *err)
{
    struct stat st;
    uint64_t size = 0;
    if (fstat(fd, &st) != 0)
        return msh_fail_errno(err, errno, "look at %s", path);
    if (S_ISREG(st.st_mode))
        size = (uint64_t)st.st_size;
    else if (!S_ISBLK(st.st_mode))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%s is no disk image", path);
    else if (ioctl(fd, BLKGETSIZE64, &size) != 0)
        return msh_fail_errno(err, errno, "ask the size of %s", path);

    unsigned char head[HEAD], foot[FOOT];
    size_t n = 0, m = 0;
    if (!read_at(fd, head, sizeof head, 0, &n) ||
        (size >= FOOT && !read_at(fd, foot, sizeof foot, size - FOOT, &m)))
        return msh_fail_errno(err, errno, "read %s", path);
    msh_image im = {.size = size};
    im.format = im.inner = content_of(head, n);
    if (m == FOOT && is_footer(foot)) {
        if (be32(foot + 60) == 2) { /* fixed: the disk, then the footer */
            im.format = MSH_IMAGE_VHD;
            im.size = size - FOOT;
        } else {
            im.format = im.inner = MSH_IMAGE_VHDX;
        }
    }
    *out = im;
    return MSH_OK;
}

msh_code msh_image_detect(const char *path, msh_image *out, msh_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo must not hold us up */
    if (fd < 0)
        return msh_fail_errno(err, errno, "open %s", path);
    msh_code rc = look(fd, path, out, err);
    msh_fd_close(&fd);
    return rc;
}

const char *msh_image_text(msh_image_format format)
{
    static const char *const texts[] = {"unknown", "ext4",  "erofs", "squashfs",
                                        "xfs",     "qcow2", "vhd",   "vhdx"};
    return (unsigned)format < sizeof texts / sizeof texts[0] ? texts[format] : "unknown";
}
