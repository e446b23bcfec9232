#include "agent/oom.h"
#include "agent/bridge.h"
#include "agent/cgfile.h"
#include "agent/log.h"
#include "sys/fd.h"
#include "wire/gcs.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The wake-up of v1 comes before the kill: how often, and how long, the counter is looked at then. */
#define LOOK_MS   10u
#define LOOKS_MAX 200u

struct msh_oom {
    msh_container *container; /* NULL once ended: only its handles are still closing */
    msh_cg cg;
    uint64_t told; /* the counter, as far as it was told */
    unsigned looks;
    int fd; /* v1 */
    union {
        uv_poll_t poll;   /* v1 */
        uv_fs_event_t fs; /* v2 */
    } source;
    uv_timer_t timer;
    bool has_source;
    int handles;
};

static json_t *notice(const msh_container *c, const msh_cg *cg, uint64_t kills)
{
    uint64_t limit = msh_cg_memory_limit(cg);
    json_t *o = json_object();
    json_object_set_new(o, "ContainerId", json_string(c->id));
    if (c->activity[0] != '\0')
        json_object_set_new(o, "ActivityId", json_string(c->activity));
    json_object_set_new(o, "Type", json_string("OutOfMemory"));
    json_object_set_new(o, "Kills", json_integer((json_int_t)kills));
    if (limit <= INT64_MAX)
        json_object_set_new(o, "Limit", json_integer((json_int_t)limit));
    return o;
}

static bool look(struct msh_oom *w)
{
    uint64_t now;
    if (w->container == NULL || !msh_cg_oom_kills(&w->cg, &now) || now <= w->told)
        return false;
    w->told = now;
    msh_info("%.100s: out of memory, %" PRIu64 " killed so far", w->container->id, now);
    if (w->container->agent->tells_oom)
        msh_bridge_tell(w->container->agent->bridge, MSH_GCS_EXT_OUT_OF_MEMORY,
                        notice(w->container, &w->cg, now));
    return true;
}

static void on_timer(uv_timer_t *t)
{
    struct msh_oom *w = t->data;
    if (look(w) || ++w->looks >= LOOKS_MAX)
        uv_timer_stop(t);
}

static void woken(struct msh_oom *w)
{
    if (w->container == NULL || look(w))
        return;
    w->looks = 0;
    uv_timer_start(&w->timer, on_timer, LOOK_MS, LOOK_MS);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
    struct msh_oom *w = p->data;
    uint64_t n;
    (void)events;
    if (status != 0 || (read(w->fd, &n, sizeof n) < 0 && errno != EAGAIN && errno != EINTR)) {
        uv_poll_stop(p);
        return;
    }
    woken(w);
}

static void on_change(uv_fs_event_t *f, const char *name, int events, int status)
{
    (void)name;
    (void)events;
    if (status == 0)
        woken(f->data);
}

/* Asks the kernel for wake-ups; it keeps what it needs of the two files, so only the eventfd stays open. */
static int ask_v1(const msh_cg *cg)
{
    char path[MSH_CG_PATH], line[64];
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int control = open(msh_cg_path(cg, "memory", "memory.oom_control", path), O_RDONLY | O_CLOEXEC);
    int order = open(msh_cg_path(cg, "memory", "cgroup.event_control", path), O_WRONLY | O_CLOEXEC);
    snprintf(line, sizeof line, "%d %d", event, control);
    if (event < 0 || control < 0 || order < 0 || write(order, line, strlen(line)) < 0)
        msh_fd_close(&event);
    msh_fd_close(&control);
    msh_fd_close(&order);
    return event;
}

static void on_closed(uv_handle_t *h)
{
    struct msh_oom *w = h->data;
    if (--w->handles > 0)
        return;
    msh_fd_close(&w->fd);
    free(w);
}

static bool open_source(struct msh_oom *w, uv_loop_t *loop)
{
    char path[MSH_CG_PATH];
    if (w->cg.v2) {
        uv_fs_event_init(loop, &w->source.fs);
        w->source.fs.data = w;
        w->handles++;
        return uv_fs_event_start(&w->source.fs, on_change,
                                 msh_cg_path(&w->cg, "memory", "memory.events", path), 0) == 0;
    }
    w->fd = ask_v1(&w->cg);
    if (w->fd < 0 || uv_poll_init(loop, &w->source.poll, w->fd) != 0)
        return false;
    w->source.poll.data = w;
    w->handles++;
    return uv_poll_start(&w->source.poll, UV_READABLE, on_poll) == 0;
}

void msh_oom_watch(msh_container *c)
{
    uint64_t now;
    msh_cg cg = msh_cg_inner(c->cgroup);
    if (c->oom != NULL || !msh_cg_oom_kills(&cg, &now))
        return;
    struct msh_oom *w = calloc(1, sizeof *w);
    if (w == NULL)
        return;
    *w = (struct msh_oom){.container = c, .cg = cg, .told = now, .fd = -1};
    uv_timer_init(c->agent->loop, &w->timer);
    w->timer.data = w;
    w->handles++;
    if (!open_source(w, c->agent->loop))
        msh_warn("%.100s: want of memory is only noticed at an exit", c->id);
    w->has_source = w->handles > 1;
    c->oom = w;
}

void msh_oom_check(msh_container *c)
{
    if (c->oom != NULL)
        look(c->oom);
}

void msh_oom_end(msh_container *c)
{
    struct msh_oom *w = c->oom;
    if (w == NULL)
        return;
    c->oom = NULL;
    w->container = NULL;
    uv_close((uv_handle_t *)&w->timer, on_closed);
    if (w->has_source)
        uv_close((uv_handle_t *)&w->source, on_closed);
}
