/* transport/defer.h - "from the loop, soon": how a carrier keeps callbacks out of the calls that caused them.
 *
 * Layer      transport, private to it.
 * Always     1. `fn` runs once per arming, after the loop has polled, so that a loop turned once (UV_RUN_ONCE) returns
 *               right after it instead of blocking.
 *            2. an armed defer keeps the loop alive. */
#ifndef MSH_TRANSPORT_DEFER_H
#define MSH_TRANSPORT_DEFER_H
#include <stdbool.h>
#include <uv.h>

typedef struct msh_defer {
    uv_idle_t idle; /* makes the poll not wait */
    uv_check_t check;
    void (*fn)(void *ctx);
    void *ctx;
    void (*on_closed)(void *ctx);
    int handles;
    bool armed;
} msh_defer;

void msh_defer_init(uv_loop_t *loop, msh_defer *d, void (*fn)(void *ctx), void *ctx);
void msh_defer_arm(msh_defer *d);
/* `fn` runs no more; on_closed runs when the memory may go. */
void msh_defer_close(msh_defer *d, void (*on_closed)(void *ctx));
#endif
