/* sys/loop.h - loop devices that leave no trace when their owner dies.
 *
 * Layer      sys. Everything here may block, so it belongs on the pool.
 * Words      tag = our name of the attachment, carried by the device itself (lo_file_name).
 *            identity = index + tag + device and inode number of the file behind it.
 * Ownership  msh_loop_attach gives a descriptor of the device. The device has autoclear set: it is cleared
 *            when its last opener (this descriptor, a mount) goes, so the descriptor is kept until
 *            msh_loop_detach.
 * Always     1. msh_loop_detach never touches a device of another identity: it answers gone.
 *            2. a device is numbered by the kernel's free list; a lost race is tried again, boundedly. */
#ifndef MSH_SYS_LOOP_H
#define MSH_SYS_LOOP_H
#include "base/err.h"
#include <stdbool.h>

#define MSH_LOOP_TAG 64 /* bytes with the end */

typedef struct msh_loop_want {
    const char *path; /* regular file or block device */
    bool read_only;
    uint64_t size;   /* bytes shown, from the start of the file; 0 = all of it (fixed VHD: length - 512) */
    const char *tag; /* 1 to 63 bytes */
} msh_loop_want;

typedef struct msh_loop {
    uint32_t index; /* /dev/loop<index> */
    uint32_t major, minor;
    uint64_t dev, ino; /* of the file behind it */
    char tag[MSH_LOOP_TAG];
} msh_loop;

/* Gives *fd (see Ownership) and the identity. resource_exhausted when there is no free device. */
msh_code msh_loop_attach(const msh_loop_want *want, msh_loop *out, int *fd, msh_err *err);
/* Takes *fd (-1 in a process that did not attach: crash clean-up), also on failure. ok = cleared; gone = no
 * device or another file behind it; failed_precondition = still open elsewhere (mounted): it clears itself
 * with its last user, and a later call answers gone. */
msh_code msh_loop_detach(const msh_loop *l, int *fd, msh_err *err);
/* ok = it is there, gone = it is not, else why that cannot be told. Changes nothing. */
msh_code msh_loop_verify(const msh_loop *l, msh_err *err);
#endif
