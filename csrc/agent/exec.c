/* ExecuteProcess: the init of a container, a further process in it, or one of the UVM itself. */
#include "agent/console.h"
#include "agent/container.h"
#include "agent/fs.h"
#include "agent/log.h"
#include "agent/program.h"
#include "agent/root.h"
#include "agent/split.h"
#include "agent/stdio.h"
#include "agent/world.h"
#include "wire/gcs.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct exec_job {
    msh_request *request;
    msh_container *container; /* NULL for external */
    msh_process_kind kind;
    msh_stdio io;
    bool terminal;
    msh_terminal_size size; /* 0 by 0: not said */
    char *id;               /* of the container */
    uint64_t serial;
    json_t *params;
    json_t *process; /* exec: as the runtime gets it */
    pid_t init;
    uint64_t window, owner;
    /* results */
    pid_t pid;
    int sock[3], mine[3];
    int console; /* init's own is its process's */
    msh_err err;
} exec_job;

/* The container may have ended or gone while the request waited for its turn. */
static void exec_begin(void *ctx)
{
    exec_job *x = ctx;
    msh_container *c = x->container = msh_container_find(x->request->agent, x->id);
    if (c != NULL && c->serial != x->serial)
        c = x->container = NULL; /* another one, made meanwhile */
    if (c == NULL || c->init == NULL || (x->kind == MSH_EXEC && c->init->exited)) {
        msh_fail(&x->err, MSH_FAILED_PRECONDITION, "the container has ended");
        x->err.hresult = c == NULL ? MSH_HR_SYSTEM_NOT_FOUND : MSH_HR_SYSTEM_STOPPED;
        return;
    }
    if (x->kind == MSH_EXEC && c->frozen) {
        msh_fail(&x->err, MSH_FAILED_PRECONDITION, "the container is frozen");
        x->err.hresult = MSH_HR_INVALID_STATE;
        return;
    }
    x->init = c->init->pid;
    if (x->kind == MSH_INIT) {
        x->terminal = c->terminal;
        x->console = c->init->console;
    }
}

static bool said(msh_terminal_size size)
{
    return size.rows != 0 || size.columns != 0;
}

/* ---- on a pool thread ---- */

static void init_work(void *ctx)
{
    exec_job *x = ctx;
    if (x->err.code != MSH_OK)
        return;
    msh_runtime *rt = x->request->agent->runtime;
    msh_code rc = msh_stdio_dial(x->request->agent, &x->io, x->sock, &x->err);
    if (rc == MSH_OK && x->console >= 0 && said(x->size))
        rc = msh_terminal_set_size(x->console, x->size, &x->err); /* before its first look at it */
    if (rc == MSH_OK)
        rc = rt->ops->start(rt, x->container->id, &x->err);
    if (rc != MSH_OK)
        msh_stdio_close(x->sock);
}

/* Whether a process has ended or is on its way out, reaped or not. With it goes its pid namespace, and the runtime then
 * fails in a dozen ways that tell nothing: no memory for a fork, no such process, a broken socket. */
