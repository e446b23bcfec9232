#include "sys/loop.h"
#include "base/time.h"
#include "sys/fd.h"
#include "sys/image.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

_Static_assert(MSH_LOOP_TAG <= LO_NAME_SIZE, "a tag fits into the device's name");

enum {
    RACES = 256, /* others may take the free device we were told of */
    LOOKS = 20,  /* after a detach: a prober of the system may hold the device for a moment */
};

static void pause_ms(long ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * (long)MSH_MS};
    nanosleep(&ts, NULL);
}

static void device_path(char *out, size_t n, uint32_t index)
{
    snprintf(out, n, "/dev/loop%u", index);
}

/* errno of the last try; the device in *dev on 0. */
static int configure(int control, const struct loop_config *config, bool read_only, uint32_t *index, int *dev)
{
    int e = EBUSY;
    for (int tries = 0; tries < RACES; tries++) {
        if (tries >= 8)
            pause_ms(1);
        int i = ioctl(control, LOOP_CTL_GET_FREE);
        if (i < 0)
            return errno;
        char path[32];
        device_path(path, sizeof path, (uint32_t)i);
        int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
        if (fd < 0) {
            e = errno;
        } else if (ioctl(fd, LOOP_CONFIGURE, config) != 0) {
            e = errno;
            msh_fd_close(&fd);
        } else {
            *index = (uint32_t)i;
            *dev = fd;
            return 0;
        }
        /* EBUSY: taken meanwhile. ENXIO, ENOENT: being removed, or its node is still to come. */
        if (e != EBUSY && e != ENXIO && e != ENOENT && e != EAGAIN)
            return e;
    }
    return e;
}

msh_code msh_loop_attach(const msh_loop_want *want, msh_loop *out, int *fd, msh_err *err)
{
    int file = -1, control = -1, dev = -1;
    msh_code rc = MSH_OK;
    size_t tag = want->tag != NULL ? strlen(want->tag) : 0;
    if (tag == 0 || tag >= MSH_LOOP_TAG)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "attach %s: tag of %zu bytes", want->path, tag);
    uint64_t size = want->size;
    if (size == 0) {
        msh_image im;
        rc = msh_image_detect(want->path, &im, err);
        if (rc != MSH_OK)
            return rc;
        if (im.format == MSH_IMAGE_VHD)
            size = im.size;
    }
    struct stat st, node;
    file = open(want->path, (want->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 || fstat(file, &st) != 0) {
        rc = msh_fail_errno(err, errno, "open %s", want->path);
        goto out;
    }
    control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) {
        rc = msh_fail_errno(err, errno, "open /dev/loop-control");
        goto out;
    }
    struct loop_config config = {.fd = (uint32_t)file};
    config.info.lo_sizelimit = size;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (want->read_only ? LO_FLAGS_READ_ONLY : 0);
    memcpy(config.info.lo_file_name, want->tag, tag);
    uint32_t index = 0;
    int e = configure(control, &config, want->read_only, &index, &dev);
    if (e != 0) {
        rc = e == EBUSY ? msh_fail(err, MSH_RESOURCE_EXHAUSTED, "attach %s: no free loop device", want->path)
                        : msh_fail_errno(err, e, "attach %s to a loop device", want->path);
        goto out;
    }
    if (fstat(dev, &node) != 0) {
        rc = msh_fail_errno(err, errno, "look at loop device %u", index);
        goto out;
    }
    *out = (msh_loop){.index = index,
                      .major = major(node.st_rdev),
                      .minor = minor(node.st_rdev),
                      .dev = st.st_dev,
                      .ino = st.st_ino};
    memcpy(out->tag, want->tag, tag);
    *fd = dev;
    dev = -1;
out:
    msh_fd_close(&dev); /* autoclear: this also gives the device back */
    msh_fd_close(&control);
    msh_fd_close(&file);
    return rc;
}

/* ok and the open device in *dev, gone, or why not. */
static msh_code open_same(const msh_loop *l, int *dev, msh_err *err)
{
    char path[32];
    device_path(path, sizeof path, l->index);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT || errno == ENXIO || errno == ENODEV)
            return msh_fail(err, MSH_GONE, "%s is gone", path);
        return msh_fail_errno(err, errno, "open %s", path);
    }
    msh_code rc = MSH_OK;
    struct loop_info64 info;
    if (ioctl(fd, LOOP_GET_STATUS64, &info) != 0)
        rc = errno == ENXIO ? msh_fail(err, MSH_GONE, "%s has no file", path)
                            : msh_fail_errno(err, errno, "ask about %s", path);
    else if (info.lo_device != l->dev || info.lo_inode != l->ino ||
             strncmp((const char *)info.lo_file_name, l->tag, LO_NAME_SIZE - 1) != 0)
        rc = msh_fail(err, MSH_GONE, "%s belongs to another file", path);
    if (rc != MSH_OK)
        msh_fd_close(&fd);
    else
        *dev = fd;
    return rc;
}

msh_code msh_loop_verify(const msh_loop *l, msh_err *err)
{
    int dev = -1;
    msh_code rc = open_same(l, &dev, err);
    msh_fd_close(&dev);
    return rc;
}

msh_code msh_loop_detach(const msh_loop *l, int *fd, msh_err *err)
{
    int dev = -1;
    msh_code rc = open_same(l, &dev, err);
    msh_fd_close(fd); /* after the look: while we hold it open, nobody else can get this device */
    if (rc != MSH_OK)
        return rc;
    /* What was written to the device itself is still in its cache, since we held it open; once it is cleared, writing
     * back fails in silence. */
    if (fsync(dev) != 0) {
        rc = msh_fail_errno(err, errno, "write what is left of loop device %u", l->index);
        msh_fd_close(&dev);
        return rc;
    }
    int e = ioctl(dev, LOOP_CLR_FD, 0) == 0 ? 0 : errno;
    msh_fd_close(&dev);
    if (e != 0 && e != ENXIO)
        return msh_fail_errno(err, e, "detach loop device %u", l->index);
    for (int look = 0; look < LOOKS; look++) {
        if (look > 0)
            pause_ms(10);
        rc = msh_loop_verify(l, err);
        if (rc == MSH_GONE)
            return MSH_OK;
        if (rc != MSH_OK)
            return rc;
    }
    return msh_fail(err, MSH_FAILED_PRECONDITION, "loop device %u is still in use", l->index);
}
