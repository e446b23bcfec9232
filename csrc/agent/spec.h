/* agent/spec.h - from the OCI spec that a host sent to the config.json that the runtime gets.
 *
 * Layer      agent; pure: what must be looked up comes through msh_spec_world, what must be made goes out as effects.
 * Words      sandbox = the pod's first container; workload = another container of the pod; standalone = neither.
 *            root = the sandbox's folder: its hostname, hosts, resolv.conf and the folders that the pod shares.
 * Ownership  msh_spec_change works in place on the caller's object; effects are the caller's (msh_effects_free).
 * Always     what is not named here reaches the runtime unchanged.
 * See        agent/spec_test.c */
#ifndef MSH_AGENT_SPEC_H
#define MSH_AGENT_SPEC_H
#include "agent/users.h"
#include "base/err.h"
#include <jansson.h>
#include <sys/types.h>

typedef enum msh_kind { MSH_SANDBOX, MSH_WORKLOAD, MSH_STANDALONE } msh_kind;

typedef struct msh_device_node {
    char type; /* 'c' or 'b' */
    unsigned major, minor, mode, uid, gid;
    char path[256];
} msh_device_node;

/* Look-ups in the UVM. Each answers MSH_OK, or a code with err. */
typedef struct msh_spec_world {
    void *ctx;
    const char *hostname; /* of the UVM */
    msh_code (*find_user)(void *ctx, const char *rootfs, const char *text, msh_user *out, msh_err *err);
    /* The node at `path`; `link` = only through a symbolic link to a block device (blockdev://). */
    msh_code (*find_device)(void *ctx, const char *path, bool link, msh_device_node *out, msh_err *err);
    /* The i-th device node of the UVM, for privileged containers; not_found after the last. */
    msh_code (*each_device)(void *ctx, size_t i, msh_device_node *out, msh_err *err);
    /* The i-th node of the device that the host gave as `instance`; not_found after the last, and for an unknown one. */
    msh_code (*assigned)(void *ctx, const char *instance, size_t i, msh_device_node *out, msh_err *err);
    msh_code (*exists)(void *ctx, const char *path, msh_err *err);
} msh_spec_world;

typedef enum msh_effect_kind {
    MSH_MAKE_FOLDER, /* path, mode; an existing one stays as it is */
    MSH_SHARE,       /* path: bind onto itself, recursively shared */
    MSH_TMPFS,       /* path: mount a tmpfs */
    MSH_HUGETLB,     /* path: make the folder and mount hugetlbfs with page size `text`, unless it exists */
    MSH_WRITE_FILE   /* path, text, mode */
} msh_effect_kind;

typedef struct msh_effect {
    msh_effect_kind kind;
    char *path, *text;
    mode_t mode;
} msh_effect;

typedef struct msh_effects {
    size_t n, cap;
    msh_effect *item; /* in the order in which they are to be done */
} msh_effects;

void msh_effects_free(msh_effects *e);

typedef struct msh_spec_class {
    msh_kind kind;
    char sandbox[256]; /* id of the pod; the container's own id for sandbox and standalone */
    bool virtual_pod;
    bool host_network;
} msh_spec_class;

/* Sandbox, workload or standalone, by its annotations. */
msh_code msh_spec_classify(const json_t *spec, const char *id, msh_spec_class *out, msh_err *err);

/* Refuses what a runtime or this agent cannot use, naming the field: process, root, linux, args, cwd, env, mounts. */
msh_code msh_spec_check(const json_t *spec, msh_err *err);
/* The same for the process of an exec. `where` is put in front of field names. */
msh_code msh_process_check(const json_t *process, const char *where, msh_err *err);

typedef struct msh_spec_job {
    const char *id;
    const char *bundle; /* cleaned, absolute */
    const char *root;   /* the sandbox's folder, cleaned, absolute */
    const char *rootfs; /* cleaned, absolute: root.path */
    msh_spec_class what;
    const char *resolv;  /* text of resolv.conf; NULL: empty */
    const char *address; /* what the host name stands for; NULL or "": the loopback */
} msh_spec_job;

msh_code msh_spec_change(json_t *spec, const msh_spec_job *job, const msh_spec_world *world,
                         msh_effects *effects, msh_err *err);
/* Puts `user.username` of a process into numbers and clears it; nothing without one. */
msh_code msh_process_user(json_t *process, const char *rootfs, const msh_spec_world *world, msh_err *err);

/* Shared by spec.c, spec_workload.c and spec_devices.c. */
msh_code msh__effect(msh_effects *e, msh_effect_kind kind, const char *path, const char *text, mode_t mode,
                     msh_err *err);
bool msh__spec_shares(const json_t *spec); /* it mounts something of the folders that a pod shares */
/* Sources and destinations that only mean something in here: sandbox://, hugepages://, blockdev:// and their like. */
msh_code msh__spec_mounts(json_t *spec, const msh_spec_job *job, const msh_spec_world *world,
                          msh_effects *effects, msh_err *err);
msh_code msh__spec_workload(json_t *spec, const msh_spec_job *job, msh_err *err);
void msh__spec_deny(json_t *spec, const msh_spec_job *job); /* the first rule: no devices */
void msh__spec_allow(json_t *spec, const msh_device_node *d, const char *access);
msh_code msh__spec_devices(json_t *spec, const msh_spec_job *job, const msh_spec_world *world, msh_err *err);
const char *msh__annotation(const json_t *spec, const char *key); /* "" when absent */
bool msh__annotation_flag(const json_t *spec, const char *key, bool fallback);
bool msh__mounted(const json_t *spec, const char *destination);
msh_code msh__add_bind(json_t *spec, const char *source, const char *destination);
#endif
