/* agent/vpci.h - VPCIDevice: devices of the host that this UVM was given.
 *
 * Layer      agent.
 * Words      instance = the GUID under which the host gave a device away.
 * Devices    on local the host makes a folder <instance> below MSH_VPCI_DIR, whole, with the nodes of the device in it, and
 *            takes it away by itself: a removal sends nothing. The wait for it is bounded. */
#ifndef MSH_AGENT_VPCI_H
#define MSH_AGENT_VPCI_H
#include "agent/agent.h"
#include "agent/paths.h"
#include "agent/spec.h"

#define MSH_VPCI_DIR MSH_HOST_DIR "/vpci"

/* Answers when the device is there; takes the request. */
void msh_vpci_add(msh_request *r, const json_t *settings);
/* The i-th device node below `dir`/<instance>, by name; its path is in there. not_found after the last and when there is no such
 * instance; invalid_argument when `instance` is no GUID. */
msh_code msh_vpci_node(const char *dir, const char *instance, size_t i, msh_device_node *out, msh_err *err);
#endif
