/* crun and runc: the same command line, nearly. */
#include "agent/console.h"
#include "agent/fs.h"
#include "agent/json.h"
#include "agent/log.h"
#include "agent/paths.h"
#include "agent/program.h"
#include "agent/root.h"
#include "agent/runtime.h"
#include "wire/gcs.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WITHIN_MS 120000u
#define ARGS_MAX  20

/* Names of the files of one call; removed when it is over. */
typedef struct call {
    char log[128], pid[128], process[128];
    msh_console console;
    const char *argv[ARGS_MAX];
    size_t n;
} call;

static void arg(call *c, const char *text)
{
    c->argv[c->n++] = text; /* every caller passes a handful */
    c->argv[c->n] = NULL;
}

static void begin(msh_runtime *r, call *c, const char *verb)
{
    unsigned long long n = __atomic_add_fetch(&r->serial, 1, __ATOMIC_RELAXED);
    *c = (call){.console.listener = -1};
    snprintf(c->log, sizeof c->log, MSH_STATE_DIR "/tmp/%llu.log", n);
    snprintf(c->pid, sizeof c->pid, MSH_STATE_DIR "/tmp/%llu.pid", n);
    snprintf(c->process, sizeof c->process, MSH_STATE_DIR "/tmp/%llu.json", n);
    arg(c, r->program);
    arg(c, "--root");
    arg(c, r->state);
    arg(c, "--log");
    arg(c, c->log);
    arg(c, "--log-format");
    arg(c, "json");
    arg(c, verb);
}

/* Before the last argument: where the master of the process's terminal goes. */
static msh_code want_console(msh_runtime *r, call *c, msh_err *err)
{
    char path[128];
    snprintf(path, sizeof path, MSH_STATE_DIR "/tmp/%llu.tty",
             (unsigned long long)__atomic_add_fetch(&r->serial, 1, __ATOMIC_RELAXED));
    msh_code rc = msh_console_listen(&c->console, path, err);
    arg(c, "--console-socket");
    arg(c, c->console.path);
    return rc;
}

static void finish(call *c)
{
    msh_console_close(&c->console);
    unlink(c->log);
    unlink(c->pid);
    unlink(c->process);
}

