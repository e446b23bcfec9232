#include "agent/freezer.h"
#include "base/time.h"
#include <errno.h>
#include <string.h>
#include <time.h>

#define V1_STATE "freezer.state"
#define V2_STATE "cgroup.freeze"

static int tell(const msh_cg *cg, bool frozen)
{
    if (cg->v2)
        return msh_cg_write(cg, "", V2_STATE, frozen ? "1" : "0");
    return msh_cg_write(cg, "freezer", V1_STATE, frozen ? "FROZEN" : "THAWED");
}

static bool reached(const msh_cg *cg)
{
    char text[256];
    uint64_t v;
    if (cg->v2)
        return msh_cg_read(cg, "", "cgroup.events", text, sizeof text) && msh_cg_key(text, "frozen", &v) &&
               v == 1;
    return msh_cg_read(cg, "freezer", V1_STATE, text, sizeof text) && strcmp(text, "FROZEN") == 0;
}

bool msh_frozen(const msh_cg *cg)
{
    char text[64];
    if (cg->v2)
        return msh_cg_read(cg, "", V2_STATE, text, sizeof text) && strcmp(text, "1") == 0;
    return msh_cg_read(cg, "freezer", V1_STATE, text, sizeof text) && strcmp(text, "THAWED") != 0;
}

msh_code msh_freeze(const msh_cg *cg, unsigned within_ms, const bool *cancel, msh_err *err)
{
    msh_time until = msh_now() + within_ms * MSH_MS;
    long pause = 200000; /* ns */
    if (tell(cg, true) != 0)
        return msh_fail(err, MSH_FAILED_PRECONDITION, "freeze: no freezer takes the order: %s",
                        strerror(errno));
    for (unsigned round = 1; !reached(cg); round++) {
        if (__atomic_load_n(cancel, __ATOMIC_ACQUIRE)) {
            msh_thaw(cg);
            return msh_fail(err, MSH_ABORTED, "freeze: the container is being ended");
        }
        if (msh_now() >= until) {
            msh_thaw(cg);
            return msh_fail(err, MSH_DEADLINE_EXCEEDED, "freeze: processes did not stop within %u ms",
                            within_ms);
        }
        nanosleep(&(struct timespec){.tv_nsec = pause}, NULL);
        pause = pause < 10000000 ? pause * 2 : pause;
        /* v1 counts only who was there when it was told: a process that forked meanwhile needs another word, and one
         * that waits for a frozen sibling in vfork needs that sibling to run. */
        if (!cg->v2 && round % 20 == 0)
            msh_thaw(cg);
        if (!cg->v2 && tell(cg, true) != 0)
            return msh_fail_errno(err, errno, "freeze");
    }
    return MSH_OK;
}

void msh_thaw(const msh_cg *cg)
{
    tell(cg, false); /* not there: nothing of it can be frozen */
}
