/* Loop devices, detached mounts, control groups: the parts of sys that need root and a kernel that has them. */
#include "sys/cgroup.h"
#include "sys/loop.h"
#include "sys/sys_fixture.h"
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

static void need_loops(void)
{
    need_root();
    int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        print_message("skipped: no loop devices here\n");
        skip();
    }
    close(fd);
}

/* A prober of the system looks at new devices, and may still hold one when we let it go. */
static msh_code detach(const msh_loop *l, int *fd)
{
    msh_code rc = msh_loop_detach(l, fd, NULL);
    if (rc != MSH_FAILED_PRECONDITION)
        return rc;
    while ((rc = msh_loop_detach(l, fd, NULL)) == MSH_FAILED_PRECONDITION)
        ;
    return rc == MSH_GONE ? MSH_OK : rc; /* it cleared itself */
}

static void a_loop_device_shows_the_file_and_names_its_owner(void **state)
{
    (void)state;
    need_loops();
    msh_loop l, other;
    int fd = -1;
    msh_err err = {0};
    assert_int_equal(msh_make_sparse(in_dir("disk"), 1 << 20, NULL), MSH_OK);
    put_file(in_dir("disk"), "first");
    assert_int_equal(truncate(in_dir("disk"), 1 << 20), 0);
    msh_loop_want want = {.path = in_dir("disk"), .read_only = true, .size = 65536, .tag = "vm1/disk-1"};
    assert_int_equal(msh_loop_attach(&want, &l, &fd, &err), MSH_OK);
    assert_int_equal(l.major, 7);
    struct stat st;
    assert_int_equal(stat(in_dir("disk"), &st), 0);
    assert_true(l.ino == st.st_ino && l.dev == st.st_dev);
    char got[6] = "";
    assert_int_equal(pread(fd, got, 5, 0), 5);
    assert_string_equal(got, "first");
    assert_int_equal(lseek(fd, 0, SEEK_END), 65536);
    assert_int_equal(msh_loop_verify(&l, NULL), MSH_OK);

    other = l;
    snprintf(other.tag, sizeof other.tag, "vm2/disk-1");
    assert_int_equal(msh_loop_verify(&other, NULL), MSH_GONE);
    int none = -1;
    assert_int_equal(msh_loop_detach(&other, &none, NULL), MSH_GONE); /* and touches nothing */
    other = l;
    other.ino++;
    assert_int_equal(msh_loop_detach(&other, &none, NULL), MSH_GONE);
    assert_int_equal(msh_loop_verify(&l, NULL), MSH_OK);

    assert_int_equal(detach(&l, &fd), MSH_OK);
    assert_int_equal(fd, -1);
    assert_int_equal(msh_loop_verify(&l, NULL), MSH_GONE);
    assert_int_equal(msh_loop_detach(&l, &fd, NULL), MSH_GONE);
}

static void a_loop_device_in_use_says_so_and_clears_itself_later(void **state)
{
    (void)state;
    need_loops();
    msh_loop l;
    int fd = -1;
    assert_int_equal(msh_make_sparse(in_dir("disk"), 1 << 20, NULL), MSH_OK);
    msh_loop_want want = {.path = in_dir("disk"), .tag = "t"};
    assert_int_equal(msh_loop_attach(&want, &l, &fd, NULL), MSH_OK);
    int user = dup(fd);
    assert_int_equal(msh_loop_detach(&l, &fd, NULL), MSH_FAILED_PRECONDITION);
    close(user);
    msh_code rc = detach(&l, &fd);
    assert_true(rc == MSH_GONE || rc == MSH_OK); /* by itself, or when a prober has let it go */
}

