#include "sys/sys_fixture.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/sysmacros.h>

static void folders_are_made_as_far_as_missing(void **state)
{
    (void)state;
    msh_err err;
    assert_int_equal(msh_mkdir_p(in_dir("a//b/c/"), 0755, NULL), MSH_OK);
    assert_int_equal(msh_mkdir_p(in_dir("a/b/c"), 0755, NULL), MSH_OK);
    put_file(in_dir("a/file"), "x");
    assert_int_equal(msh_mkdir_p(in_dir("a/file"), 0755, &err), MSH_ALREADY_EXISTS);
    assert_int_equal(msh_mkdir_p(in_dir("a/file/below"), 0755, NULL), MSH_ALREADY_EXISTS);
    assert_int_equal(msh_mkdir_p("", 0755, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_mkdir_p("/", 0755, NULL), MSH_OK);
}

static void a_sparse_file_takes_no_room_and_replaces_none(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(msh_make_sparse(in_dir("disk"), UINT64_C(1) << 34, NULL), MSH_OK);
    assert_int_equal(stat(in_dir("disk"), &st), 0);
    assert_true(st.st_size == INT64_C(1) << 34);
    assert_true(st.st_blocks < 100);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(msh_make_sparse(in_dir("disk"), 1, NULL), MSH_ALREADY_EXISTS);
}

static void a_block_node_is_made_once(void **state)
{
    (void)state;
    need_root();
    struct stat st;
    assert_int_equal(msh_mknod_block(in_dir("n"), 7, 3, 0600, NULL), MSH_OK);
    assert_int_equal(msh_mknod_block(in_dir("n"), 7, 3, 0600, NULL), MSH_OK);
    assert_int_equal(msh_mknod_block(in_dir("n"), 7, 4, 0600, NULL), MSH_ALREADY_EXISTS);
    assert_int_equal(stat(in_dir("n"), &st), 0);
    assert_true(S_ISBLK(st.st_mode) && st.st_rdev == makedev(7, 3));
}

static void a_node_is_like_another_whatever_the_umask(void **state)
{
    (void)state;
    need_root();
    struct stat st, like;
    msh_device_id id;
    msh_err err = {0};
    mode_t before = umask(077);
    assert_int_equal(msh_mknod_like(in_dir("null"), "/dev/null", &id, NULL), MSH_OK);
    umask(before);
    assert_false(id.block);
    assert_int_equal(id.major * 1000 + id.minor, 1003);
    assert_int_equal(stat("/dev/null", &like), 0);
    assert_int_equal(stat(in_dir("null"), &st), 0);
    assert_true(st.st_mode == like.st_mode && st.st_rdev == like.st_rdev && st.st_gid == like.st_gid);
    assert_int_equal(msh_mknod_like(in_dir("null"), "/dev/null", &id, NULL), MSH_ALREADY_EXISTS);
    assert_int_equal(msh_mknod_like(in_dir("m"), "/etc", &id, &err), MSH_INVALID_ARGUMENT);
    assert_non_null(strstr(err.msg, "/etc is no device"));
    assert_int_equal(msh_mknod_like(in_dir("m"), in_dir("absent"), &id, NULL), MSH_NOT_FOUND);
}

static void a_tree_goes_whatever_its_depth(void **state)
{
    (void)state;
    assert_int_equal(msh_remove_tree(in_dir("absent"), NULL), MSH_OK);
    assert_int_equal(msh_remove_tree(in_dir("absent/below"), NULL), MSH_OK);
    put_file(in_dir("single"), "x");
    assert_int_equal(msh_remove_tree(in_dir("single"), NULL), MSH_OK);
    assert_int_equal(mkdir(in_dir("t"), 0755), 0);
    int at = open(in_dir("t"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 3000; i++) { /* deeper than a path may be long, and than we hold folders open */
        assert_int_equal(mkdirat(at, "deeper", 0755), 0);
        int file = openat(at, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        close(file);
        int next = openat(at, "deeper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    close(at);
    msh_err err = {0};
    assert_int_equal(msh_remove_tree(in_dir("t///"), &err), MSH_OK);
    assert_false(exists(in_dir("t")));
}

static void names_that_are_none_are_refused(void **state)
{
    (void)state;
    assert_int_equal(msh_remove_tree("", NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_remove_tree("/", NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_remove_tree(in_dir("."), NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_remove_tree(in_dir("x/.."), NULL), MSH_INVALID_ARGUMENT);
}

static void links_go_and_what_they_point_to_stays(void **state)
{
    (void)state;
    assert_int_equal(msh_mkdir_p(in_dir("outside/sub"), 0755, NULL), MSH_OK);
    put_file(in_dir("outside/sub/precious"), "kept");
    assert_int_equal(msh_mkdir_p(in_dir("t/a"), 0755, NULL), MSH_OK);
    assert_int_equal(symlink(in_dir("outside"), in_dir("t/a/abs")), 0);
    assert_int_equal(symlink("../../outside/sub", in_dir("t/a/rel")), 0);
    assert_int_equal(symlink("/", in_dir("t/root")), 0);
    assert_int_equal(symlink("..", in_dir("t/up")), 0);
    assert_int_equal(symlink(in_dir("t"), in_dir("itself")), 0);
    assert_int_equal(msh_remove_tree(in_dir("itself"), NULL), MSH_OK); /* the link alone */
    assert_true(exists(in_dir("t")));
    assert_int_equal(msh_remove_tree(in_dir("t"), NULL), MSH_OK);
    assert_false(exists(in_dir("t")));
    assert_true(file_says(in_dir("outside/sub/precious"), "kept"));
}

static void bind(const char *from, const char *to)
{
    assert_int_equal(mount(from, to, NULL, MS_BIND, NULL), 0);
}

static void a_users_folder_bound_into_the_tree_survives(void **state)
{
    (void)state;
    need_root();
    msh_err err = {0};
    assert_int_equal(msh_mkdir_p(in_dir("user/sub/deep"), 0755, NULL), MSH_OK);
    put_file(in_dir("user/one"), "1");
    put_file(in_dir("user/sub/two"), "2");
    put_file(in_dir("user/sub/deep/three"), "3");
    put_file(in_dir("userfile"), "alone");
    assert_int_equal(msh_mkdir_p(in_dir("t/rootfs/data/nested"), 0755, NULL), MSH_OK);
    assert_int_equal(msh_mkdir_p(in_dir("t/rootfs/etc/over"), 0755, NULL), MSH_OK);
    assert_int_equal(msh_mkdir_p(in_dir("t/rootfs/big/a/b"), 0755, NULL), MSH_OK);
    put_file(in_dir("t/rootfs/etc/hosts"), "shadow");
    put_file(in_dir("t/rootfs/etc/over/below"), "hidden");
    put_file(in_dir("t/config.json"), "{}");
    bind(in_dir("user"), in_dir("t/rootfs/data")); /* same file system: device numbers do not tell */
    bind(in_dir("user/sub"), in_dir("t/rootfs/data/sub/deep")); /* a mount in a mount */
    bind(in_dir("userfile"), in_dir("t/rootfs/etc/hosts"));     /* a file */
    bind(in_dir("user"), in_dir("t/rootfs/etc/over"));          /* over a folder with content */
    bind(in_dir("user"), in_dir("t/rootfs/etc/over"));          /* twice */
    bind(in_dir("t/rootfs/big"), in_dir("t/rootfs/big"));       /* onto itself */

    assert_int_equal(msh_remove_tree(in_dir("t"), &err), MSH_FAILED_PRECONDITION);
    assert_non_null(strstr(err.msg, "mount point"));
    assert_true(file_says(in_dir("user/one"), "1"));
    assert_true(file_says(in_dir("user/sub/two"), "2"));
    assert_true(file_says(in_dir("user/sub/deep/three"), "3"));
    assert_true(file_says(in_dir("userfile"), "alone"));
    assert_true(file_says(in_dir("t/rootfs/data/one"), "1")); /* still mounted, too */
    assert_true(file_says(in_dir("t/rootfs/etc/hosts"), "alone"));
    assert_false(exists(in_dir("t/config.json"))); /* what is ours has gone */
    assert_true(exists(in_dir("t/rootfs/big/a/b")));

    static const char *const mounts[] = {"t/rootfs/data/sub/deep", "t/rootfs/data",     "t/rootfs/etc/hosts",
                                         "t/rootfs/etc/over",      "t/rootfs/etc/over", "t/rootfs/big"};
    for (size_t i = 0; i < sizeof mounts / sizeof mounts[0]; i++)
        assert_int_equal(msh_umount(in_dir(mounts[i]), 0, NULL), MSH_OK);
    assert_int_equal(msh_umount(in_dir("t/rootfs/big"), 0, NULL), MSH_GONE);
    assert_int_equal(msh_umount(in_dir("t/none"), 0, NULL), MSH_GONE);
    assert_int_equal(msh_remove_tree(in_dir("t"), &err), MSH_OK);
    assert_false(exists(in_dir("t")));
    assert_true(file_says(in_dir("user/sub/deep/three"), "3"));
}

static void a_tree_that_is_a_mount_point_itself_stays(void **state)
{
    (void)state;
    need_root();
    assert_int_equal(msh_mkdir_p(in_dir("user"), 0755, NULL), MSH_OK);
    assert_int_equal(msh_mkdir_p(in_dir("t"), 0755, NULL), MSH_OK);
    put_file(in_dir("user/one"), "1");
    bind(in_dir("user"), in_dir("t"));
    assert_int_equal(msh_remove_tree(in_dir("t"), NULL), MSH_FAILED_PRECONDITION);
    assert_true(file_says(in_dir("user/one"), "1"));
    assert_int_equal(msh_umount(in_dir("t"), 0, NULL), MSH_OK);
}

typedef struct mounter {
    char from[128], to[128];
    _Atomic bool stop;
} mounter;

static void *mount_again_and_again(void *arg)
{
    mounter *m = arg;
    while (!m->stop) {
        mkdir(m->to, 0755);
        if (mount(m->from, m->to, NULL, MS_BIND, NULL) == 0)
            umount2(m->to, MNT_DETACH);
    }
    return NULL;
}

static void a_mount_that_comes_while_the_tree_is_removed_loses_nothing(void **state)
{
    (void)state;
    need_root();
    mounter m = {.stop = false};
    assert_int_equal(msh_mkdir_p(in_dir("user/sub"), 0755, NULL), MSH_OK);
    put_file(in_dir("user/sub/precious"), "kept");
    snprintf(m.from, sizeof m.from, "%s", in_dir("user"));
    snprintf(m.to, sizeof m.to, "%s", in_dir("t/a/b"));
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, mount_again_and_again, &m), 0);
    for (int i = 0; i < 2000; i++) {
        mkdir(in_dir("t"), 0755);
        mkdir(in_dir("t/a"), 0755);
        mkdir(in_dir("t/a/b"), 0755);
        put_file(in_dir("t/a/file"), "x");
        int inside =
            open(in_dir("t/a/b/inside"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* not empty: it is entered */
        msh_fd_close(&inside);
        msh_remove_tree(in_dir("t"), NULL); /* its answer depends on who wins */
        assert_true(file_says(in_dir("user/sub/precious"), "kept"));
    }
    m.stop = true;
    pthread_join(t, NULL);
    umount2(in_dir("t/a/b"), MNT_DETACH);
}

#define IN_A_FOLDER(f) cmocka_unit_test_setup_teardown(f, given_a_folder, after_a_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_FOLDER(folders_are_made_as_far_as_missing),
        IN_A_FOLDER(a_sparse_file_takes_no_room_and_replaces_none),
        IN_A_FOLDER(a_block_node_is_made_once),
        IN_A_FOLDER(a_node_is_like_another_whatever_the_umask),
        IN_A_FOLDER(a_tree_goes_whatever_its_depth),
        IN_A_FOLDER(names_that_are_none_are_refused),
        IN_A_FOLDER(links_go_and_what_they_point_to_stays),
        IN_A_FOLDER(a_users_folder_bound_into_the_tree_survives),
        IN_A_FOLDER(a_tree_that_is_a_mount_point_itself_stays),
        IN_A_FOLDER(a_mount_that_comes_while_the_tree_is_removed_loses_nothing),
    };
    return cmocka_run_group_tests(tests, given_own_mounts, NULL);
}
