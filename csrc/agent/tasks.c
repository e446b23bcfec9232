#include "agent/tasks.h"
#include "base/list.h"
#include <stdlib.h>

typedef struct entry {
    msh_node node;
    uv_work_t work;
    msh_tasks *jobs;
    msh_task job;
    bool running;
} entry;

struct msh_tasks {
    uv_loop_t *loop;
    msh_node all; /* in order of submission; a running job stays until it is done */
    size_t n;
};

static uint64_t fnv(uint64_t h, const char *s)
{
    for (; *s != '\0'; s++)
        h = (h ^ (unsigned char)*s) * UINT64_C(1099511628211);
    return (h ^ 0xff) * UINT64_C(1099511628211);
}

msh_key msh_key_of(const char *space, const char *name, bool shared)
{
    uint64_t h = fnv(fnv(UINT64_C(14695981039346656037), space), name);
    return (msh_key){.hash = h == 0 ? 1 : h, .shared = shared};
}

msh_code msh_tasks_open(uv_loop_t *loop, msh_tasks **out, msh_err *err)
{
    msh_tasks *j = calloc(1, sizeof *j);
    if (j == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    j->loop = loop;
    msh_list_init(&j->all);
    *out = j;
    return MSH_OK;
}

static bool in_the_way(const msh_task *a, const msh_task *b)
{
    for (int i = 0; i < MSH_TASKS_KEYS; i++)
        for (int k = 0; k < MSH_TASKS_KEYS; k++)
            if (a->key[i].hash != 0 && a->key[i].hash == b->key[k].hash &&
                !(a->key[i].shared && b->key[k].shared))
                return true;
    return false;
}

static void on_work(uv_work_t *w)
{
    entry *e = w->data;
    e->job.work(e->job.ctx);
}

static void start_ready(msh_tasks *j);

static void on_done(uv_work_t *w, int status)
{
    (void)status; /* never cancelled */
    entry *e = w->data;
    msh_tasks *j = e->jobs;
    msh_list_remove(&e->node);
    j->n--;
    e->job.done(e->job.ctx);
    free(e);
    start_ready(j);
}

static void start_ready(msh_tasks *j)
{
    for (msh_node *n = j->all.next; n != &j->all; n = n->next) {
        entry *e = MSH_LIST_OF(n, entry, node);
        bool free_to_go = !e->running;
        for (msh_node *m = j->all.next; m != n && free_to_go; m = m->next)
            free_to_go = !in_the_way(&MSH_LIST_OF(m, entry, node)->job, &e->job);
        if (!free_to_go)
            continue;
        e->running = true;
        if (e->job.begin != NULL)
            e->job.begin(e->job.ctx);
        uv_queue_work(j->loop, &e->work, on_work, on_done); /* fails only without a callback */
    }
}

msh_code msh_tasks_submit(msh_tasks *jobs, const msh_task *job, msh_err *err)
{
    entry *e = jobs->n >= MSH_TASKS_MAX ? NULL : calloc(1, sizeof *e);
    if (e == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "too many requests wait for their turn");
    e->jobs = jobs;
    e->job = *job;
    e->work.data = e;
    msh_list_push(&jobs->all, &e->node);
    jobs->n++;
    start_ready(jobs);
    return MSH_OK;
}
