/* sys/image.h - what kind of disk image a file is. Reads a few blocks, changes nothing. */
#ifndef MSH_SYS_IMAGE_H
#define MSH_SYS_IMAGE_H
#include "base/err.h"

typedef enum msh_image_format {
    MSH_IMAGE_UNKNOWN,
    MSH_IMAGE_EXT4, /* ext2 to ext4 */
    MSH_IMAGE_EROFS,
    MSH_IMAGE_SQUASHFS,
    MSH_IMAGE_XFS,
    MSH_IMAGE_QCOW2,
    MSH_IMAGE_VHD,  /* fixed, with the footer at the end; `inner` tells what it holds */
    MSH_IMAGE_VHDX, /* and dynamic VHD: known, and unusable for a loop device */
} msh_image_format;

typedef struct msh_image {
    msh_image_format format;
    msh_image_format inner; /* of a VHD's content, else as `format` */
    uint64_t size;          /* bytes of the disk itself: a VHD's footer does not count */
} msh_image;

/* A folder is invalid_argument. Block devices are fine. */
msh_code msh_image_detect(const char *path, msh_image *out, msh_err *err);
const char *msh_image_text(msh_image_format format); /* "ext4", "vhd", ... "unknown" */
#endif
