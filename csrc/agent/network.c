/* Records and requests; what is done to a link is in nic.c. */
#include "agent/network.h"
#include "agent/files.h"
#include "agent/nic.h"
#include "sys/fd.h"
#include "wire/gcs.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define NICS_MAX 64

struct msh_network {
    msh_node node; /* in agent->networks */
    msh_agent *agent;
    char id[MSH_NIC_ID];
    msh_node nics; /* msh_nic */
    size_t n_nics;
    unsigned uses; /* tasks and containers */
    bool occupied; /* a container has it */
    int netns;     /* of that container, once it exists; -1 */
};

/* ---- records ---- */

static msh_network *find(msh_agent *a, const char *id)
{
    for (msh_node *n = a->networks.next; n != &a->networks; n = n->next) {
        msh_network *net = MSH_LIST_OF(n, msh_network, node);
        if (strcmp(net->id, id) == 0)
            return net;
    }
    return NULL;
}

static msh_network *find_or_make(msh_agent *a, const char *id)
{
    msh_network *net = find(a, id);
    if (net != NULL || (net = calloc(1, sizeof *net)) == NULL)
        return net;
    net->agent = a;
    net->netns = -1;
    memcpy(net->id, id, strlen(id) + 1);
    msh_list_init(&net->nics);
    msh_list_push(&a->networks, &net->node);
    return net;
}

/* Ends a use; a record that nobody uses and that names no NIC is forgotten. */
static void drop(msh_network *net)
{
    net->uses--;
    if (net->uses > 0 || net->n_nics > 0)
        return;
    msh_list_remove(&net->node);
    free(net);
}

msh_key msh_network_key(const msh_network *n)
{
    return n == NULL ? (msh_key){0} : msh_key_of("network", n->id, false);
}

static msh_nic *nic_of(const msh_network *net, const char *id)
{
    for (msh_node *n = net->nics.next; n != &net->nics; n = n->next) {
        msh_nic *nic = MSH_LIST_OF(n, msh_nic, node);
        if (strcmp(nic->id, id) == 0)
            return nic;
    }
    return NULL;
}

/* ---- requests ---- */

typedef struct network_job {
    msh_request *request;
    msh_network *net;
    msh_nic *nic; /* Add: ours until it is listed */
    char id[MSH_NIC_ID];
    msh_err err;
} network_job;

