/* DumpStacks: what the agent is doing, as text: requests in flight, containers and their processes, streams, threads. */
#include "agent/bridge.h"
#include "agent/container.h"
#include "base/time.h"
#include "sys/fd.h"
#include "wire/gcs.h"
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX  (1u << 20)
#define TEXT_PEER (48u << 10) /* for hosts that drop the connection at long frames (PROTOCOL.md) */
#define STACK_MAX 4096

typedef struct dump {
    msh_request *request;
    msh_buf text;
} dump;

/* What does not fit any more is left out. */
static void say(dump *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(dump *d, const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    msh_buf_append(&d->text, msh_slice_of(line));
}

/* ---- on the loop ---- */

static void requests(dump *d, const msh_agent *a)
{
    msh_time now = msh_now();
    say(d, "requests in flight: %zu\n", a->requests);
    for (const msh_node *n = a->pending.next; n != &a->pending; n = n->next) {
        const msh_request *r = MSH_LIST_OF(n, const msh_request, node);
        const char *name = msh_gcs_name(r->type);
        say(d, "  %s id %llu for %.128s, since %llu ms\n", name == NULL ? "unknown" : name,
            (unsigned long long)r->id,
            r->container[0] == '\0' || msh_is_null_container(r->container) ? "the UVM" : r->container,
            (unsigned long long)((now - r->since) / MSH_MS));
    }
}

static void process(dump *d, const msh_process *p)
{
    static const char *const kinds[] = {"init", "exec", "of the UVM"};
    unsigned waits = 0;
    for (const msh_node *n = p->waits.next; n != &p->waits; n = n->next)
        waits++;
    say(d, "    process %d (%s%s): ", (int)p->pid, kinds[p->kind], p->terminal ? ", terminal" : "");
    if (p->exited)
        say(d, "exited with %u", p->code);
    else
        say(d, "runs");
    say(d, ", owner %llu, %u waits\n", (unsigned long long)p->owner, waits);
}

static void containers(dump *d, const msh_agent *a)
{
    static const char *const states[] = {"creating", "created", "running", "terminated"};
    say(d, "containers:\n");
    for (const msh_node *n = a->containers.next; n != &a->containers; n = n->next) {
        const msh_container *c = MSH_LIST_OF(n, const msh_container, node);
        say(d, "  %.128s: %s%s\n", c->id, states[c->state], c->starting ? ", being started" : "");
        for (const msh_node *m = c->processes.next; m != &c->processes; m = m->next)
            process(d, MSH_LIST_OF(m, const msh_process, node));
    }
    say(d, "processes of the UVM:\n");
    for (const msh_node *n = a->externals.next; n != &a->externals; n = n->next)
        process(d, MSH_LIST_OF(n, const msh_process, node));
}

/* ---- on a pool thread ---- */

static void read_line(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);
    msh_fd_close(&fd);
    out[n < 0 ? 0 : n] = '\0';
    for (char *p = out; *p != '\0';
         p++) /* names of threads and symbols may be any bytes; the answer is text */
        if (*p != '\n' && (!isprint((unsigned char)*p)))
            *p = '?';
}

static void threads(dump *d)
{
    char path[320], name[64], where[STACK_MAX];
    DIR *dir = opendir("/proc/self/task");
    say(d, "threads:\n");
    for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        read_line(path, name, sizeof name);
        name[strcspn(name, "\n")] = '\0';
        snprintf(path, sizeof path, "/proc/self/task/%s/wchan", e->d_name);
        read_line(path, where, sizeof where);
        say(d, "  %s %s: %.200s\n", e->d_name, name,
            where[0] == '\0' || strcmp(where, "0") == 0 ? "runs" : where);
        snprintf(path, sizeof path, "/proc/self/task/%s/stack", e->d_name);
        read_line(path, where, sizeof where);
        for (char *rest, *line = strtok_r(where, "\n", &rest); line != NULL;
             line = strtok_r(NULL, "\n", &rest))
            say(d, "    %s\n", line);
    }
    if (dir != NULL)
        closedir(dir);
}

static void work(void *ctx)
{
    dump *d = ctx;
    say(d, "streams:\n");
    msh_streams_describe(d->request->agent->streams, &d->text, NULL);
    threads(d);
}

static void done(void *ctx)
{
    dump *d = ctx;
    msh_slice s = msh_buf_slice(&d->text);
    json_t *o = json_object();
    json_object_set_new(o, "GuestStacks", json_stringn(s.n == 0 ? "" : s.p, s.n));
    msh_answer(d->request, o);
    msh_buf_free(&d->text);
    free(d);
}

void msh_on_dump_stacks(msh_request *r)
{
    dump *d = calloc(1, sizeof *d);
    if (d == NULL) {
        msh_refuse(r, MSH_HR_FAIL, "no memory");
        return;
    }
    const msh_agent *a = r->agent;
    d->request = r;
    msh_buf_init(&d->text, a->resumes ? TEXT_MAX : TEXT_PEER);
    say(d, "moonshim-guest %s, connection %llu\n", MSH_VERSION,
        (unsigned long long)msh_bridge_connection(a->bridge));
    requests(d, a);
    containers(d, a);
    msh_task t = {.work = work, .done = done, .ctx = d};
    if (msh_tasks_submit(a->tasks, &t, NULL) != MSH_OK) {
        say(d, "too many tasks wait: streams and threads are left out\n");
        done(d);
    }
}
