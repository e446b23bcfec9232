/* ModifySettings: which resource, and is the request one that it knows. */
#include "agent/agent.h"
#include "agent/constraints.h"
#include "agent/container.h"
#include "agent/disks.h"
#include "agent/layers.h"
#include "agent/network.h"
#include "agent/shares.h"
#include "agent/vpci.h"
#include "wire/gcs.h"
#include <string.h>

/* To take a policy that nobody enforces would be a lie to whoever relies on it. */
static void refuse_policy(msh_request *r, const json_t *settings)
{
    (void)settings;
    msh_refuse(r, MSH_HR_NOT_IMPLEMENTED,
               "this agent enforces no security policy; confidential UVMs need another one");
}

static const struct {
    const char *resource;
    void (*add)(msh_request *, const json_t *);
    void (*remove)(msh_request *, const json_t *);
} resources[] = {{"MappedVirtualDisk", msh_disk_add, msh_disk_remove},
                 {"SCSIDevice", NULL, msh_scsi_remove},
                 {"MappedDirectory", msh_share_add, msh_share_remove},
                 {"Network", msh_network_add, msh_network_remove},
                 {"CombinedLayers", msh_layers_add, msh_layers_remove},
                 {"VPCIDevice", msh_vpci_add, NULL},
                 {"SecurityPolicy", refuse_policy, refuse_policy},
                 {"SecurityPolicyFragment", refuse_policy, refuse_policy}};

void msh_on_modify(msh_request *r)
{
    if (!msh_is_null_container(r->container)) {
        msh_container *c = msh_container_of(r);
        if (c != NULL)
            msh_container_modify(r, c);
        return;
    }
    msh_reader body = msh_read(r->body);
    msh_reader in = msh_read(msh_read_object(&body, "Request"));
    const char *verb = msh_read_text(&in, "RequestType"), *resource = msh_read_text(&in, "ResourceType");
    const json_t *settings = msh_read_object(&in, "Settings");
    if (body.bad != NULL || in.bad != NULL) {
        msh_refuse(r, MSH_HR_INVALID_JSON, body.bad != NULL ? body.bad : in.bad);
        return;
    }
    if (settings == NULL && strcmp(resource, "PodCgroupMemoryLimit") != 0) {
        msh_refuse(r, MSH_HR_INVALID_JSON, "Settings is missing");
        return;
    }
    if (strcmp(resource, "PodCgroupMemoryLimit") == 0 && strcmp(verb, "Update") == 0) {
        msh_pods_memory(r);
        return;
    }
    bool add = verb[0] == '\0' || strcmp(verb, "Add") == 0, remove = strcmp(verb, "Remove") == 0;
    for (size_t i = 0; i < sizeof resources / sizeof *resources; i++) {
        if (strcmp(resource, resources[i].resource) != 0)
            continue;
        void (*handler)(msh_request *, const json_t *) = add      ? resources[i].add
                                                         : remove ? resources[i].remove
                                                                  : NULL;
        if (handler == NULL)
            break;
        handler(r, settings);
        return;
    }
    msh_refuse(r, MSH_HR_FAIL, "this resource does not know this request");
}
