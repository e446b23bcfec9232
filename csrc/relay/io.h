/* relay/io.h - what the files of the relay share. Private to the folder.
 *
 * Words      flow = one stream of an io: its socket on one side, its end on the other.
 *
 *   NONE   LISTEN --accept--> RUN --stdin's end--> HALF --exit, close--> OVER
 *   with `resume`: RUN, HALF --socket broke--> AGAIN --accept--> RUN; stdin goes AGAIN --accept--> HEAR --word--> RUN
 *             `                 `--output's end--> OVER or LINGER --reader came, close--> OVER
 *              `--exit without a connection, failure, guest gone--> OVER
 *
 * Always     1. a field belongs to the owner's thread, to the data thread, or to both under relay.lock, as marked. The
 *               open command hands an io to the data thread, the CLOSED report hands it back; then the owner
 *               frees it.
 *            2. a descriptor that shares its open file with others is taken out of epoll before it is closed,
 *               since its registration would outlive it. */
#ifndef MSH_RELAY_IO_H
#define MSH_RELAY_IO_H
#include "base/list.h"
#include "base/time.h"
#include "relay/relay.h"
#include "sys/usock.h"
#include "transport/tail.h"
#include <stdatomic.h>

enum {
    DO_OPEN = 1,
    DO_EXITED = 2,
    DO_CLOSE_STDIN = 4,
    DO_CLOSE = 8,
    DO_CUT = 16,
    DO_GONE = 32
};                                                                       /* msh_io.commands */
enum { SAY_READY = 1, SAY_FAILED = 2, SAY_DRAINED = 4, SAY_CLOSED = 8 }; /* msh_io.reports */

typedef enum flow_state {
    FLOW_NONE,
    FLOW_LISTEN,
    FLOW_RUN,
    FLOW_HALF,
    FLOW_AGAIN,
    FLOW_HEAR,
    FLOW_LINGER,
    FLOW_OVER
} flow_state;

typedef struct msh_flow {
    msh_io *io;
    int index; /* MSH_STDIN ... */
    flow_state state;
    int listener, sock, end;
    char *path; /* of the socket */
    msh_socket_id id;
    bool
        fifo; /* the end is ours, opened for reading and writing, so that neither side ever sees the other go */
    bool ending; /* stdin was asked to close */
    bool piped;  /* the pump is in use */
    bool resume;
    bool no_more;   /* said by the guest: it reads no more of this stdin */
    bool said_over; /* NO_MORE, to the guest of an output */
    bool lossy;
    uint64_t dropped;
    bool dropping; /* lossy, and its reader has left: the end is /dev/null */
    char word[MSH_WORD_SIZE];
    size_t word_n;
    msh_pump pump;
    msh_node hot; /* relay.hot: worth a try */
    msh_node lingering;
    int watch;      /* inotify, -1 */
    msh_node stuck; /* relay.stuck: the fifo is full and more is due */
    msh_time stuck_until;
    int error;
    _Atomic uint64_t moved; /* data thread adds, owner reads */
} msh_flow;

struct msh_io {
    msh_relay *relay;
    msh_flow flow[MSH_STDIO];

    /* owner */
    msh_node all; /* relay.ios */
    void (*on_ready)(void *ctx, const msh_err *err);
    void (*on_drained)(void *ctx, const msh_io_report *report);
    void *ctx;
    bool closed;

    /* both, under the lock */
    unsigned commands, reports;
    unsigned cut; /* streams, one bit each */
    msh_time drain_until, drain_idle;
    msh_node command_node, report_node; /* in a list when the links are set */
    msh_err ready_err;
    msh_io_report report;

    /* data thread */
    bool ready, exited, drained;
    msh_time until, idle,
        moved_at;      /* once it has exited: the last moment, and how long nothing may move before it */
    msh_time away;     /* 0 = for ever */
    bool gone;         /* the guest: no socket is waited for */
    msh_node draining; /* relay.draining */
};

struct msh_relay {
    /* owner */
    uv_async_t async;
    uv_thread_t thread;
    msh_node ios;
    unsigned n_ios;
    bool closed;

    /* both, under the lock */
    uv_mutex_t lock;
    msh_node commands, reports;
    bool stop;
    int wake; /* eventfd */

    /* data thread */
    int epoll, inotify;
    msh_node hot, draining, lingering, stuck;
    msh_pump_kit kit;
};

/* open.c, owner: the ends and the listening sockets of a new io, all or nothing. */
msh_code msh__io_prepare(msh_io *io, const msh_io_want *want, msh_err *err);
/* Closes whatever a flow has open, also before the thread knew it; no epoll. */
void msh__flow_release(msh_flow *f);

/* fifo.c, data thread: outputs into fifos, and who reads them. */
/* True when the end must be kept for a reader that is still to come: bytes are in the fifo and nobody has it open. */
bool msh__fifo_linger(msh_flow *f);
void msh__fifo_unlinger(msh_flow *f);
bool msh__fifo_reader_there(const msh_flow *f); /* of a flow that lingers */
/* After a share that ended in waiting: starts the clock when the fifo is full and more is due, stops it when not. */
void msh__fifo_waits(msh_flow *f, bool moved);
void msh__fifo_unstick(msh_flow *f);
/* Gives up on readers that stay away too long; the next such moment. */
msh_time msh__fifo_overdue(msh_relay *r, msh_time now);

/* thread.c */
void msh__relay_thread(void *relay);
void msh__report(msh_io *io, unsigned what);

/* flow.c, data thread */
int msh__watch(msh_relay *r, int fd, uint32_t events, void *who); /* errno */
void msh__unwatch(msh_relay *r, int fd);
bool msh__is_ready(int fd, short events);
int msh__flow_watch_out(msh_flow *f);
void msh__flow_listen(msh_flow *f);
void msh__flow_connection(msh_flow *f); /* the listener is readable, the first time or again */
void msh__flow_heard(msh_flow *f);      /* something about the socket in HALF or HEAR */
void msh__flow_cut(msh_flow *f);
void msh__flow_say_over(
    msh_flow *f);                 /* to the guest of an output, so that the close is not taken for a break */
void msh__flow_gone(msh_flow *f); /* io.gone was set */
void msh__flow_try(msh_flow *f);  /* move a share */
void msh__flow_heat(msh_flow *f); /* try it in this turn */
void msh__flow_close_stdin(msh_flow *f);
void msh__flow_end(msh_flow *f);             /* of an output: what is in a fifo is kept for a late reader */
void msh__flow_lost(msh_flow *f, int error); /* of an output: its reader has left for good */
void msh__flow_over(msh_flow *f, int error);
void msh__flow_reader_came(msh_relay *r, int watch);
void msh__io_check(msh_io *io); /* ready? drained? */
#endif
