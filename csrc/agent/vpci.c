#include "agent/vpci.h"
#include "agent/fs.h"
#include "base/guid.h"
#include "base/time.h"
#include "wire/gcs.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#define POLL_MS 10

typedef struct vpci_job {
    msh_request *request;
    char instance[MSH_GUID_TEXT];
    msh_err err;
} vpci_job;

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static bool describe(const char *path, msh_device_node *out)
{
    struct stat st;
    if (strlen(path) >= sizeof out->path || lstat(path, &st) != 0 ||
        (!S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode)))
        return false;
    *out = (msh_device_node){.type = S_ISBLK(st.st_mode) ? 'b' : 'c',
                             .major = major(st.st_rdev),
                             .minor = minor(st.st_rdev),
                             .mode = st.st_mode & 07777,
                             .uid = st.st_uid,
                             .gid = st.st_gid};
    memcpy(out->path, path, strlen(path) + 1);
    return true;
}

msh_code msh_vpci_node(const char *dir, const char *instance, size_t i, msh_device_node *out, msh_err *err)
{
    msh_guid guid;
    char text[MSH_GUID_TEXT], folder[512], path[1024];
    struct dirent **list = NULL;
    if (!msh_guid_parse(instance, &guid))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "\"%.60s\" is not the GUID of a device", instance);
    msh_guid_format(&guid, text);
    snprintf(folder, sizeof folder, "%s/%s", dir, text);
    int n = scandir(folder, &list, NULL, by_name);
    bool found = false;
    for (int k = 0; k < n; k++) {
        snprintf(path, sizeof path, "%s/%s", folder, list[k]->d_name);
        found = found || (describe(path, out) && i-- == 0);
        free(list[k]);
    }
    free(list);
    return found ? MSH_OK : msh_fail(err, MSH_NOT_FOUND, "device %s is not in this UVM", text);
}

static void wait_work(void *ctx)
{
    vpci_job *j = ctx;
    msh_device_node node;
    msh_time end = msh_now() + j->request->agent->options.disk_within * MSH_MS;
    while (msh_vpci_node(MSH_VPCI_DIR, j->instance, 0, &node, &j->err) == MSH_NOT_FOUND && msh_now() < end)
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000}, NULL);
    if (j->err.code == MSH_NOT_FOUND && msh_vpci_node(MSH_VPCI_DIR, j->instance, 0, &node, NULL) == MSH_OK)
        j->err = (msh_err){0};
    if (j->err.code == MSH_NOT_FOUND)
        j->err.hresult = MSH_HR_FAIL; /* "element not found" would mean that it has gone */
}

static void done(void *ctx)
{
    vpci_job *j = ctx;
    msh_finish(j->request, &j->err);
    free(j);
}

void msh_vpci_add(msh_request *r, const json_t *settings)
{
    msh_err err = {0};
    msh_guid guid;
    msh_reader in = msh_read(settings);
    const char *instance = msh_read_text(&in, "VMBusGUID");
    vpci_job *j = in.bad != NULL ? NULL : calloc(1, sizeof *j);
    if (j == NULL) {
        msh_refuse(r, in.bad != NULL ? MSH_HR_INVALID_JSON : MSH_HR_FAIL, in.bad);
        return;
    }
    j->request = r;
    msh_code rc = MSH_OK;
    if (msh_guid_parse(instance, &guid))
        msh_guid_format(&guid, j->instance);
    else
        rc = msh_fail(&err, MSH_INVALID_ARGUMENT, "VMBusGUID \"%.60s\" is not a GUID", instance);
    msh_task t = {.key = {msh_key_of("vpci", j->instance, false)}, .work = wait_work, .done = done, .ctx = j};
    if (rc == MSH_OK)
        rc = msh_tasks_submit(r->agent->tasks, &t, &err);
    if (rc != MSH_OK) {
        free(j);
        msh_refuse_err(r, &err);
    }
}
