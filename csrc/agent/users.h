/* agent/users.h - "user", "uid", "user:group", ... to numbers, by the container's own passwd and group files.
 *
 * Layer      agent; pure: the files come in as text.
 * Always     a name that is unknown, or a number that is not one (0x1, -1, 4294967295 and beyond), is an error; nothing
 *            ever falls back to root. Digits alone are a number, never a name. */
#ifndef MSH_AGENT_USERS_H
#define MSH_AGENT_USERS_H
#include "base/buf.h"
#include "base/err.h"

#define MSH_GROUPS_MAX 256u

typedef struct msh_user {
    uint32_t uid, gid;
    size_t n_groups;
    uint32_t groups[MSH_GROUPS_MAX]; /* supplementary; empty when the text named a group */
} msh_user;

/* `passwd` and `group` may be empty (no such file): then only numbers work. A lone uid that passwd does not know has
 * gid 0. */
msh_code msh_user_find(const char *text, msh_slice passwd, msh_slice group, msh_user *out, msh_err *err);
#endif
