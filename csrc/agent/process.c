#include "agent/process.h"
#include "agent/constraints.h"
#include "agent/container.h"
#include "agent/ended.h"
#include "agent/log.h"
#include "agent/oom.h"
#include "sys/fd.h"
#include "sys/terminal.h"
#include "wire/gcs.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define EXTERNALS_MAX 4096u /* ended ones that nobody waited for */

typedef struct wait {
    msh_node node;
    msh_request *request;
    msh_process *process; /* NULL once answered */
    uv_timer_t timer;
    bool has_timer;
} wait_t;

static void on_wait_closed(uv_handle_t *h)
{
    free(h->data);
}

/* Takes the wait out of its process and frees it; its request is the caller's. */
static msh_request *settle(wait_t *w)
{
    msh_request *r = w->request;
    msh_list_remove(&w->node);
    w->process = NULL;
    if (w->has_timer)
        uv_close((uv_handle_t *)&w->timer, on_wait_closed);
    else
        free(w);
    return r;
}

static void on_timeout(uv_timer_t *t)
{
    wait_t *w = t->data;
    msh_refuse(settle(w), MSH_HR_TIMEOUT, NULL);
}

static void answer_code(msh_request *r, uint32_t code)
{
    json_t *o = json_object();
    json_object_set_new(o, "ExitCode", json_integer(code));
    msh_answer(r, o);
}

static void collect(msh_process *p, msh_request *r)
{
    p->collected = true;
    p->told = r->connection > p->told ? r->connection : p->told;
    answer_code(r, p->code);
}

static void answer_waits(msh_process *p)
{
    while (!msh_list_empty(&p->waits)) {
        wait_t *w = MSH_LIST_OF(p->waits.next, wait_t, node);
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): settle takes it off the list */
        collect(p, settle(w));
    }
}

static void trim_externals(msh_agent *a)
{
    for (msh_node *n = a->externals.next, *next; n != &a->externals && a->n_externals > EXTERNALS_MAX;
         n = next) {
        next = n->next;
        msh_process *p = MSH_LIST_OF(n, msh_process, node);
        if (p->exited)
            msh_process_free(p);
    }
}

static void on_exit_of(void *ctx, pid_t pid, int status)
{
    msh_process *p = ctx;
    p->exited = true;
    if (p->kind != MSH_INIT || p->container == NULL || !p->container->starting)
        msh_fd_close(&p->console); /* an init that is being started has yet to get its streams from it */
    if (p->dead) {
        free(p);
        return;
    }
    if (WIFEXITED(status))
        p->code = (uint32_t)WEXITSTATUS(status);
    else
        p->code = p->kind == MSH_EXTERNAL ? UINT32_MAX : 128u + (uint32_t)WTERMSIG(status);
    msh_info("process %d of %.100s ended with %u", (int)pid,
             p->container == NULL ? "the UVM" : p->container->id, p->code);
    if (p->container != NULL)
        msh_oom_check(p->container); /* why it ended is told before that it ended */
    msh_streams_exited(p->agent->streams, p->owner);
    answer_waits(p);
    if (p->kind == MSH_INIT)
        msh_container_exited(p->container);
    else if (p->collected)
        msh_process_free(p);
    else if (p->kind == MSH_EXTERNAL)
        trim_externals(p->agent);
}

msh_process *msh_process_new(msh_agent *a, msh_container *c, msh_process_kind kind, pid_t pid, uint64_t owner,
                             uint64_t window, msh_err *err)
{
    msh_process *p = calloc(1, sizeof *p);
    if (p == NULL) {
        msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
        return NULL;
    }
    *p = (msh_process){.agent = a, .container = c, .kind = kind, .pid = pid, .owner = owner, .console = -1};
    msh_list_init(&p->waits);
    if (msh_reap_watch(a->reap, pid, window, on_exit_of, p, err) != MSH_OK) {
        free(p);
        return NULL;
    }
    msh_list_push(kind == MSH_EXTERNAL ? &a->externals : &c->processes, &p->node);
    a->n_externals += kind == MSH_EXTERNAL;
    return p;
}

msh_process *msh_process_find(msh_agent *a, const msh_container *c, pid_t pid)
{
    const msh_node *head = c == NULL ? &a->externals : &c->processes;
    for (msh_node *n = head->next; n != head; n = n->next) {
        msh_process *p = MSH_LIST_OF(n, msh_process, node);
        if (p->pid == pid)
            return p;
    }
    return NULL;
}

void msh_process_free(msh_process *p)
{
    while (!msh_list_empty(&p->waits)) {
        wait_t *w = MSH_LIST_OF(p->waits.next, wait_t, node);
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): as above */
        msh_refuse(settle(w), MSH_HR_NOT_FOUND, NULL);
    }
    if (p->kind == MSH_EXTERNAL)
        p->agent->n_externals--;
    if (p->exited && p->collected && p->kind != MSH_INIT)
        msh_ended_keep(p->agent, p->container == NULL ? NULL : p->container->id, p->pid, p->code, p->told);
    if (p->container != NULL && p->container->init == p)
        p->container->init = NULL;
    msh_list_remove(&p->node);
    msh_fd_close(&p->console);
    p->container = NULL;
    p->dead = true;
    if (p->exited)
        free(p);
}

