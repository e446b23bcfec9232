/* agent/cgfile.h - the files of one cgroup, v1 and v2 alike.
 *
 * Layer      agent; blocking, but only on the kernel: cgroup files wait for nobody.
 * Words      tree = one hierarchy. On v1 every controller has its own below `root` ("memory", "cpu", ...), on v2 `root` is
 *            the only one and controllers differ by the names of their files.
 * Always     an absent file is an absent controller: reads say so, they never guess.
 * See        agent/cgfile_test.c, over folders that look like both */
#ifndef MSH_AGENT_CGFILE_H
#define MSH_AGENT_CGFILE_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MSH_CG_TEXT      (64u << 10) /* the longest file that is read whole */
#define MSH_CG_UNLIMITED UINT64_MAX  /* "max" and what v1 writes for it */

typedef struct msh_cg {
    bool v2;
    char root[256]; /* "/sys/fs/cgroup" */
    char path[600]; /* below every tree, without slashes at its ends; "" is the tree's own top */
} msh_cg;

/* The cgroup `path` as this UVM sees it. */
msh_cg msh_cg_inner(const char *path);
/* The same below another root, with the version given: for tests. */
msh_cg msh_cg_at(const char *root, bool v2, const char *path);
/* One level up; false at the top. */
bool msh_cg_up(msh_cg *cg);

/* Path of a file; `out` has 1024 bytes. `controller` names the v1 tree and is not looked at on v2. */
#define MSH_CG_PATH 1024
const char *msh_cg_path(const msh_cg *cg, const char *controller, const char *file, char *out);
/* The text, NUL-terminated, without the newline at its end; false when there is no such file or it is too long. */
bool msh_cg_read(const msh_cg *cg, const char *controller, const char *file, char *out, size_t size);
/* A file that is one number, or "max". */
bool msh_cg_number(const msh_cg *cg, const char *controller, const char *file, uint64_t *out);
/* Replaces the text. -1 with errno. */
int msh_cg_write(const msh_cg *cg, const char *controller, const char *file, const char *text);

/* The number behind `key` in lines of "key number"; false without such a line. */
bool msh_cg_key(const char *text, const char *key, uint64_t *out);
/* The least memory limit of this cgroup and of those above it that can be seen; MSH_CG_UNLIMITED without any. */
uint64_t msh_cg_memory_limit(const msh_cg *cg);
/* Processes of this cgroup that the kernel killed for want of memory, since it was made; false without the counter. */
bool msh_cg_oom_kills(const msh_cg *cg, uint64_t *out);
#endif
