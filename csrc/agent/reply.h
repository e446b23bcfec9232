/* agent/reply.h - the bodies that the agent sends: responses and the exit notification.
 *
 * Layer      agent; pure.
 * Ownership  every function gives a new object (json_decref); NULL only without memory. `activity` is the request's
 *            ActivityId: "" leaves the field out, because a host cannot read an empty one. */
#ifndef MSH_AGENT_REPLY_H
#define MSH_AGENT_REPLY_H
#include "base/err.h"
#include <jansson.h>

/* The number that travels for an error: its own hresult, or the one of its class. */
int32_t msh_reply_result(const msh_err *err);
json_t *msh_reply_ok(const char *activity);
/* A message beyond 4 KiB is cut: a host may refuse frames over 64 KiB. `text` may be NULL or empty. */
json_t *msh_reply_fail(const char *activity, int32_t result, const char *text);
json_t *msh_reply_negotiated(const char *activity);
json_t *msh_notice_exit(const char *container, const char *activity, const char *type);
#endif
