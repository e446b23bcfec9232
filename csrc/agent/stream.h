/* agent/stream.h - one stream of the data thread: its two ends, its socket's losses. Private to streams.c and stream.c.
 *
 *   PUMP --end of input--> CLOSED
 *    |  `--end of output--> CLOSING --host closed, confirmed / time--> CLOSED
 *    `--host lost--> REDIALLING --connected--> PUMP; an output with words: --connected--> HEARING --word--> PUMP
 *   CLOSING --host lost, with words--> REDIALLING
 *
 * Threads    the data thread alone. */
#ifndef MSH_AGENT_STREAM_H
#define MSH_AGENT_STREAM_H
#include "agent/streams.h"
#include "base/list.h"
#include "base/time.h"
#include "transport/tail.h"
#include <pthread.h>

typedef enum msh_stream_state {
    STREAM_PUMP,
    STREAM_CLOSING,
    STREAM_REDIALLING,
    STREAM_HEARING,
    STREAM_CLOSED
} msh_stream_state;

typedef struct msh_stream_one {
    msh_node node;  /* in streams.all, or in streams.fresh while on its way to the thread */
    msh_node ready; /* in the thread's list of streams that may have something to move */
    bool queued;
    uint64_t owner;
    int from, to;
    bool input, terminal, words, init;
    bool exited; /* its process */
    int epoll;   /* that its ends are in */
    char *port;  /* NULL: a loss is the end */
    msh_stream_state state;
    bool piped; /* the pump is in use; it stays from one socket to the next */
    msh_pump pump;
    uint64_t moved;
    char word[MSH_WORD_SIZE];
    size_t word_n;
    msh_time due;   /* of STREAM_CLOSING, STREAM_REDIALLING, STREAM_HEARING */
    msh_time until; /* then it is given up */
} msh_stream_one;

struct msh_streams {
    pthread_t thread;
    pthread_mutex_t lock; /* guards fresh, orders, answers */
    msh_node fresh, orders;
    int epoll, wake;
    /* the thread's own */
    msh_node all, ready;
    msh_pump_kit kit;
};

void msh__stream_start(msh_streams *s, msh_stream_one *x);
/* Something about one of its ends: the data and the events of the epoll. */
void msh__stream_event(msh_streams *s, uint64_t data, uint32_t events);
/* It is in the list of those that may have something to move. */
void msh__stream_queue(msh_streams *s, msh_stream_one *x);
void msh__stream_turn(msh_streams *s, msh_stream_one *x);
/* Its time may have come; not for one that moves. */
void msh__stream_due(msh_streams *s, msh_stream_one *x, msh_time now);
/* Its process has ended: without a host it is given up after a while. */
void msh__stream_give_up_later(msh_stream_one *x, msh_time now);
/* The memory goes when the round of events is over: another event may still name it. */
void msh__stream_end(msh_stream_one *x);
#endif
