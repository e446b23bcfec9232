/* agent/files.h - the text of /etc/hostname, /etc/hosts and /etc/resolv.conf of a container.
 *
 * Layer      agent; pure. Appends to `out`. */
#ifndef MSH_AGENT_FILES_H
#define MSH_AGENT_FILES_H
#include "base/buf.h"
#include "base/err.h"

/* invalid_argument unless it is up to 255 of A-Z a-z 0-9 _ - . (what goes into the files below unquoted). */
msh_code msh_hostname_check(const char *name, msh_err *err);
msh_code msh_hostname_file(const char *name, msh_buf *out);
/* `address`: what the name stands for; NULL or "" for the loopback. */
msh_code msh_hosts_file(const char *name, const char *address, msh_buf *out);

/* `searches` and `servers`: comma lists of every NIC (n of them). Trimmed, in lower case, each once; more than 6 search
 * domains, or one with other characters than names and addresses have, is invalid_argument. */
msh_code msh_resolv_file(const char *const *searches, const char *const *servers, size_t n, msh_buf *out,
                         msh_err *err);
#endif
