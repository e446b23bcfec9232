#include "sys/terminal.h"
#include "sys/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* What a signal handler needs to know. */
static struct {
    volatile sig_atomic_t raw;
    int fd; /* our duplicate */
    pid_t owner;
    struct termios modes; /* to give back */
} user = {.fd = -1};

/* Signals that end a process which does not handle them. */
static const int fatal[] = {SIGHUP,  SIGINT,    SIGQUIT, SIGILL,    SIGTRAP, SIGABRT, SIGBUS,
                            SIGFPE,  SIGSEGV,   SIGUSR1, SIGUSR2,   SIGALRM, SIGTERM, SIGXCPU,
                            SIGXFSZ, SIGVTALRM, SIGPROF, SIGSTKFLT, SIGPWR,  SIGSYS};
enum { FATAL = sizeof fatal / sizeof *fatal };

bool msh_terminal_is(int fd)
{
    int saved = errno;
    bool yes = isatty(fd) == 1;
    errno = saved;
    return yes;
}

bool msh_terminal_is_master(int fd)
{
    int saved = errno;
    unsigned number;
    bool yes = ioctl(fd, TIOCGPTN, &number) == 0;
    errno = saved;
    return yes;
}

static msh_code no_terminal(int fd, msh_err *err)
{
    return msh_fail(err, MSH_FAILED_PRECONDITION, "descriptor %d is no terminal", fd);
}

msh_code msh_terminal_get_size(int fd, msh_terminal_size *out, msh_err *err)
{
    struct winsize w;
    if (ioctl(fd, TIOCGWINSZ, &w) != 0)
        return errno == ENOTTY ? no_terminal(fd, err) : msh_fail_errno(err, errno, "size of the terminal");
    *out = (msh_terminal_size){w.ws_row, w.ws_col};
    return MSH_OK;
}

msh_code msh_terminal_set_size(int fd, msh_terminal_size size, msh_err *err)
{
    struct winsize w = {.ws_row = size.rows, .ws_col = size.columns};
    if (ioctl(fd, TIOCSWINSZ, &w) == 0)
        return MSH_OK;
    return errno == ENOTTY ? no_terminal(fd, err) : msh_fail_errno(err, errno, "resize the terminal");
}

/* ---- the user's terminal ---- */

static void on_fatal(int sig)
{
    int saved = errno;
    msh_terminal_restore();
    errno = saved;
    raise(sig); /* by default now, as soon as this has returned */
}

/* Signals that somebody handles are left to them. */
static void guard(void)
{
    for (int i = 0; i < FATAL; i++) {
        struct sigaction old, ours = {.sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND};
        sigemptyset(&ours.sa_mask);
        if (sigaction(fatal[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            sigaction(fatal[i], &ours, NULL);
    }
}

static void unguard(void)
{
    for (int i = 0; i < FATAL; i++) {
        struct sigaction old, none = {.sa_handler = SIG_DFL};
        if (sigaction(fatal[i], NULL, &old) == 0 && old.sa_handler == on_fatal)
            sigaction(fatal[i], &none, NULL);
    }
}

void msh_terminal_restore(void)
{
    sigset_t out, before;
    int saved = errno;
    if (!user.raw || user.owner != getpid())
        return;
    user.raw = 0;
    /* Also from the background: a process that ends must not be stopped on its way for giving back what it took. */
    sigemptyset(&out);
    sigaddset(&out, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &out, &before);
    tcsetattr(user.fd, TCSANOW,
              &user.modes); /* now: what is printed is out of our hands, what is typed is the shell's */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    msh_fd_close(&user.fd);
    unguard();
    errno = saved;
}

msh_code msh_terminal_raw(int fd, msh_err *err)
{
    static bool registered;
    struct termios now;
    if (user.raw && user.owner == getpid()) {
        now = user.modes;
        cfmakeraw(&now);
        return tcsetattr(user.fd, TCSANOW, &now) == 0
                   ? MSH_OK
                   : msh_fail_errno(err, errno, "set the terminal's modes");
    }
    if (tcgetattr(fd, &now) != 0)
        return errno == ENOTTY ? no_terminal(fd, err) : msh_fail_errno(err, errno, "modes of the terminal");
    if (!registered && atexit(msh_terminal_restore) != 0)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    registered = true;
    int own = -1;
    msh_code rc = msh_fd_dup(fd, &own, err);
    if (rc != MSH_OK)
        return rc;
    user.fd = own;
    user.owner = getpid();
    user.modes = now;
    user.raw = 1; /* before the change, so that no moment is without a way back */
    guard();
    cfmakeraw(&now);
    if (tcsetattr(own, TCSANOW, &now) == 0)
        return MSH_OK;
    int e = errno;
    msh_terminal_restore();
    return msh_fail_errno(err, e, "set the terminal's modes");
}

/* ---- pseudo terminals ---- */

msh_code msh_terminal_open(int *master, int *slave, msh_err *err)
{
    int m = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), s = -1, unlocked = 0;
    if (m < 0)
        return msh_fail_errno(err, errno, "open /dev/ptmx");
    if (ioctl(m, TIOCSPTLCK, &unlocked) != 0 ||
        (s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
        msh_code rc = msh_fail_errno(err, errno, "open a pseudo terminal");
        msh_fd_close(&m);
        return rc;
    }
    *master = m;
    *slave = s;
    return MSH_OK;
}
