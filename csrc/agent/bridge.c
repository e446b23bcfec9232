#include "agent/bridge.h"
#include "agent/log.h"
#include "base/buf.h"
#include "sys/fd.h"
#include "sys/usock.h"
#include "wire/frame.h"
#include "wire/gcs.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REDIAL_MS   100u
#define READ_SIZE   (256u << 10)
#define OUT_MAX     (96u << 20) /* what waits for a host that does not read */
#define NOTICES_MAX 4096u

/* WAITING --timer, connected--> OPEN --end, error, bad frame--> CLOSING --handle closed--> WAITING */
typedef enum state { WAITING, OPEN, CLOSING } state;

struct msh_bridge {
    msh_agent *agent;
    uv_pipe_t pipe;
    uv_timer_t timer;
    uv_prepare_t before;
    uv_check_t after;
    uv_write_t write;
    state state;
    bool negotiated, writing, told;
    uint64_t connection;
    msh_frame_decoder decoder;
    msh_buf out, in_flight;
    json_t *notices; /* array: made while there was no connection */
    char input[READ_SIZE];
};

static void dial_later(msh_bridge *b);

static void on_closed(uv_handle_t *h)
{
    msh_bridge *b = h->data;
    msh_frame_decoder_free(&b->decoder);
    msh_buf_free(&b->out);
    msh_buf_free(&b->in_flight);
    b->writing = false;
    b->state = WAITING;
    dial_later(b);
}

static void leave(msh_bridge *b)
{
    if (b->state != OPEN)
        return;
    b->state = CLOSING;
    uv_close((uv_handle_t *)&b->pipe, on_closed);
}

static void drop(msh_bridge *b, const char *why)
{
    if (b->state == OPEN)
        msh_warn("bridge: connection ended: %s", why);
    leave(b);
}

static void on_written(uv_write_t *w, int status)
{
    msh_bridge *b = w->data;
    b->writing = false;
    msh_buf_consume(&b->in_flight, msh_buf_size(&b->in_flight));
    if (status != 0 && b->state == OPEN)
        drop(b, uv_strerror(status));
}

/* Everything that one turn of the loop produced leaves in one write. */
static void flush(msh_bridge *b)
{
    if (b->state != OPEN || b->writing || msh_buf_size(&b->out) == 0)
        return;
    msh_slice s = msh_buf_slice(&b->out);
    uv_buf_t u = uv_buf_init((char *)s.p, (unsigned)s.n);
    int n = uv_try_write((uv_stream_t *)&b->pipe, &u, 1);
    if (n < 0 && n != UV_EAGAIN) {
        drop(b, uv_strerror(n));
        return;
    }
    if (n > 0)
        msh_buf_consume(&b->out, (size_t)n);
    if (msh_buf_size(&b->out) == 0) {
        if (b->out.cap > READ_SIZE)
            msh_buf_free(&b->out);
        return;
    }
    msh_buf swap = b->in_flight;
    b->in_flight = b->out;
    b->out = swap;
    s = msh_buf_slice(&b->in_flight);
    u = uv_buf_init((char *)s.p, (unsigned)s.n);
    b->write.data = b;
    b->writing = true;
    int rc = uv_write(&b->write, (uv_stream_t *)&b->pipe, &u, 1, on_written);
    if (rc != 0) {
        b->writing = false;
        drop(b, uv_strerror(rc));
    }
}

static void on_before(uv_prepare_t *h)
{
    flush(h->data);
}

static void on_after(uv_check_t *h)
{
    flush(h->data);
}

