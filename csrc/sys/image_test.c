#include "sys/image.h"
#include "sys/sys_fixture.h"

typedef struct sample {
    const char *name;
    uint64_t at;
    const char *magic;
    size_t n;
    msh_image_format format;
} sample;

static void make(const char *path, uint64_t size, uint64_t at, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(pwrite(fd, p, n, (off_t)at), (ssize_t)n);
    close(fd);
}

static void formats_are_told_by_their_marks(void **state)
{
    (void)state;
    static const sample samples[] = {
        {"ext4", 0x438, "\x53\xef", 2, MSH_IMAGE_EXT4},
        {"erofs", 1024, "\xe2\xe1\xf5\xe0", 4, MSH_IMAGE_EROFS},
        {"squashfs", 0, "hsqs", 4, MSH_IMAGE_SQUASHFS},
        {"xfs", 0, "XFSB", 4, MSH_IMAGE_XFS},
        {"qcow2", 0, "QFI\xfb", 4, MSH_IMAGE_QCOW2},
        {"vhdx", 0, "vhdxfile", 8, MSH_IMAGE_VHDX},
        {"unknown", 0, "#!/bin/sh", 9, MSH_IMAGE_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        msh_image im;
        make(in_dir("image"), 65536, samples[i].at, samples[i].magic, samples[i].n);
        assert_int_equal(msh_image_detect(in_dir("image"), &im, NULL), MSH_OK);
        assert_int_equal(im.format, samples[i].format);
        assert_int_equal(im.inner, samples[i].format);
        assert_int_equal(im.size, 65536);
        assert_string_equal(msh_image_text(im.format), samples[i].name);
    }
}

static void footer(unsigned char f[512], unsigned type)
{
    memset(f, 0, 512);
    snprintf((char *)f, 512, "conectix");
    f[63] = (unsigned char)type;
    uint32_t sum = 0;
    for (int i = 0; i < 512; i++)
        sum += f[i];
    sum = ~sum;
    for (int i = 0; i < 4; i++)
        f[64 + i] = (unsigned char)(sum >> (24 - 8 * i));
}

static void a_fixed_vhd_is_its_disk_without_the_footer(void **state)
{
    (void)state;
    unsigned char f[512];
    msh_image im;
    footer(f, 2);
    make(in_dir("vhd"), 65536 + 512, 65536, f, sizeof f);
    int fd = open(in_dir("vhd"), O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "\x53\xef", 2, 0x438), 2);
    close(fd);
    assert_int_equal(msh_image_detect(in_dir("vhd"), &im, NULL), MSH_OK);
    assert_int_equal(im.format, MSH_IMAGE_VHD);
    assert_int_equal(im.inner, MSH_IMAGE_EXT4);
    assert_int_equal(im.size, 65536);
    footer(f, 3);
    make(in_dir("dynamic"), 65536, 65536 - 512, f, sizeof f);
    assert_int_equal(msh_image_detect(in_dir("dynamic"), &im, NULL), MSH_OK);
    assert_int_equal(im.format, MSH_IMAGE_VHDX); /* known, and of no use to a loop device */
    f[100] ^= 1;                                 /* a footer whose sum is wrong is none */
    make(in_dir("broken"), 65536, 65536 - 512, f, sizeof f);
    assert_int_equal(msh_image_detect(in_dir("broken"), &im, NULL), MSH_OK);
    assert_int_equal(im.format, MSH_IMAGE_UNKNOWN);
}

static void odd_files_are_answered_too(void **state)
{
    (void)state;
    msh_image im;
    put_file(in_dir("empty"), "");
    assert_int_equal(msh_image_detect(in_dir("empty"), &im, NULL), MSH_OK);
    assert_int_equal(im.format, MSH_IMAGE_UNKNOWN);
    assert_int_equal(im.size, 0);
    put_file(in_dir("short"), "hsq");
    assert_int_equal(msh_image_detect(in_dir("short"), &im, NULL), MSH_OK);
    assert_int_equal(im.format, MSH_IMAGE_UNKNOWN);
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    assert_int_equal(msh_image_detect(in_dir("fifo"), &im, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_image_detect(dir, &im, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_image_detect(in_dir("none"), &im, NULL), MSH_NOT_FOUND);
}

#define IN_A_FOLDER(f) cmocka_unit_test_setup_teardown(f, given_a_folder, after_a_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_FOLDER(formats_are_told_by_their_marks),
        IN_A_FOLDER(a_fixed_vhd_is_its_disk_without_the_footer),
        IN_A_FOLDER(odd_files_are_answered_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