static bool is_ending(pid_t pid)
{
    enum { PF_EXITING = 0x4 };
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    msh_fd_close(&fd);
    text[n > 0 ? n : 0] = '\0';
    const char *rest = strrchr(text, ')'); /* the name before it may hold anything */
    char state = 'X';
    unsigned flags = 0;
    if (rest == NULL || sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
        return true;
    return state == 'Z' || state == 'X' || (flags & PF_EXITING) != 0;
}

static msh_code exec_user(exec_job *x, int root, msh_err *err)
{
    json_t *user = msh_json_get(x->process, "user");
    const char *name = json_string_value(msh_json_get(user, "username"));
    if (name != NULL && name[0] != '\0') {
        msh_user u;
        msh_code rc = msh_program_user(root, name, &u, err);
        if (rc != MSH_OK)
            return rc;
        json_t *groups = json_array();
        for (size_t i = 0; i < u.n_groups; i++)
            json_array_append_new(groups, json_integer(u.groups[i]));
        json_object_del(user, "username");
        json_object_set_new(user, "uid", json_integer(u.uid));
        json_object_set_new(user, "gid", json_integer(u.gid));
        json_object_set_new(user, "additionalGids", groups);
        return MSH_OK;
    }
    /* The host cannot know the number of a named user: 0 here means "the container's". */
    bool unset = json_integer_value(msh_json_get(user, "uid")) == 0 &&
                 json_integer_value(msh_json_get(user, "gid")) == 0;
    if (x->container->named_user && unset)
        json_object_set(x->process, "user", msh_json_get(x->container->process, "user"));
    return MSH_OK;
}

/* crun leaves the terminal of an exec to root. Too late for a program that looks at once, and no reason to refuse it. */
static void give_terminal(const exec_job *x)
{
    msh_err err = {0};
    json_int_t uid = json_integer_value(msh_json_get(msh_json_get(x->process, "user"), "uid"));
    if (msh_console_give(x->console, (uid_t)uid, &err) != MSH_OK)
        msh_warn("exec: %s", err.msg);
}

static void exec_work(void *ctx)
{
    exec_job *x = ctx;
    msh_err *err = &x->err;
    msh_runtime *rt = x->request->agent->runtime;
    int child[3] = {-1, -1, -1};
    if (err->code != MSH_OK)
        return;
    int root = msh_program_root(x->init);
    msh_code rc = root < 0 ? msh_fail_errno(err, errno, "root of the container") : MSH_OK;
    if (rc != MSH_OK)
        err->hresult = MSH_HR_SYSTEM_STOPPED;
    if (rc == MSH_OK)
        rc = exec_user(x, root, err);
    if (rc == MSH_OK)
        rc = msh_program_find(root, x->process, err);
    if (rc == MSH_OK)
        rc = msh_program_runs(root, x->process, err);
    msh_fd_close(&root);
    if (rc == MSH_OK)
        rc = msh_stdio_dial(x->request->agent, &x->io, x->sock, err);
    if (rc == MSH_OK && !x->terminal)
        rc = msh_stdio_pipes(x->io.want, child, x->mine, err);
    if (rc == MSH_OK)
        rc = rt->ops->exec(rt, x->container->id, x->process, child, x->terminal ? &x->console : NULL, &x->pid,
                           err);
    if (rc == MSH_OK && x->terminal)
        give_terminal(x);
    msh_stdio_close(child);
    if (rc != MSH_OK) {
        msh_stdio_close(x->sock);
        msh_stdio_close(x->mine);
    }
    if (rc != MSH_OK && is_ending(x->init)) {
        msh_fail(err, MSH_FAILED_PRECONDITION, "the container has ended");
        err->hresult = MSH_HR_SYSTEM_STOPPED;
    }
}

static void free_list(char **list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++)
        free(list[i]);
    free(list);
}

static char **environment(const json_t *env)
{
    const char *key;
    json_t *v;
    size_t n = 0;
    char **list = calloc(json_object_size(env) + 1, sizeof *list);
    if (list == NULL)
        return NULL;
    json_object_foreach((json_t *)env, key, v)
    {
        const char *value = json_is_string(v) ? json_string_value(v) : "";
        if (key[0] != '\0' && strchr(key, '=') == NULL && asprintf(&list[n], "%s=%s", key, value) > 0)
            n++;
    }
    list[n] = NULL;
    return list;
}

/* Without pipes of ours: the sockets are the process's descriptors, so they must block as files do. */
static void blocking(int sock[3])
{
    for (int i = 0; i < 3; i++)
        if (sock[i] >= 0)
            fcntl(sock[i], F_SETFL, fcntl(sock[i], F_GETFL) & ~O_NONBLOCK);
}