static void put(msh_bridge *b, uint32_t type, uint64_t id, const json_t *body)
{
    msh_err err = {0};
    char *text = json_dumps(body, JSON_COMPACT);
    if (text == NULL) {
        msh_warn("bridge: a message could not be written as JSON");
        return;
    }
    msh_code rc = msh_frame_append(&b->out, type, id, msh_slice_of(text), false, MSH_FRAME_CEILING, &err);
    free(text);
    if (rc != MSH_OK) {
        msh_warn("bridge: %s", err.msg);
        drop(b, "the host does not read");
    }
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *out)
{
    (void)hint;
    msh_bridge *b = h->data;
    *out = uv_buf_init(b->input, sizeof b->input);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    msh_bridge *b = s->data;
    msh_err err = {0};
    msh_frame f;
    if (n == UV_EOF) { /* how every life of a VM ends */
        msh_info("bridge: closed by the host");
        leave(b);
        return;
    }
    if (n < 0) {
        drop(b, uv_strerror((int)n));
        return;
    }
    if (n == 0)
        return;
    msh_code rc = msh_frame_feed(&b->decoder, (msh_slice){buf->base, (size_t)n}, &err);
    while (rc == MSH_OK && (rc = msh_frame_next(&b->decoder, &f, &err)) == MSH_OK) {
        if (msh_gcs_class_of(f.type) != MSH_GCS_REQUEST) {
            rc = msh_fail(&err, MSH_PROTOCOL, "frame of type 0x%08x is not a request", f.type);
            break;
        }
        msh_dispatch(b->agent, f.type, f.id, f.body, &b->negotiated);
        if (b->state != OPEN)
            return;
    }
    if (rc != MSH_AGAIN)
        drop(b, err.msg);
}

static void flush_notices(msh_bridge *b)
{
    size_t i;
    json_t *v;
    json_array_foreach(b->notices, i, v)
        put(b, (uint32_t)json_integer_value(json_array_get(v, 0)), 0, json_array_get(v, 1));
    json_array_clear(b->notices);
}

static void on_timer(uv_timer_t *t)
{
    msh_bridge *b = t->data;
    char path[256];
    int fd = -1;
    msh_err err = {0};
    if (b->state != WAITING)
        return;
    msh_port_path(b->agent, MSH_PORT_BRIDGE, path, sizeof path);
    if (msh_socket_connect(path, &fd, &err) != MSH_OK) {
        if (!b->told)
            msh_info("bridge: %s; dialling every %u ms", err.msg, REDIAL_MS);
        b->told = true;
        dial_later(b);
        return;
    }
    uv_pipe_init(b->agent->loop, &b->pipe, 0);
    b->pipe.data = b;
    if (uv_pipe_open(&b->pipe, fd) != 0) {
        msh_fd_close(&fd);
        b->state = CLOSING;
        uv_close((uv_handle_t *)&b->pipe, on_closed);
        return;
    }
    b->state = OPEN;
    b->connection++;
    b->negotiated = b->told = false;
    msh_buf_init(&b->out, OUT_MAX);
    msh_buf_init(&b->in_flight, OUT_MAX);
    msh_frame_decoder_init(&b->decoder, msh_frame_cap(MSH_FRAME_CEILING));
    msh_info("bridge: connected");
    flush_notices(b);
    uv_read_start((uv_stream_t *)&b->pipe, on_alloc, on_read);
}

static void dial_later(msh_bridge *b)
{
    uv_timer_start(&b->timer, on_timer, REDIAL_MS, 0);
}

msh_code msh_bridge_open(msh_agent *a, msh_bridge **out, msh_err *err)
{
    msh_bridge *b = calloc(1, sizeof *b);
    if (b == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    b->agent = a;
    b->notices = json_array();
    b->timer.data = b->before.data = b->after.data = b;
    uv_timer_init(a->loop, &b->timer);
    uv_prepare_init(a->loop, &b->before);
    uv_check_init(a->loop, &b->after);
    uv_prepare_start(&b->before, on_before);
    uv_check_start(&b->after, on_after);
    uv_timer_start(&b->timer, on_timer, 0, 0);
    *out = b;
    return MSH_OK;
}

uint64_t msh_bridge_connection(const msh_bridge *b)
{
    return b->connection;
}

void msh_bridge_respond(msh_bridge *b, uint32_t request_type, uint64_t id, json_t *body)
{
    if (b->state == OPEN)
        put(b, msh_gcs_response(request_type), id, body);
    else
        msh_info("bridge: a response was lost with the connection");
    json_decref(body);
}

void msh_bridge_notify(msh_bridge *b, json_t *body)
{
    msh_bridge_tell(b, MSH_GCS_CONTAINER_NOTIFICATION, body);
}

void msh_bridge_tell(msh_bridge *b, uint32_t type, json_t *body)
{
    if (b->state == OPEN)
        put(b, type, 0, body);
    else if (json_array_size(b->notices) < NOTICES_MAX)
        json_array_append_new(b->notices, json_pack("[I,O]", (json_int_t)type, body));
    json_decref(body);
}
