#include "bridge/session.h"
#include "base/idmap.h"
#include "base/list.h"
#include "bridge/deadlines.h"
#include "wire/frame.h"
#include "wire/gcs.h"
#include <stdlib.h>

#define DEFAULT_OUT     ((size_t)64 << 20)
#define DEFAULT_PENDING 65536u
#define KEEP            ((size_t)1 << 20) /* a batch buffer above this is not kept for the next one */

typedef struct call {
    uint64_t id;
    uint32_t type;
    msh_code failed; /* in `over`: why */
    void *tag;
    msh_deadline deadline;
    msh_node node; /* in `over` */
} call;

struct msh_session {
    msh_session_state state;
    uint64_t next_id;
    uint32_t cap, max_pending;
    msh_idmap calls; /* by id: those that wait */
    msh_deadlines deadlines;
    msh_node over; /* calls that failed and were not collected */
    msh_buf out;
    msh_frame_decoder in;
    msh_err cause; /* of the loss or close */
    bool ended;    /* ENDED is to be given */
    msh_session_counts counts;
};

msh_code msh_session_new(const msh_session_config *config, msh_session **out, msh_err *err)
{
    if (config->first_id >> 63 != 0)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "the first id is out of range");
    msh_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory for a bridge");
    s->next_id = config->first_id;
    s->cap = msh_frame_cap(config->max_frame);
    s->max_pending = config->max_pending != 0 ? config->max_pending : DEFAULT_PENDING;
    msh_idmap_init(&s->calls);
    msh_list_init(&s->over);
    msh_buf_init(&s->out, config->max_out != 0 ? config->max_out : DEFAULT_OUT);
    msh_frame_decoder_init(&s->in, s->cap);
    *out = s;
    return MSH_OK;
}

void msh_session_free(msh_session *s)
{
    if (s == NULL)
        return;
    size_t cursor = 0;
    call *c;
    while ((c = msh_idmap_each(&s->calls, &cursor)) != NULL)
        free(c);
    for (msh_node *n; (n = msh_list_shift(&s->over)) != NULL;)
        free(MSH_LIST_OF(n, call, node));
    msh_idmap_free(&s->calls);
    msh_deadlines_free(&s->deadlines);
    msh_buf_free(&s->out);
    msh_frame_decoder_free(&s->in);
    free(s);
}

msh_code msh_session_call(msh_session *s, uint32_t type, msh_slice payload, msh_time deadline, void *tag,
                          uint64_t *id, msh_err *err)
{
    if (msh_gcs_class_of(type) != MSH_GCS_REQUEST)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "type 0x%08x is no request", type);
    if (s->state != MSH_SESSION_OPEN)
        return msh_fail(err, MSH_UNAVAILABLE, "%s", s->cause.msg);
    if (s->calls.used >= s->max_pending)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "%zu calls wait for the guest already", s->calls.used);
    call *c = calloc(1, sizeof *c);
    if (c == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory for a call");
    *c = (call){.id = s->next_id, .type = type, .tag = tag, .deadline = {.at = deadline}};
    msh_code rc = msh_idmap_put(&s->calls, c->id, c);
    if (rc == MSH_OK && deadline != MSH_NEVER && !msh_deadlines_add(&s->deadlines, &c->deadline))
        rc = MSH_RESOURCE_EXHAUSTED;
    if (rc != MSH_OK) {
        msh_fail(err, rc, "no memory for a call");
        goto undo;
    }
    rc = msh_frame_append(&s->out, type, c->id, payload, true, s->cap, err);
    if (rc != MSH_OK)
        goto undo;
    s->next_id++;
    s->counts.sent++;
    *id = c->id;
    return MSH_OK;
undo:
    msh_deadlines_remove(&s->deadlines, &c->deadline);
    msh_idmap_remove(&s->calls, c->id);
    free(c);
    return rc;
}

/* Takes the call out of those that wait; NULL when it does not. */
static call *take(msh_session *s, uint64_t id)
{
    call *c = msh_idmap_remove(&s->calls, id);
    if (c != NULL)
        msh_deadlines_remove(&s->deadlines, &c->deadline);
    return c;
}

bool msh_session_abandon(msh_session *s, uint64_t id, void **tag)
{
    call *c = take(s, id);
    if (c == NULL)
        return false;
    if (tag != NULL)
        *tag = c->tag;
    free(c);
    return true;
}

msh_code msh_session_feed(msh_session *s, msh_slice in, msh_err *err)
{
    if (s->state != MSH_SESSION_OPEN)
        return msh_fail(err, MSH_UNAVAILABLE, "%s", s->cause.msg);
    return msh_frame_feed(&s->in, in, err);
}

/* Oldest call first: ids grow, and callers read the story in the order in which they wrote it. */
static int by_id(const void *a, const void *b)
{
    uint64_t x = (*(call *const *)a)->id, y = (*(call *const *)b)->id;
    return x < y ? -1 : x > y;
}

static void fail_all(msh_session *s)
{
    size_t n = s->calls.used, i = 0, cursor = 0;
    call **all = n == 0 ? NULL : malloc(n * sizeof *all);
    call *c;
    while ((c = msh_idmap_each(&s->calls, &cursor)) != NULL) {
        c->failed = MSH_UNAVAILABLE;
        c->deadline.place = 0;
        if (all != NULL)
            all[i++] = c;
        else
            msh_list_push(&s->over, &c->node); /* no memory to sort them: any order is better than a hang */
    }
    if (all != NULL) {
        qsort(all, n, sizeof *all, by_id);
        for (i = 0; i < n; i++)
            msh_list_push(&s->over, &all[i]->node);
        free(all);
    }
    msh_idmap_free(&s->calls);
    msh_deadlines_free(&s->deadlines);
}

