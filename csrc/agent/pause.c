#include "agent/pause.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int msh_pause(void)
{
    sigset_t set;
    int sig;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL); /* blocked signals reach pid 1 too, and none is lost before sigwait */
    for (;;) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        if (sigwait(&set, &sig) == 0 && sig != SIGCHLD)
            return 0;
    }
}

int msh_syncfs(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd) != 0) {
        fprintf(stderr, "moonshim-guest: syncfs %s: %s\n", path, strerror(errno));
        return 1;
    }
    close(fd);
    return 0;
}
