/* base/time.h - time is an argument: nanoseconds of a monotonic clock, read by the drivers alone. */
#ifndef MSH_BASE_TIME_H
#define MSH_BASE_TIME_H
#include <stdint.h>

typedef uint64_t msh_time;
#define MSH_NEVER UINT64_MAX
#define MSH_MS    UINT64_C(1000000)

msh_time msh_now(void); /* CLOCK_MONOTONIC; for drivers, never for pure parts */
#endif
