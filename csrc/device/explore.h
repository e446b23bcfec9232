/* device/explore.h - for tests: two ways through the worlds of model.h. */
#ifndef MSH_DEVICE_EXPLORE_H
#define MSH_DEVICE_EXPLORE_H
#include "device/model.h"

/* Visits every state of a small world once; each is reached by replaying its path, and from each the way to empty is gone. */
void explore_all(const setting *s);

/* For worlds that are too big for that: ten thousand random acts, then the way to empty. */
void explore_at_random(const setting *s, uint32_t seed);

/* What a client of a setting may want. */
#define A_DISK(p, part)                                                                                      \
    {                                                                                                        \
        .bus = MSH_BUS_SCSI, .path = p, .read_only = true, .partition = part, .mount.read_only = true        \
    }
#define A_SHARE(p, ro)                                                                                       \
    {                                                                                                        \
        .bus = MSH_BUS_PLAN9, .path = p, .read_only = ro                                                     \
    }
#define A_DEVICE(p, i)                                                                                       \
    {                                                                                                        \
        .bus = MSH_BUS_VPCI, .path = p, .instance = "0000000" #i "-0000-4000-8000-000000000000"              \
    }

#endif
