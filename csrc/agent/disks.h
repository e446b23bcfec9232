/* agent/disks.h - MappedVirtualDisk and SCSIDevice.
 *
 * Layer      agent.
 * Devices    on local the host makes a node c<controller>l<lun> in a folder that the UVM sees; a partition of it is found
 *            through /sys and gets a node of its own below the agent's folder. The wait for a node is bounded. */
#ifndef MSH_AGENT_DISKS_H
#define MSH_AGENT_DISKS_H
#include "agent/agent.h"

void msh_disk_add(msh_request *r, const json_t *settings);
void msh_disk_remove(msh_request *r, const json_t *settings);
void msh_scsi_remove(msh_request *r, const json_t *settings);

/* "ext4", "erofs" or "" by the super block of an open device or file. -1 with errno when it cannot be read. */
int msh_probe_filesystem(int fd, const char **type);
#endif