static void lower(char *out, const char *text)
{
    size_t i = 0;
    for (; text[i] != '\0'; i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    out[i] = '\0';
}

static bool id_ok(const char *text)
{
    size_t n = strlen(text);
    return n > 0 && n < MSH_NIC_ID &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == n;
}

static void end(network_job *j)
{
    msh_nic_free(j->nic);
    if (j->net != NULL)
        drop(j->net);
    msh_finish(j->request, &j->err);
    free(j);
}

/* Reads the ids; refuses the request and gives NULL when they are wrong. */
static network_job *begin(msh_request *r, const json_t *settings, char namespace_id[MSH_NIC_ID])
{
    msh_reader in = msh_read(settings);
    const char *ns = msh_read_text(&in, "NamespaceID"), *id = msh_read_text(&in, "ID");
    if (in.bad != NULL) {
        msh_refuse(r, MSH_HR_INVALID_JSON, in.bad);
        return NULL;
    }
    if (!id_ok(ns) || !id_ok(id)) {
        msh_refuse(r, MSH_HR_INVALID_ARGUMENT, "NamespaceID and ID must be ids");
        return NULL;
    }
    network_job *j = calloc(1, sizeof *j);
    if (j == NULL) {
        msh_refuse(r, MSH_HR_FAIL, "no memory");
        return NULL;
    }
    j->request = r;
    lower(namespace_id, ns);
    lower(j->id, id);
    return j;
}

static void submit(network_job *j, void (*work)(void *), void (*done)(void *))
{
    j->net->uses++;
    msh_task t = {.key = {msh_network_key(j->net)}, .work = work, .done = done, .ctx = j};
    if (msh_tasks_submit(j->request->agent->tasks, &t, &j->err) != MSH_OK)
        end(j);
}

static void add_work(void *ctx)
{
    network_job *j = ctx;
    if (j->nic->policy_routing && j->net->n_nics > 0)
        j->nic->low_metric = true; /* the first one carries what has no better way */
    if (nic_of(j->net, j->id) != NULL)
        msh_fail(&j->err, MSH_ALREADY_EXISTS, "NIC %s is in namespace %s already", j->id, j->net->id);
    else if (j->net->n_nics >= NICS_MAX)
        msh_fail(&j->err, MSH_RESOURCE_EXHAUSTED, "namespace %s has %d NICs already", j->net->id, NICS_MAX);
    else if (msh_nic_find(j->nic, &j->err) == MSH_OK && j->net->netns >= 0 &&
             msh_nic_place(j->nic, j->net->netns, j->net->agent->reap, &j->err) != MSH_OK)
        msh_nic_return(j->nic, j->net->netns); /* nobody would find it there */
}

static void add_done(void *ctx)
{
    network_job *j = ctx;
    if (j->err.code == MSH_OK) {
        msh_list_push(&j->net->nics, &j->nic->node);
        j->net->n_nics++;
        j->nic = NULL;
    }
    end(j);
}

void msh_network_add(msh_request *r, const json_t *settings)
{
    char ns[MSH_NIC_ID];
    network_job *j = begin(r, settings, ns);
    if (j == NULL)
        return;
    j->nic = msh_nic_read(settings, j->id, &j->err);
    if (j->nic != NULL && (j->net = find_or_make(r->agent, ns)) == NULL)
        msh_fail(&j->err, MSH_RESOURCE_EXHAUSTED, "no memory");
    if (j->err.code != MSH_OK)
        end(j);
    else
        submit(j, add_work, add_done);
}

static void no_work(void *ctx)
{
    (void)ctx;
}

static void remove_done(void *ctx)
{
    network_job *j = ctx;
    msh_nic *nic = nic_of(j->net, j->id);
    if (nic != NULL) {
        msh_list_remove(&nic->node);
        j->net->n_nics--;
        msh_nic_free(nic);
    }
    end(j);
}

void msh_network_remove(msh_request *r, const json_t *settings)
{
    char ns[MSH_NIC_ID];
    network_job *j = begin(r, settings, ns);
    if (j == NULL)
        return;
    j->net = find(r->agent, ns);
    if (j->net == NULL)
        end(j); /* what is unknown is removed */
    else
        submit(j, no_work, remove_done); /* in its turn: an Add may be on its way */
}

/* ---- containers ---- */

msh_code msh_network_of(msh_agent *a, const json_t *spec, bool sandbox, msh_network **out, msh_err *err)
{
    const json_t *section = msh_json_get(msh_json_get(spec, "windows"), "network");
    const char *text = json_string_value(msh_json_get(section, "networkNamespace"));
    const char *skip = json_string_value(
        msh_json_get(msh_json_get(spec, "annotations"), "io.microsoft.cri.skip-pod-networking"));
    char id[MSH_NIC_ID];
    *out = NULL;
    if (text == NULL || text[0] == '\0')
        return MSH_OK;
    if (!id_ok(text))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "windows.network.networkNamespace is not an id");
    lower(id, text);
    msh_network *net = find(a, id);
    if (net == NULL)
        return sandbox && (skip == NULL || strcmp(skip, "true") != 0)
                   ? msh_fail(err, MSH_NOT_FOUND, "the network namespace %s is unknown", id)
                   : MSH_OK;
    if (net->occupied)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "the network namespace %s has a container already", id);
    net->occupied = true;
    net->uses++;
    *out = net;
    return MSH_OK;
}

void msh_network_leave(msh_network *net)
{
    if (net == NULL)
        return;
    net->occupied = false;
    msh_fd_close(&net->netns);
    drop(net);
}

msh_code msh_network_read(const msh_network *net, msh_network_names *out, msh_err *err)
{
    const char *searches[NICS_MAX], *servers[NICS_MAX];
    size_t count = 0;
    msh_buf text;
    *out = (msh_network_names){0};
    for (msh_node *n = net == NULL ? NULL : net->nics.next; n != NULL && n != &net->nics; n = n->next) {
        const msh_nic *nic = MSH_LIST_OF(n, msh_nic, node);
        searches[count] = nic->search;
        servers[count++] = nic->servers;
        if (out->address[0] == '\0' && nic->n_addresses > 0)
            msh_ip_text(&nic->address[0], out->address);
    }
    msh_buf_init(&text, 64u << 10);
    msh_code rc = msh_resolv_file(searches, servers, count, &text, err);
    if (rc == MSH_OK) {
        msh_slice all = msh_buf_slice(&text);
        out->resolv = strndup(all.p != NULL ? all.p : "", all.n);
        if (out->resolv == NULL)
            rc = msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory");
    }
    msh_buf_free(&text);
    return rc;
}

msh_code msh_network_enter(msh_network *net, pid_t pid, msh_err *err)
{
    if (net == NULL)
        return MSH_OK;
    int netns = -1;
    msh_code rc =
        pid > 0 ? msh_netns_of(pid, 0, &netns, err) : msh_netns_open("/proc/thread-self/ns/net", &netns, err);
    for (msh_node *n = net->nics.next; rc == MSH_OK && n != &net->nics; n = n->next)
        rc = msh_nic_place(MSH_LIST_OF(n, msh_nic, node), netns, net->agent->reap, err);
    if (rc != MSH_OK)
        msh_fd_close(&netns);
    net->netns = netns; /* the loop's thread looks at it in this record's tasks only, and this is one */
    return rc;
}
