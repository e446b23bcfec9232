/* base/crc.h - CRC-32 as zlib and Ethernet compute it.
 *
 * Layer      base. */
#ifndef MSH_BASE_CRC_H
#define MSH_BASE_CRC_H
#include "base/buf.h"
#include <stdint.h>

/* The sum of the bytes; 0 for none. */
uint32_t msh_crc32(msh_slice bytes);
#endif