static void what_was_written_to_the_device_is_in_the_file_after_a_detach(void **state)
{
    (void)state;
    need_loops();
    msh_loop l;
    int fd = -1;
    char path[32], got[8] = "";
    assert_int_equal(msh_make_sparse(in_dir("disk"), 1 << 20, NULL), MSH_OK);
    msh_loop_want want = {.path = in_dir("disk"), .tag = "t"};
    assert_int_equal(msh_loop_attach(&want, &l, &fd, NULL), MSH_OK);
    snprintf(path, sizeof path, "/dev/loop%u", l.index);
    int user = open(path, O_WRONLY | O_CLOEXEC); /* as a program in a container, which does not sync */
    assert_int_equal(pwrite(user, "written", 7, 4096), 7);
    close(user);
    assert_int_equal(detach(&l, &fd), MSH_OK);
    int file = open(in_dir("disk"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(file, got, 7, 4096), 7);
    close(file);
    assert_string_equal(got, "written");
}

static void an_owner_that_is_killed_leaves_no_loop_device(void **state)
{
    (void)state;
    need_loops();
    int p[2];
    msh_loop l = {0};
    assert_int_equal(msh_make_sparse(in_dir("disk"), 1 << 20, NULL), MSH_OK);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = -1;
        msh_loop_want want = {.path = in_dir("disk"), .tag = "killed"};
        if (msh_loop_attach(&want, &l, &fd, NULL) == MSH_OK && write(p[1], &l, sizeof l) == sizeof l)
            pause();
        _exit(1);
    }
    assert_int_equal(read(p[0], &l, sizeof l), sizeof l);
    close(p[0]);
    close(p[1]);
    assert_int_equal(msh_loop_verify(&l, NULL), MSH_OK);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    int none = -1;
    msh_code rc = detach(&l, &none); /* crash clean-up: right whether or not it is gone yet */
    assert_true(rc == MSH_GONE || rc == MSH_OK);
}

typedef struct attacher {
    pthread_t thread;
    char path[128];
    msh_loop l;
    int fd;
    msh_code rc;
} attacher;

static void *attach(void *arg)
{
    attacher *a = arg;
    msh_loop_want want = {.path = a->path, .tag = "race"};
    a->rc = msh_loop_attach(&want, &a->l, &a->fd, NULL);
    return NULL;
}

static void attachments_that_race_get_different_devices(void **state)
{
    (void)state;
    need_loops();
    enum { N = 6 };
    attacher a[N];
    for (int i = 0; i < N; i++) {
        char name[8];
        snprintf(name, sizeof name, "d%d", i);
        assert_int_equal(msh_make_sparse(in_dir(name), 65536, NULL), MSH_OK);
        snprintf(a[i].path, sizeof a[i].path, "%s", in_dir(name));
        a[i].fd = -1;
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&a[i].thread, NULL, attach, &a[i]), 0);
    for (int i = 0; i < N; i++)
        pthread_join(a[i].thread, NULL);
    for (int i = 0; i < N; i++) {
        assert_int_equal(a[i].rc, MSH_OK);
        for (int k = 0; k < i; k++)
            assert_int_not_equal(a[i].l.index, a[k].l.index);
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(detach(&a[i].l, &a[i].fd), MSH_OK);
}

