/* sys/system.h - the boot we live in, and randomness. */
#ifndef MSH_SYS_SYSTEM_H
#define MSH_SYS_SYSTEM_H
#include "base/err.h"
#include <stddef.h>

#define MSH_BOOT_ID 37 /* a UUID as text, with the end */

msh_code msh_boot_id(char out[MSH_BOOT_ID], msh_err *err);
/* Fills `p` from the kernel; waits only in the first moments of a boot. */
msh_code msh_random(void *p, size_t n, msh_err *err);
/* 2n hex digits and the end go to `out`. n <= 256 */
msh_code msh_random_hex(char *out, size_t n, msh_err *err);
#endif
