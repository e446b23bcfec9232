#include "agent/boot.h"
#include "agent/cgroup.h"
#include "agent/fs.h"
#include "agent/log.h"
#include "agent/root.h"
#include "sys/process.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int say(json_t *line)
{
    int rc = json_dumpf(line, stdout, JSON_COMPACT);
    json_decref(line);
    return rc == 0 && putchar('\n') != EOF && fflush(stdout) == 0 ? 0 : -1;
}

static int say_error(const char *text)
{
    msh_warn("boot: %s", text);
    json_t *o = json_object();
    json_object_set_new(o, "error", json_string(text) ? json_string(text) : json_string("set-up failed"));
    say(o);
    return 1;
}

static void loopback_up(void)
{
    struct ifreq ifr = {.ifr_flags = IFF_UP | IFF_RUNNING};
    memcpy(ifr.ifr_name, "lo", 3);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) != 0)
        msh_warn("boot: loopback stays down: %s", strerror(errno));
    msh_fd_close(&fd);
}

static msh_code set_up(const msh_boot_options *o, const msh_cgroups *cgroups, msh_err *err)
{
    char name[64];
    msh_code rc = msh_cgroups_join(cgroups, o->cgroup, err);
    if (rc != MSH_OK)
        return rc;
    if (unshare(CLONE_NEWCGROUP) != 0)
        return msh_fail_errno(err, errno, "new cgroup namespace");
    if ((rc = msh_root_enter(o->run_dir, cgroups, err)) != MSH_OK ||
        (rc = msh_cgroups_delegate(err)) != MSH_OK)
        return rc;
    snprintf(name, sizeof name, "%s", o->id);
    for (char *c = name; *c != '\0';
         c++) /* it becomes the name of containers without one, so it must be one */
        if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.", *c) == NULL)
            *c = '-';
    if (sethostname(name, strlen(name)) != 0)
        return msh_fail_errno(err, errno, "set the host name");
    loopback_up();
    return MSH_OK;
}

/* Pid 1 of the UVM. Never returns. `alive` reads end-of-file when the parent is gone, `status` takes an error text. */
static void pid_one(const msh_boot_options *o, const msh_cgroups *cgroups, int alive, int status)
{
    msh_err err = {0};
    if (o->die_with_parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct pollfd p = {.fd = alive, .events = POLLIN};
        if (poll(&p, 1, 0) != 0)
            _exit(1); /* it died before the signal was armed */
    }
    if (set_up(o, cgroups, &err) == MSH_OK) {
        char *argv[] = {"moonshim-guest", "agent", "--dial", "unix:/run/host/s", NULL};
        char *envp[] = {"PATH=" MSH_GUEST_PATH, "HOME=/root", "LANG=C.UTF-8", NULL};
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null >= 0) {
            dup2(null, STDIN_FILENO);
            dup2(null, STDOUT_FILENO);
        }
        syscall(SYS_close_range, 3u, ~0u,
                4u /* CLOSE_RANGE_CLOEXEC: `status` says by closing that exec worked */);
        execve(MSH_GUEST_PROGRAM, argv, envp);
        msh_fail_errno(&err, errno, "run %s", MSH_GUEST_PROGRAM);
    }
    ssize_t ignored = write(status, err.msg, strlen(err.msg));
    (void)ignored;
    _exit(1);
}

static int watch_over(pid_t pid)
{
    int st;
    while (waitpid(pid, &st, 0) < 0)
        if (errno != EINTR)
            return 1;
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

static pid_t clone_one(const msh_boot_options *o, const msh_cgroups *cgroups, int *status, msh_err *err)
{
    int alive[2] = {-1, -1}, told[2] = {-1, -1};
    pid_t pid = -1;
    if (pipe2(alive, O_CLOEXEC) != 0 || pipe2(told, O_CLOEXEC) != 0) {
        msh_fail_errno(err, errno, "pipe");
        goto out;
    }
    unsigned long flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;
    pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid < 0)
        msh_fail_errno(err, errno, "new namespaces");
    if (pid == 0) {
        close(alive[1]);
        pid_one(o, cgroups, alive[0], told[1]);
    }
    if (pid > 0) {
        *status = told[0];
        told[0] = -1;
        alive[1] = -1; /* stays open for as long as this process lives: that is what it is for */
    }
out:
    msh_fd_close(&alive[0]);
    msh_fd_close(&alive[1]);
    msh_fd_close(&told[0]);
    msh_fd_close(&told[1]);
    return pid;
}

int msh_boot(const msh_boot_options *o)
{
    msh_err err = {0};
    msh_cgroups cgroups;
    pid_t parent = o->parent != 0 ? o->parent : getppid();
    umask(022);
    setsid(); /* the terminal's Ctrl-C is for the command that talks to the UVM, not for the UVM */
    if (o->die_with_parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            return 1;
    }
    if (o->log != NULL) {
        int fd = open(o->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
            return say_error("the log file cannot be opened");
        msh_fd_close(&fd);
    }
    if (msh_cgroups_find(&cgroups, &err) != MSH_OK || msh_cgroups_make(&cgroups, o->cgroup, &err) != MSH_OK)
        return say_error(err.msg);
    int status = -1;
    pid_t pid = clone_one(o, &cgroups, &status, &err);
    if (pid < 0) {
        msh_cgroups_unmake(&cgroups, o->cgroup);
        return say_error(err.msg);
    }
    uint64_t ticks = 0;
    msh_process_start_time(pid, &ticks, NULL); /* stays 0 when it has ended */
    char text[256];
    ssize_t n;
    do
        n = read(status, text, sizeof text - 1);
    while (n < 0 && errno == EINTR);
    msh_fd_close(&status);
    if (n != 0 || ticks == 0) {
        text[n > 0 ? n : 0] = '\0';
        kill(pid, SIGKILL);
        watch_over(pid);
        msh_cgroups_unmake(&cgroups, o->cgroup);
        return say_error(n > 0 ? text : "pid 1 of the UVM ended during set-up");
    }
    json_t *line = json_object();
    json_object_set_new(line, "pid", json_integer(pid));
    json_object_set_new(line, "start_time", json_integer((json_int_t)ticks));
    json_object_set_new(line, "cgroup", json_string(o->cgroup));
    say(line); /* a host that no longer listens will terminate us in its own way */
    int rc = watch_over(pid);
    msh_cgroups_unmake(&cgroups,
                       o->cgroup); /* the host does the same for a UVM whose boot process was killed */
    return rc;
}
