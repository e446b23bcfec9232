/* From a frame to its handler, and from a handler to its answer. */
#include "agent/agent.h"
#include "agent/bridge.h"
#include "agent/log.h"
#include "agent/reply.h"
#include "wire/gcs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    uint32_t type;
    void (*handler)(msh_request *);
} routes[] = {{MSH_GCS_CREATE, msh_on_create},
              {MSH_GCS_START, msh_on_start},
              {MSH_GCS_SHUTDOWN_GRACEFUL, msh_on_shutdown},
              {MSH_GCS_SHUTDOWN_FORCED, msh_on_shutdown},
              {MSH_GCS_EXECUTE_PROCESS, msh_on_execute},
              {MSH_GCS_WAIT_FOR_PROCESS, msh_on_wait},
              {MSH_GCS_SIGNAL_PROCESS, msh_on_signal},
              {MSH_GCS_RESIZE_CONSOLE, msh_on_resize},
              {MSH_GCS_GET_PROPERTIES, msh_on_get_properties},
              {MSH_GCS_MODIFY_SETTINGS, msh_on_modify},
              {MSH_GCS_DUMP_STACKS, msh_on_dump_stacks},
              {MSH_GCS_DELETE_CONTAINER_STATE, msh_on_delete_state}};

bool msh_is_null_container(const char *id)
{
    return strcmp(id, MSH_GCS_NULL_CONTAINER) == 0;
}

void msh_port_path(const msh_agent *a, uint32_t port, char *out, size_t size)
{
    snprintf(out, size, "%s/%u", a->options.sockets, port);
}

static void release(msh_request *r)
{
    r->agent->requests--;
    msh_list_remove(&r->node);
    json_decref(r->body);
    free(r);
}

void msh_answer(msh_request *r, json_t *extra)
{
    json_t *reply = msh_reply_ok(r->activity);
    if (extra != NULL)
        json_object_update(reply, extra);
    json_decref(extra);
    msh_bridge_respond(r->agent->bridge, r->type, r->id, reply);
    release(r);
}

void msh_refuse(msh_request *r, int32_t hresult, const char *text)
{
    const char *name = msh_gcs_name(r->type);
    msh_info("%s %.200s: 0x%08x %s", name == NULL ? "request" : name, r->container, (unsigned)hresult,
             text == NULL ? "" : text);
    msh_bridge_respond(r->agent->bridge, r->type, r->id, msh_reply_fail(r->activity, hresult, text));
    release(r);
}

void msh_refuse_err(msh_request *r, const msh_err *err)
{
    msh_refuse(r, msh_reply_result(err), err->msg);
}

void msh_finish(msh_request *r, const msh_err *err)
{
    if (err->code == MSH_OK)
        msh_answer(r, NULL);
    else
        msh_refuse_err(r, err);
}

/* Of ours; a host that does not ask for them never meets them (PROTOCOL.md). */
static void extensions(const msh_request *r, json_t *reply)
{
    static const char *const known[] = {"OutOfMemory", "ContainerFreezer", "StdioResume", "SignalGroup"};
    msh_reader in = msh_read(r->body);
    const json_t *asked = msh_read_texts(&in, "Extensions");
    json_t *granted = json_array();
    size_t i;
    json_t *v;
    r->agent->tells_oom = r->agent->resumes = false;
    json_array_foreach((json_t *)asked, i, v)
    {
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (strcmp(json_string_value(v), known[k]) == 0) {
                json_array_append(granted, v);
                r->agent->tells_oom = r->agent->tells_oom || k == 0;
                r->agent->resumes = r->agent->resumes || k == 2;
            }
    }
    if (json_array_size(granted) > 0)
        json_object_set(reply, "Extensions", granted);
    json_decref(granted);
}

static void negotiate(msh_request *r, bool *negotiated)
{
    msh_reader in = msh_read(r->body);
    uint64_t least = msh_read_number(&in, "MinimumVersion", UINT32_MAX);
    uint64_t most = msh_read_number(&in, "MaximumVersion", UINT32_MAX);
    if (in.bad != NULL) {
        msh_refuse(r, MSH_HR_INVALID_JSON, in.bad);
        return;
    }
    if (most < MSH_GCS_VERSION || least > MSH_GCS_VERSION) {
        msh_refuse(r, MSH_HR_UNSUPPORTED_VERSION, NULL);
        return;
    }
    *negotiated = true;
    json_t *reply = msh_reply_negotiated(r->activity);
    extensions(r, reply);
    msh_answer(r, reply);
}

static bool guid(const char *s)
{
    static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    if (strlen(s) != sizeof shape - 1)
        return false;
    for (size_t i = 0; shape[i] != '\0'; i++)
        if (shape[i] == '-' ? s[i] != '-' : strchr("0123456789abcdefABCDEF", s[i]) == NULL)
            return false;
    return true;
}

static msh_request *receive(msh_agent *a, uint32_t type, uint64_t id, msh_slice body, msh_err *err)
{
    msh_request *r = calloc(1, sizeof *r);
    if (r == NULL) {
        msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
        return NULL;
    }
    r->agent = a;
    r->type = type;
    r->id = id;
    r->container = r->activity = "";
    r->since = msh_now();
    r->connection = msh_bridge_connection(a->bridge);
    msh_list_push(&a->pending, &r->node);
    a->requests++;
    r->body = msh_json_parse(body, "request", err);
    if (r->body == NULL) {
        err->hresult = MSH_HR_INVALID_JSON;
        return r;
    }
    msh_reader in = msh_read(r->body);
    r->container = msh_read_text(&in, "ContainerId");
    const char *activity = msh_read_text(&in, "ActivityId");
    if (in.bad == NULL && guid(activity)) /* anything else could not be read back by the host */
        r->activity = activity;
    if (in.bad != NULL) {
        msh_fail(err, MSH_INVALID_ARGUMENT, "request: %s has a wrong type", in.bad);
        err->hresult = MSH_HR_INVALID_JSON;
    }
    return r;
}

void msh_dispatch(msh_agent *a, uint32_t type, uint64_t id, msh_slice body, bool *negotiated)
{
    msh_err err = {0};
    msh_request *r = receive(a, type, id, body, &err);
    if (r == NULL)
        return;
    void (*handler)(msh_request *) = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (routes[i].type == type)
            handler = routes[i].handler;
    bool hello = type == MSH_GCS_NEGOTIATE_PROTOCOL;
    if (hello ? *negotiated : handler == NULL || !*negotiated)
        msh_refuse(r, MSH_HR_NOT_IMPLEMENTED, NULL);
    else if (err.code != MSH_OK)
        msh_refuse_err(r, &err);
    else if (hello)
        negotiate(r, negotiated);
    else if (a->requests > MSH_REQUESTS_MAX)
        msh_refuse(r, MSH_HR_FAIL, "too many requests are in flight");
    else
        handler(r);
}
