#include "base/time.h"
#include <time.h>

msh_time msh_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (msh_time)ts.tv_sec * UINT64_C(1000000000) + (msh_time)ts.tv_nsec;
}