/* The process that a request names; refuses and gives NULL without one. */
static msh_process *named(msh_request *r, pid_t pid)
{
    msh_container *c = NULL;
    if (!msh_is_null_container(r->container) && (c = msh_container_of(r)) == NULL)
        return NULL;
    msh_process *p = msh_process_find(r->agent, c, pid);
    if (p == NULL)
        msh_refuse(r, MSH_HR_NOT_FOUND, NULL);
    return p;
}

void msh_on_wait(msh_request *r)
{
    msh_reader in = msh_read(r->body);
    pid_t pid = (pid_t)msh_read_number(&in, "ProcessId", INT32_MAX);
    uint64_t within = msh_read_number(&in, "TimeoutInMs", UINT32_MAX);
    if (in.bad != NULL) {
        msh_refuse(r, MSH_HR_INVALID_JSON, in.bad);
        return;
    }
    msh_container *owner = NULL;
    bool inside = !msh_is_null_container(r->container);
    uint32_t code;
    if (inside && (owner = msh_container_of(r)) == NULL)
        return;
    msh_process *p = msh_process_find(r->agent, owner, pid);
    if (p == NULL) {
        if (msh_ended_find(r->agent, inside ? r->container : NULL, pid, &code))
            answer_code(r, code);
        else
            msh_refuse(r, MSH_HR_NOT_FOUND, NULL);
        return;
    }
    if (p->exited) {
        msh_container *c = p->container;
        bool init = p->kind == MSH_INIT;
        collect(p, r);
        if (init)
            msh_container_maybe_notify(c);
        else
            msh_process_free(p);
        return;
    }
    wait_t *w = calloc(1, sizeof *w);
    if (w == NULL) {
        msh_refuse(r, MSH_HR_FAIL, "no memory");
        return;
    }
    w->request = r;
    w->process = p;
    msh_list_push(&p->waits, &w->node);
    if (within == MSH_GCS_WAIT_FOREVER)
        return;
    w->has_timer = true;
    w->timer.data = w;
    uv_timer_init(r->agent->loop, &w->timer);
    uv_timer_start(&w->timer, on_timeout, within, 0);
}

/* With `group` to all of the process's group (extension SignalGroup). The runtime that made it had begun a session
 * (spawn.c), so nobody else is in there. */
static int deliver(const msh_process *p, int sig, bool group)
{
    pid_t leader = group ? getpgid(p->pid) : -1;
    return kill(leader > 1 && leader != getpgrp() ? -leader : p->pid, sig);
}

void msh_on_signal(msh_request *r)
{
    msh_reader in = msh_read(r->body);
    pid_t pid = (pid_t)msh_read_number(&in, "ProcessId", INT32_MAX);
    msh_reader options = msh_read(msh_read_object(&in, "Options"));
    int sig = (int)msh_read_signed(&options, "Signal", -1, 64);
    bool group = msh_read_flag(&options, "Group");
    if (in.bad != NULL || options.bad != NULL) {
        msh_refuse(r, MSH_HR_INVALID_JSON, in.bad != NULL ? in.bad : options.bad);
        return;
    }
    if (sig == 0)
        sig = SIGKILL;
    msh_process *p = named(r, pid);
    if (p == NULL)
        return;
    /* While it is not reaped, the pid cannot be anybody else's (reap.h). */
    if (p->exited || deliver(p, sig, group) != 0) {
        int32_t hr = p->exited || errno == ESRCH ? MSH_HR_NOT_FOUND
                     : errno == EINVAL           ? MSH_HR_INVALID_ARGUMENT
                                                 : MSH_HR_FAIL;
        msh_refuse(r, hr, p->exited ? "the process has ended" : strerror(errno));
        return;
    }
    if (p->kind == MSH_INIT && (sig == SIGTERM || sig == SIGKILL))
        p->container->exit_type = sig == SIGTERM ? MSH_GRACEFUL_EXIT : MSH_FORCED_EXIT;
    if (p->container != NULL && (sig == SIGTERM || sig == SIGKILL))
        msh_container_thaw(p->container); /* a frozen process hears nothing */
    msh_answer(r, NULL);
}

void msh_on_resize(msh_request *r)
{
    msh_reader in = msh_read(r->body);
    pid_t pid = (pid_t)msh_read_number(&in, "ProcessId", INT32_MAX);
    msh_terminal_size size = {(uint16_t)msh_read_number(&in, "Height", UINT16_MAX),
                              (uint16_t)msh_read_number(&in, "Width", UINT16_MAX)};
    if (in.bad != NULL) {
        msh_refuse(r, MSH_HR_INVALID_JSON, in.bad);
        return;
    }
    const msh_process *p = named(r, pid);
    msh_err err = {0};
    if (p == NULL)
        return;
    if (!p->terminal) {
        msh_refuse(r, MSH_HR_FAIL, "the process has no terminal");
        return;
    }
    if (p->console >= 0) /* after the exit there is nobody to tell, and that is no failure */
        msh_terminal_set_size(p->console, size, &err);
    msh_finish(r, &err);
}