static void stop(msh_session *s, msh_session_state state)
{
    s->state = state;
    fail_all(s);
    msh_buf_free(&s->out);
    /* The received bytes stay until the next event: the payload of the last one may point into them. */
}

void msh_session_lost(msh_session *s, const msh_err *why)
{
    if (s->state != MSH_SESSION_OPEN)
        return;
    if (why != NULL && why->code != MSH_OK)
        s->cause = *why;
    else
        msh_fail(&s->cause, MSH_UNAVAILABLE, "the guest closed the connection");
    msh_err_note(&s->cause, "bridge lost");
    s->ended = true;
    stop(s, MSH_SESSION_LOST);
}

void msh_session_close(msh_session *s)
{
    s->ended = false;
    if (s->state == MSH_SESSION_OPEN) {
        msh_fail(&s->cause, MSH_UNAVAILABLE, "bridge closed");
        stop(s, MSH_SESSION_CLOSED);
    }
    s->state = MSH_SESSION_CLOSED;
}

void msh_session_tick(msh_session *s, msh_time now)
{
    msh_deadline *d;
    while ((d = msh_deadlines_first(&s->deadlines)) != NULL && d->at <= now) {
        call *c = MSH_LIST_OF(d, call, deadline);
        take(s, c->id);
        c->failed = MSH_DEADLINE_EXCEEDED;
        s->counts.expired++;
        msh_list_push(&s->over, &c->node);
    }
}

msh_time msh_session_wake(const msh_session *s)
{
    msh_deadline *d = msh_deadlines_first(&s->deadlines);
    return d == NULL ? MSH_NEVER : d->at;
}

static void give_failed(msh_session *s, call *c, msh_session_event *out)
{
    const char *name = msh_gcs_name(c->type);
    *out = (msh_session_event){.kind = MSH_SESSION_FAILED, .type = c->type, .id = c->id, .tag = c->tag};
    if (c->failed == MSH_DEADLINE_EXCEEDED)
        msh_fail(&out->err, c->failed, "the guest did not answer in time");
    else
        msh_fail(&out->err, c->failed, "%s", s->cause.msg);
    msh_err_from(&out->err, MSH_SHIM, name != NULL ? name : "call");
    free(c);
}

/* True when the frame is worth an event. */
static bool give_frame(msh_session *s, const msh_frame *f, msh_session_event *out)
{
    msh_slice payload = f->body;
    if (payload.n > 0 && payload.p[payload.n - 1] == '\n')
        payload.n--;
    *out = (msh_session_event){.type = f->type, .id = f->id, .payload = payload};
    s->counts.received++;
    if (msh_gcs_class_of(f->type) == MSH_GCS_NOTIFICATION) {
        out->kind = MSH_SESSION_NOTIFY;
        return true;
    }
    if (msh_gcs_class_of(f->type) != MSH_GCS_RESPONSE || f->id >= s->next_id) {
        s->counts.unknown++;
        return false;
    }
    call *c = take(s, f->id);
    if (c == NULL) {
        s->counts.late++;
        return false;
    }
    if (f->type != msh_gcs_response(c->type))
        s->counts.mismatch++;
    out->kind = MSH_SESSION_ANSWER;
    out->tag = c->tag;
    free(c);
    return true;
}

bool msh_session_event_next(msh_session *s, msh_session_event *out)
{
    if (s->state != MSH_SESSION_OPEN)
        msh_frame_decoder_free(&s->in);
    for (;;) {
        msh_node *n = msh_list_shift(&s->over);
        if (n != NULL) {
            give_failed(s, MSH_LIST_OF(n, call, node), out);
            return true;
        }
        if (s->ended) {
            s->ended = false;
            *out = (msh_session_event){.kind = MSH_SESSION_ENDED, .err = s->cause};
            return true;
        }
        if (s->state != MSH_SESSION_OPEN)
            return false;
        msh_frame f;
        msh_err bad;
        msh_code rc = msh_frame_next(&s->in, &f, &bad);
        if (rc == MSH_AGAIN)
            return false;
        if (rc != MSH_OK)
            msh_session_lost(s, &bad);
        else if (give_frame(s, &f, out))
            return true;
    }
}

bool msh_session_out(msh_session *s, msh_buf *batch)
{
    if (msh_buf_size(&s->out) == 0)
        return false;
    msh_buf spare = *batch;
    size_t limit = s->out.limit;
    *batch = s->out;
    batch->limit = 0;
    s->out = spare;
    if (s->out.cap > KEEP)
        msh_buf_free(&s->out);
    s->out.start = s->out.end = 0;
    s->out.limit = limit;
    return true;
}

msh_session_state msh_session_state_of(const msh_session *s)
{
    return s->state;
}

uint64_t msh_session_next_id(const msh_session *s)
{
    return s->next_id;
}

msh_session_counts msh_session_count(const msh_session *s)
{
    msh_session_counts c = s->counts;
    c.pending = s->calls.used;
    return c;
}
