/* device/explore.h - for tests: two ways through the worlds of model.h. */
#ifndef MSH_DEVICE_EXPLORE_H
#define MSH_DEVICE_EXPLORE_H
#include "device/model.h"

/* Visits every state of a small world once; each is reached by replaying its path, and from each the way to empty is gone. */
void explore_all(const setting *s);

/* For worlds that are too big for that: ten thousand random acts, then the way to empty. */
void explore_at_random(const setting *s, uint32_t seed);
#endif