/* The last message in the runtime's log, which is one JSON object a line. */
static void last_message(const char *path, char *out, size_t size)
{
    msh_buf b;
    msh_buf_init(&b, 256u << 10);
    out[0] = '\0';
    if (msh_fs_read(AT_FDCWD, path, 128u << 10, &b) != 0 ||
        msh_buf_append(&b, (msh_slice){"", 1}) != MSH_OK) {
        msh_buf_free(&b);
        return;
    }
    char *save = NULL;
    for (char *line = strtok_r((char *)msh_buf_slice(&b).p, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        json_t *o = json_loads(line, 0, NULL);
        const char *msg = json_string_value(json_object_get(o, "msg"));
        const char *level = json_string_value(json_object_get(o, "level"));
        if (level == NULL || strcmp(level, "warning") != 0 || out[0] == '\0')
            snprintf(out, size, "%s", msg != NULL ? msg : line);
        json_decref(o);
    }
    msh_buf_free(&b);
}

static int32_t number_for(const char *verb, const char *text)
{
    int32_t hr = msh_program_blame(text);
    if (hr != 0 && strcmp(verb, "delete") != 0)
        return hr;
    if (strcasestr(text, "does not exist") != NULL)
        return MSH_HR_SYSTEM_NOT_FOUND;
    if (strcasestr(text, "already exists") != NULL)
        return MSH_HR_SYSTEM_EXISTS;
    if (strcasestr(text, "invalid id") != NULL || strcasestr(text, "invalid container id") != NULL)
        return MSH_HR_INVALID_ARGUMENT;
    if (strcasestr(text, "is still running") != NULL || strcasestr(text, "not in 'stopped' state") != NULL ||
        strcasestr(text, "is not stopped") != NULL)
        return MSH_HR_INVALID_STATE;
    if (strcasestr(text, "not running") != NULL)
        return MSH_HR_SYSTEM_STOPPED;
    return MSH_HR_FAIL;
}

static msh_code run(msh_runtime *r, call *c, const char *verb, const int fd[3], msh_err *err)
{
    static const char *const env[] = {"PATH=" MSH_GUEST_PATH, "HOME=/root", "XDG_RUNTIME_DIR=" MSH_STATE_DIR,
                                      NULL};
    static const int none[3] = {MSH_SPAWN_NULL, MSH_SPAWN_NULL, MSH_SPAWN_NULL};
    const int *f = fd == NULL ? none : fd;
    msh_spawn s = {.path = r->program, .argv = c->argv, .env = env, .cwd = "/", .fd = {f[0], f[1], f[2]}};
    int status = 0;
    msh_code rc = msh_reap_run(r->reap, &s, WITHIN_MS, &status, err);
    if (rc != MSH_OK || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
        return rc;
    char text[200];
    last_message(c->log, text, sizeof text);
    rc = msh_fail(err, MSH_UNKNOWN, "%s: %s", verb,
                  text[0] != '\0' ? text : "the runtime failed without a message");
    if (err != NULL)
        err->hresult = number_for(verb, text);
    return rc;
}

static msh_code read_pid(const char *path, pid_t *pid, msh_err *err)
{
    char text[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    msh_fd_close(&fd);
    text[n > 0 ? n : 0] = '\0';
    long v = strtol(text, NULL, 10);
    if (v <= 1 || v > INT32_MAX)
        return msh_fail(err, MSH_INTERNAL, "the runtime left no pid");
    *pid = (pid_t)v;
    return MSH_OK;
}

/* The runtime has done its work: the pid, and the terminal if one was asked for. Without its terminal a process is of no
 * use, but it is there: it is ended. */
static msh_code collect(call *c, int *console, pid_t *pid, msh_err *err)
{
    msh_code rc = read_pid(c->pid, pid, err);
    if (rc == MSH_OK && console != NULL && (rc = msh_console_take(&c->console, console, err)) != MSH_OK)
        kill(*pid, SIGKILL);
    return rc;
}

static msh_code op_create(msh_runtime *r, const char *id, const char *bundle, const int fd[3], int *console,
                          pid_t *pid, msh_err *err)
{
    call c;
    msh_code rc = MSH_OK;
    begin(r, &c, "create");
    if (console != NULL)
        rc = want_console(r, &c, err);
    arg(&c, "--bundle");
    arg(&c, bundle);
    arg(&c, "--pid-file");
    arg(&c, c.pid);
    arg(&c, id);
    if (rc == MSH_OK)
        rc = run(r, &c, "create", fd, err);
    if (rc == MSH_OK)
        rc = collect(&c, console, pid, err);
    finish(&c);
    return rc;
}

static msh_code op_start(msh_runtime *r, const char *id, msh_err *err)
{
    call c;
    begin(r, &c, "start");
    arg(&c, id);
    msh_code rc = run(r, &c, "start", NULL, err);
    finish(&c);
    return rc;
}

static msh_code op_exec(msh_runtime *r, const char *id, const json_t *process, const int fd[3], int *console,
                        pid_t *pid, msh_err *err)
{
    call c;
    msh_code rc = MSH_OK;
    begin(r, &c, "exec");
    if (console != NULL)
        rc = want_console(r, &c, err);
    arg(&c, "--detach");
    arg(&c, "--process");
    arg(&c, c.process);
    arg(&c, "--pid-file");
    arg(&c, c.pid);
    arg(&c, id);
    char *text = json_dumps(process, JSON_COMPACT);
    if (rc == MSH_OK)
        rc = text == NULL ? msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory")
                          : msh_fs_write(c.process, msh_slice_of(text), 0600, err);
    free(text);
    if (rc == MSH_OK)
        rc = run(r, &c, "exec", fd, err);
    if (rc == MSH_OK)
        rc = collect(&c, console, pid, err);
    finish(&c);
    return rc;
}

static msh_code op_remove(msh_runtime *r, const char *id, msh_err *err)
{
    call c;
    msh_err mine = {0};
    begin(r, &c, "delete");
    arg(&c, "--force"); /* its processes have ended; what crun believes about a reused pid does not matter */
    arg(&c, id);
    msh_code rc = run(r, &c, "delete", NULL, &mine);
    finish(&c);
    if (rc != MSH_OK && mine.hresult == MSH_HR_SYSTEM_NOT_FOUND)
        rc = MSH_OK;
    if (rc != MSH_OK && err != NULL)
        *err = mine;
    return rc;
}

static const msh_runtime_ops ops = {op_create, op_start, op_exec, op_remove};

msh_code msh_runtime_open(msh_reap *reap, msh_runtime **out, msh_err *err)
{
    char path[256];
    bool crun = msh_spawn_find("crun", MSH_GUEST_PATH, path, sizeof path, NULL) == MSH_OK;
    if (!crun && msh_spawn_find("runc", MSH_GUEST_PATH, path, sizeof path, NULL) != MSH_OK)
        return msh_fail(err, MSH_NOT_FOUND, "neither crun nor runc is installed");
    msh_runtime *r = calloc(1, sizeof *r);
    char *program = strdup(path);
    if (r == NULL || program == NULL) {
        free(r);
        free(program);
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    }
    r->ops = &ops;
    r->reap = reap;
    r->program = program;
    r->crun = crun;
    snprintf(r->state, sizeof r->state, MSH_STATE_DIR "/%s", crun ? "crun" : "runc");
    msh_code rc = msh_fs_mkdirs(r->state, 0700, err);
    if (rc == MSH_OK)
        rc = msh_fs_mkdirs(MSH_STATE_DIR "/tmp", 0700, err);
    if (rc != MSH_OK) {
        free(program);
        free(r);
        return rc;
    }
    *out = r;
    return MSH_OK;
}