static msh_code arguments(const json_t *params, char ***out, msh_err *err)
{
    msh_reader in = msh_read(params);
    const json_t *args = msh_read_texts(&in, "CommandArgs");
    size_t n = json_array_size(args);
    if (n == 0)
        return msh_split_command(msh_read_text(&in, "CommandLine"), out, err);
    char **list = calloc(n + 1, sizeof *list);
    for (size_t i = 0; list != NULL && i < n; i++)
        if ((list[i] = strdup(json_string_value(json_array_get(args, i)))) == NULL) {
            free_list(list);
            list = NULL;
        }
    if (list == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    *out = list;
    return MSH_OK;
}

static void external_work(void *ctx)
{
    exec_job *x = ctx;
    msh_agent *a = x->request->agent;
    msh_err *err = &x->err;
    char path[4096];
    int slave = -1;
    char **argv = NULL, **env = environment(msh_json_get(x->params, "Environment"));
    const char *cwd = json_string_value(msh_json_get(x->params, "WorkingDirectory"));
    msh_code rc =
        env == NULL ? msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory") : arguments(x->params, &argv, err);
    const char *program = argv != NULL && argv[0] != NULL ? argv[0] : "";
    if (rc == MSH_OK && program[0] == '\0')
        rc = msh_fail(err, MSH_INVALID_ARGUMENT, "the process names no program");
    if (rc == MSH_OK)
        rc = msh_spawn_find(program, MSH_GUEST_PATH, path, sizeof path, err);
    if (rc == MSH_OK)
        rc = msh_stdio_dial(a, &x->io, x->sock, err);
    if (rc == MSH_OK && x->terminal)
        rc = msh_console_open(&x->console, &slave, err);
    if (rc == MSH_OK && x->terminal && said(x->size))
        rc = msh_terminal_set_size(x->console, x->size, err);
    if (rc == MSH_OK) {
        if (!x->terminal)
            blocking(x->sock);
        msh_spawn s = {.path = path,
                       .argv = (const char *const *)argv,
                       .env = (const char *const *)env,
                       .cwd = cwd == NULL || cwd[0] == '\0' ? NULL : cwd};
        for (int i = 0; i < 3; i++)
            s.fd[i] = x->terminal ? slave : x->sock[i] >= 0 ? x->sock[i] : MSH_SPAWN_NULL;
        s.terminal = x->terminal;
        rc = msh_reap_start(a->reap, &s, &x->pid, err);
    }
    if (rc != MSH_OK || !x->terminal)
        msh_stdio_close(x->sock);
    if (rc != MSH_OK)
        msh_fd_close(&x->console);
    msh_fd_close(&slave);
    free_list(argv);
    free_list(env);
}

/* ---- on the loop ---- */

static void finish(exec_job *x, pid_t pid)
{
    if (x->err.code == MSH_OK) {
        json_t *o = json_object();
        json_object_set_new(o, "ProcessId", json_integer(pid));
        msh_answer(x->request, o);
    } else {
        msh_refuse_err(x->request, &x->err);
    }
    json_decref(x->params);
    json_decref(x->process);
    free(x->id);
    free(x);
}

static void init_done(void *ctx)
{
    exec_job *x = ctx;
    msh_container *c = x->container;
    pid_t pid = x->init;
    if (c != NULL)
        c->starting = false;
    if (x->err.code == MSH_OK && c != NULL) {
        if (c->state == MSH_CREATED)
            c->state = MSH_RUNNING;
        if (x->terminal)
            msh_console_stream(c->agent, c->init->owner, &x->io, x->sock, c->init->console, true);
        else
            msh_stdio_stream(c->agent, c->init->owner, &x->io, x->sock, c->stdio, true);
        if (c->init->exited)
            msh_streams_exited(c->agent->streams, c->init->owner);
    }
    if (c != NULL && c->init != NULL && c->init->exited)
        msh_fd_close(&c->init->console);
    finish(x, pid);
}

static void exec_done(void *ctx)
{
    exec_job *x = ctx;
    msh_agent *a = x->request->agent;
    pid_t pid = x->pid;
    if (x->err.code == MSH_OK) {
        if (x->terminal)
            msh_console_stream(a, x->owner, &x->io, x->sock, x->console, false);
        else
            msh_stdio_stream(a, x->owner, &x->io, x->sock, x->mine, false);
        msh_process *p = msh_process_new(a, x->container, x->kind, pid, x->owner, x->window, &x->err);
        if (p == NULL) {
            kill(pid, SIGKILL);
            msh_streams_exited(a->streams, x->owner);
            msh_fd_close(&x->console);
        } else {
            p->terminal = x->terminal;
            p->console = x->console;
        }
    }
    msh_reap_window_close(a->reap);
    finish(x, pid);
}

static msh_code read_io(const json_t *settings, const json_t *params, msh_stdio *io, msh_terminal_size *size,
                        msh_err *err)
{
    static const char *const flags[3] = {"CreateStdInPipe", "CreateStdOutPipe", "CreateStdErrPipe"};
    static const char *const ports[3] = {"StdIn", "StdOut", "StdErr"};
    msh_reader s = msh_read(settings), p = msh_read(params);
    msh_reader relay = msh_read(msh_read_object(&s, "VsockStdioRelaySettings"));
    for (int i = 0; i < 3; i++) {
        io->want[i] = msh_read_flag(&p, flags[i]);
        io->port[i] = (uint32_t)msh_read_number(&relay, ports[i], UINT32_MAX);
    }
    msh_read_texts(&p, "CommandArgs");
    msh_read_text(&p, "CommandLine");
    msh_read_text(&p, "WorkingDirectory");
    msh_read_object(&p, "Environment");
    msh_read_object(&p, "OciProcess");
    msh_read_flag(&p, "CreateInUtilityVM");
    msh_read_flag(&p, "EmulateConsole");
    *size = msh_console_read_size(&p);
    const char *bad = s.bad != NULL ? s.bad : p.bad != NULL ? p.bad : relay.bad;
    if (bad == NULL)
        return MSH_OK;
    msh_fail(err, MSH_INVALID_ARGUMENT, "process parameters: %s has a wrong type", bad);
    err->hresult = MSH_HR_INVALID_JSON;
    return err->code;
}

/* What an exec may run, on a copy of the host's object: limits are the container's. */
static msh_code prepare_exec(exec_job *x, msh_err *err)
{
    msh_container *c = x->container;
    json_t *given = msh_json_get(x->params, "OciProcess");
    msh_code rc = msh_process_check(given, "process", err);
    if (rc != MSH_OK)
        return rc;
    x->terminal = json_is_true(msh_json_get(given, "terminal"));
    if (c->state == MSH_TERMINATED || c->init == NULL || c->init->exited) {
        msh_fail(err, MSH_FAILED_PRECONDITION, "the container has ended");
        err->hresult = MSH_HR_SYSTEM_STOPPED;
        return err->code;
    }
    x->process =
        json_deep_copy(given); /* the task changes it, and the user object may become the container's */
    json_t *limits = json_deep_copy(msh_json_get(c->process, "rlimits"));
    json_object_del(x->process, "rlimits");
    if (limits != NULL)
        json_object_set_new(x->process, "rlimits", limits);
    if (msh_json_get(x->process, "user") == NULL)
        json_object_set_new(x->process, "user", json_pack("{s:i,s:i}", "uid", 0, "gid", 0));
    if (x->terminal && said(x->size)) /* the runtime is nearly always in time for the first look */
        json_object_set_new(x->process, "consoleSize",
                            json_pack("{s:i,s:i}", "height", x->size.rows, "width", x->size.columns));
    return x->process == NULL ? msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory") : MSH_OK;
}

static msh_code choose(exec_job *x, msh_err *err)
{
    bool inside = json_is_true(msh_json_get(x->params, "CreateInUtilityVM"));
    msh_container *c = x->container;
    if (inside || c == NULL) {
        x->container = NULL;
        x->kind = MSH_EXTERNAL;
        x->terminal = json_is_true(msh_json_get(x->params, "EmulateConsole"));
        return MSH_OK;
    }
    if (msh_json_get(x->params, "OciProcess") != NULL) {
        x->kind = MSH_EXEC;
        return prepare_exec(x, err);
    }
    x->kind = MSH_INIT;
    if (c->state == MSH_CREATED && !c->starting)
        return MSH_OK;
    msh_fail(err, MSH_FAILED_PRECONDITION, "init was started before");
    err->hresult = c->state == MSH_TERMINATED ? MSH_HR_SYSTEM_STOPPED : MSH_HR_INVALID_STATE;
    return err->code;
}

static msh_code submit(exec_job *x, msh_err *err)
{
    msh_agent *a = x->request->agent;
    msh_task t = {.work = external_work, .done = exec_done, .ctx = x};
    x->owner = ++a->serial;
    if (x->kind != MSH_EXTERNAL && (x->id = strdup(x->container->id)) == NULL)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    if (x->kind != MSH_EXTERNAL) {
        t.begin = exec_begin;
        x->serial = x->container->serial;
        t.key[0] = msh_key_of("container", x->id, x->kind == MSH_EXEC);
    }
    if (x->kind == MSH_EXEC)
        t.work = exec_work;
    if (x->kind == MSH_INIT) {
        t.work = init_work;
        t.done = init_done;
    } else {
        x->window = msh_reap_window(a->reap);
    }
    msh_code rc = msh_tasks_submit(a->tasks, &t, err);
    if (rc != MSH_OK && x->kind != MSH_INIT)
        msh_reap_window_close(a->reap);
    if (rc == MSH_OK && x->kind == MSH_INIT)
        x->container->starting = true;
    return rc;
}

void msh_on_execute(msh_request *r)
{
    msh_err err = {0};
    msh_container *c = NULL;
    if (!msh_is_null_container(r->container) && (c = msh_container_of(r)) == NULL)
        return;
    msh_reader in = msh_read(r->body);
    json_t *settings = msh_read_object(&in, "Settings");
    msh_reader s = msh_read(settings);
    const char *text = msh_read_text(&s, "ProcessParameters");
    json_t *params = in.bad != NULL || s.bad != NULL
                         ? NULL
                         : msh_json_parse(msh_slice_of(text), "ProcessParameters", &err);
    if (params == NULL) {
        msh_refuse(r, MSH_HR_INVALID_JSON, err.msg);
        return;
    }
    exec_job *x = calloc(1, sizeof *x);
    if (x == NULL) {
        json_decref(params);
        msh_refuse(r, MSH_HR_FAIL, "no memory");
        return;
    }
    *x = (exec_job){.request = r,
                    .container = c,
                    .params = params,
                    .sock = {-1, -1, -1},
                    .mine = {-1, -1, -1},
                    .console = -1};
    msh_code rc = read_io(settings, params, &x->io, &x->size, &err);
    if (rc == MSH_OK)
        rc = choose(x, &err);
    if (rc == MSH_OK)
        rc = submit(x, &err);
    if (rc != MSH_OK) {
        x->err = err;
        finish(x, 0);
    }
} /* NOLINT(clang-analyzer-unix.Malloc): the task has x */
