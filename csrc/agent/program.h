/* agent/program.h - what a program name means inside a root file system, and who a user is there.
 *
 * Layer      agent. Every name is resolved in root (openat2 RESOLVE_IN_ROOT): a link in the image cannot lead out. */
#ifndef MSH_AGENT_PROGRAM_H
#define MSH_AGENT_PROGRAM_H
#include "agent/users.h"
#include "base/err.h"
#include <jansson.h>
#include <sys/types.h>

/* The root of a process as it is now, mounts included; -1 with errno. The caller's. */
int msh_program_root(pid_t pid);
/* Looks args[0] of an OCI process up, in PATH of its env when it has no slash, else from its cwd.
 * not_found with hresult 0x80070002, permission_denied with 0x80070005 (a folder, or not executable). */
msh_code msh_program_find(int root, const json_t *process, msh_err *err);
/* Whether the kernel would run that program (agent/format.h): permission_denied with 0x80070005, saying what is wrong with
 * it. One that is not found is none of its business. */
msh_code msh_program_runs(int root, const json_t *process, msh_err *err);
/* msh_user_find with the passwd and group files of `root`. */
msh_code msh_program_user(int root, const char *text, msh_user *out, msh_err *err);
/* The hresult for what a runtime printed when it could not start the program; 0 = it was something else. */
int32_t msh_program_blame(const char *runtime_text);
#endif
