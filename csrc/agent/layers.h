/* agent/layers.h - what CombinedLayers has set up, by root path: the overlay, and the bundle that may stand on scratch.
 *
 * Layer      agent; records belong to the loop's thread, the work happens in tasks on copies.
 * Words      skeleton = the bottom-most lower folder of a read-only root: the usual mount points, so that an image without
 *            them can still get /proc, /dev, /etc/hosts and the mounts of its spec.
 * Life       made by Add; Remove takes the overlay away; DeleteContainerState the rest, also when the container was
 *            never created. */
#ifndef MSH_AGENT_LAYERS_H
#define MSH_AGENT_LAYERS_H
#include "agent/agent.h"
#include "agent/paths.h"

typedef struct msh_bundle_record {
    msh_node node;
    char *container; /* "" when the host did not say */
    char *root;      /* mount point of the overlay */
    char *bundle;    /* its parent */
    char *scratch;   /* "" for a read-only root */
    char *skeleton;  /* "" with scratch */
    bool bound;      /* scratch/bundle is bound onto bundle */
    bool mounted;    /* the overlay is there */
} msh_bundle_record;

msh_bundle_record *msh_bundle_by_root(msh_agent *a, const char *root);
msh_bundle_record *msh_bundle_by_container(msh_agent *a, const char *container);
void msh_bundle_free(msh_bundle_record *b);

/* Settings of an Add or Remove; takes the request. */
void msh_layers_add(msh_request *r, const json_t *settings);
void msh_layers_remove(msh_request *r, const json_t *settings);
#endif
