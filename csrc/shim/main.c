/* The executable: Lua, luv, cjson and our own Lua in one file. argv[0] chooses what it is.
 *
 * MOONSHIM_LUA=<dir> takes our Lua from that folder of a source tree instead, for development. */
#include "shim/embedded.h"
#include "sys/fd.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FAILED 125 /* our own failure, as against the container's */

static const struct {
    const char *name; /* of the program, without its folder; the first row is the default */
    const char *module;
} faces[] = {
    {"moonshim", "moonshim.cli"},
};

static const char *face_of(const char *argv0)
{
    const char *slash = strrchr(argv0, '/');
    const char *name = slash != NULL ? slash + 1 : argv0;
    for (size_t i = 0; i < sizeof faces / sizeof *faces; i++)
        if (strcmp(faces[i].name, name) == 0)
            return faces[i].module;
    return faces[0].module;
}

/* Every stream of every container is a descriptor or two here. What we start gets the old limit, by way of the agent. */
static void open_many(void)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, msh_fd_limit_raise());
    setenv("MOONSHIM_NOFILE", text, 1);
}

int main(int argc, char **argv)
{
    open_many();
    /* What we inherited beside the three is not for programs that we start. A kernel without it keeps them open. */
    syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
    const char *tree = getenv("MOONSHIM_LUA");
    msh_program program = {
        .argc = argc,
        .argv = argv,
        .module = face_of(argc > 0 ? argv[0] : ""),
        .tree = tree != NULL && tree[0] != '\0' ? tree : NULL,
        .embedded = msh_embedded_modules,
        .nembedded = msh_embedded_count,
        .failed = FAILED,
    };
    signal(SIGPIPE, SIG_IGN); /* a closed reader is an error value, not the end of the process */
    return msh_program_run(&program);
}