static void a_bad_want_attaches_nothing(void **state)
{
    (void)state;
    need_loops();
    msh_loop l;
    int fd = -1;
    msh_loop_want want = {.path = in_dir("none"), .tag = "t"};
    assert_int_equal(msh_loop_attach(&want, &l, &fd, NULL), MSH_NOT_FOUND);
    want.tag = "";
    assert_int_equal(msh_loop_attach(&want, &l, &fd, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(fd, -1);
}

static bool attached(int tree, const char *to)
{
    return move_mount(tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

static void a_read_only_tree_can_be_read_where_it_is_put(void **state)
{
    (void)state;
    need_root();
    int tree = -1;
    assert_int_equal(msh_mkdir_p(in_dir("src/inner"), 0755, NULL), MSH_OK);
    assert_int_equal(msh_mkdir_p(in_dir("to"), 0755, NULL), MSH_OK);
    put_file(in_dir("src/f"), "text");
    assert_int_equal(mount("none", in_dir("src/inner"), "tmpfs", 0, NULL), 0);
    put_file(in_dir("src/inner/g"), "inner");
    msh_tree_want want = {.path = in_dir("src"), .read_only = true, .recursive = true};
    assert_int_equal(msh_tree_open(&want, &tree, NULL), MSH_OK);
    assert_true(attached(tree, in_dir("to")));
    close(tree);
    assert_true(file_says(in_dir("to/f"), "text"));
    assert_true(file_says(in_dir("to/inner/g"), "inner"));
    assert_int_equal(open(in_dir("to/f"), O_WRONLY | O_CLOEXEC), -1);
    assert_int_equal(errno, EROFS);
    assert_int_equal(open(in_dir("to/inner/g"), O_WRONLY | O_CLOEXEC), -1);
    put_file(in_dir("src/f"), "still writable");
    assert_int_equal(msh_umount(in_dir("to"), MNT_DETACH, NULL), MSH_OK);
    assert_int_equal(msh_umount(in_dir("src/inner"), 0, NULL), MSH_OK);
}

static void a_tree_of_one_file(void **state)
{
    (void)state;
    need_root();
    int tree = -1;
    put_file(in_dir("f"), "text");
    put_file(in_dir("to"), "");
    msh_tree_want want = {.path = in_dir("f"), .read_only = true, .file = true};
    assert_int_equal(msh_tree_open(&want, &tree, NULL), MSH_OK);
    assert_true(attached(tree, in_dir("to")));
    close(tree);
    assert_true(file_says(in_dir("to"), "text"));
    assert_int_equal(open(in_dir("to"), O_WRONLY | O_CLOEXEC), -1);
    assert_int_equal(msh_umount(in_dir("to"), 0, NULL), MSH_OK);
    want.file = false;
    assert_int_equal(msh_tree_open(&want, &tree, NULL), MSH_INVALID_ARGUMENT);
    want = (msh_tree_want){.path = dir, .file = true};
    assert_int_equal(msh_tree_open(&want, &tree, NULL), MSH_INVALID_ARGUMENT);
    want = (msh_tree_want){.path = in_dir("none")};
    assert_int_equal(msh_tree_open(&want, &tree, NULL), MSH_NOT_FOUND);
}

static const char *first_cgroup_mount(void)
{
    static const char *const candidates[] = {"/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified",
                                             "/sys/fs/cgroup"};
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/msh-test-%d", candidates[i], (int)getpid());
        if (mkdir(path, 0755) == 0) {
            rmdir(path);
            return candidates[i];
        }
    }
    return NULL;
}

static void control_groups_go_when_they_are_empty(void **state)
{
    (void)state;
    need_root();
    const char *root = first_cgroup_mount();
    if (root == NULL) {
        print_message("skipped: no control groups to write to\n");
        skip();
    }
    char name[64], path[160], procs[224];
    snprintf(name, sizeof name, "msh-test-%d/vm", (int)getpid());
    snprintf(path, sizeof path, "%s/%s/a/b", root, name);
    assert_int_equal(msh_mkdir_p(path, 0755, NULL), MSH_OK);
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    snprintf(procs, sizeof procs, "%s/cgroup.procs", path);
    FILE *f = fopen(procs, "we");
    assert_non_null(f);
    fprintf(f, "%d", (int)pid);
    assert_int_equal(fclose(f), 0);
    msh_err err = {0};
    assert_int_equal(msh_cgroup_remove(name, 20, &err), MSH_FAILED_PRECONDITION);
    assert_int_equal(kill(pid, 0), 0); /* nobody was killed */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(msh_cgroup_remove(name, 600000, &err), MSH_OK);
    assert_false(exists(path));
    assert_int_equal(msh_cgroup_remove(name, 0, &err), MSH_OK);
    snprintf(path, sizeof path, "%s/msh-test-%d", root, (int)getpid());
    assert_int_equal(msh_cgroup_remove(path, 600000, &err), MSH_OK);
    assert_int_equal(msh_cgroup_remove(dir, 0, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_cgroup_remove("a/../..", 0, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_cgroup_remove("/", 0, NULL), MSH_INVALID_ARGUMENT);
    assert_int_equal(msh_cgroup_remove("", 0, NULL), MSH_INVALID_ARGUMENT);
}

#define IN_A_FOLDER(f) cmocka_unit_test_setup_teardown(f, given_a_folder, after_a_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_FOLDER(a_loop_device_shows_the_file_and_names_its_owner),
        IN_A_FOLDER(a_loop_device_in_use_says_so_and_clears_itself_later),
        IN_A_FOLDER(what_was_written_to_the_device_is_in_the_file_after_a_detach),
        IN_A_FOLDER(an_owner_that_is_killed_leaves_no_loop_device),
        IN_A_FOLDER(attachments_that_race_get_different_devices),
        IN_A_FOLDER(a_bad_want_attaches_nothing),
        IN_A_FOLDER(a_read_only_tree_can_be_read_where_it_is_put),
        IN_A_FOLDER(a_tree_of_one_file),
        IN_A_FOLDER(control_groups_go_when_they_are_empty),
    };
    return cmocka_run_group_tests(tests, given_own_mounts, NULL);
}
