/* GetProperties. */
#include "agent/cgroup.h"
#include "agent/container.h"
#include "agent/stats.h"
#include "wire/gcs.h"
#include <stdlib.h>
#include <string.h>

#define PIDS_MAX 4096u

static bool asked_for(const json_t *query, const char *type)
{
    size_t i;
    json_t *v;
    json_array_foreach(msh_json_get(query, "PropertyTypes"), i, v)
    {
        const char *s = json_string_value(v);
        if (s != NULL && strcmp(s, type) == 0)
            return true;
    }
    return false;
}

static void add_pid(json_t *list, pid_t pid)
{
    json_t *o = json_object();
    json_object_set_new(o, "ProcessId", json_integer(pid));
    json_array_append_new(list, o);
}

/* What lives in the container's cgroup, and what has ended but is still known. */
static json_t *process_list(const msh_container *c)
{
    json_t *list = json_array();
    pid_t *pids = calloc(PIDS_MAX, sizeof *pids);
    size_t n = pids == NULL ? 0 : msh_inner_cgroup_pids(c->cgroup, pids, PIDS_MAX);
    for (size_t i = 0; i < n; i++)
        add_pid(list, pids[i]);
    for (msh_node *at = c->processes.next; at != &c->processes; at = at->next) {
        const msh_process *p = MSH_LIST_OF(at, msh_process, node);
        bool listed = false;
        for (size_t i = 0; i < n && !listed; i++)
            listed = pids[i] == p->pid;
        if (!listed)
            add_pid(list, p->pid);
    }
    free(pids);
    return list;
}

void msh_on_get_properties(msh_request *r)
{
    msh_err err = {0};
    if (msh_is_null_container(r->container)) {
        msh_refuse(r, MSH_HR_FAIL, "the UVM has no properties");
        return;
    }
    msh_container *c = msh_container_of(r);
    if (c == NULL)
        return;
    msh_reader in = msh_read(r->body);
    const char *text = msh_read_text(&in, "Query");
    json_t *query = NULL;
    if (in.bad != NULL ||
        (text[0] != '\0' && (query = msh_json_parse(msh_slice_of(text), "Query", &err)) == NULL)) {
        msh_refuse(r, MSH_HR_INVALID_JSON, in.bad != NULL ? in.bad : err.msg);
        return;
    }
    json_t *reply = json_object(), *out = json_object();
    if (asked_for(query, "ProcessList"))
        json_object_set_new(reply, "ProcessList", process_list(c));
    if (asked_for(query, "Statistics")) {
        msh_cg cg = msh_cg_inner(c->cgroup);
        json_object_set_new(reply, "LCOWMetrics", msh_stats(&cg));
    }
    char *inner = json_dumps(reply, JSON_COMPACT);
    json_object_set_new(out, "Properties", json_string(inner == NULL ? "{}" : inner));
    free(inner);
    json_decref(reply);
    json_decref(query);
    msh_answer(r, out);
}
