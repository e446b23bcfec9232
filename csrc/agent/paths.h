/* agent/paths.h - what a host may name.
 *
 * Layer      agent; pure text work.
 * Always     nothing outside /run is ever a target of a request, nor the agent's own folders in it. */
#ifndef MSH_AGENT_PATHS_H
#define MSH_AGENT_PATHS_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

#define MSH_PATH_MAX  4096
#define MSH_STATE_DIR "/run/moonshim-guest" /* the agent's own: runtime state, skeletons, partition nodes */
#define MSH_HOST_DIR  "/run/host"           /* the host's sockets and nodes, local only */

/* Absolute, without "." "..", double and trailing slashes; ".." stops at the root. invalid_argument: relative, or longer
 * than `size`. */
msh_code msh_path_clean(const char *path, char *out, size_t size, msh_err *err);
/* Cleans a path of a request and checks it: below /run, not the agent's or the host's folder. `what` names the field. */
msh_code msh_path_target(const char *what, const char *path, char *out, size_t size, msh_err *err);
/* True for `path` itself and what is below it; both cleaned. */
bool msh_path_below(const char *path, const char *folder);
/* `base` + "/" + cleaned `rest`, so that ".." in `rest` cannot leave base. */
msh_code msh_path_join(const char *base, const char *rest, char *out, size_t size, msh_err *err);
/* Cuts the last component off: "/a/b" -> "/a", "/a" -> "/". */
void msh_path_parent(const char *path, char *out, size_t size);
/* A container or pod id: 1..200 of A-Z a-z 0-9 _ + - . and not only dots. */
bool msh_id_ok(const char *id);
#endif
