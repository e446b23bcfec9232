/* agent/format.h - whether the kernel would run a file: what its first bytes say, and whether what they name is there.
 *
 * A runtime finds out when it is too late: its exec fails in the place of the program, whose status is then 1.
 *
 * Layer      agent. Blocks on files; nothing is changed. Names are resolved in root (RESOLVE_IN_ROOT).
 * Facts      the rules of Linux: fs/exec.c (who may run, at most five interpreters), fs/binfmt_script.c (a line of at most
 *            256 bytes), fs/binfmt_elf.c (headers, the loader), Documentation/admin-guide/binfmt-misc.rst. */
#ifndef MSH_AGENT_FORMAT_H
#define MSH_AGENT_FORMAT_H
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>

typedef enum msh_found { MSH_FILE_MISSING, MSH_FILE_UNUSABLE, MSH_FILE_FOUND } msh_found;

/* Finds a regular file that somebody may execute; with `file` != NULL also opens it for reading: the caller's, -1 when
 * that was not allowed. */
msh_found msh_format_look(int root, const char *path, int *file);

/* Checks an open file that msh_format_look found under `path`: a script whose interpreters are there, or a program for
 * this machine whose loader is, or something that binfmt_misc takes. permission_denied, saying what is wrong with
 * `path`. What cannot be told from the file (an entry of no sense further on, a policy) is left to the kernel.
 * `cwd` = where relative names of interpreters start. `file` is borrowed. */
msh_code msh_format_check(int root, const char *cwd, const char *path, int file, msh_err *err);

/* Whether an entry of binfmt_misc, as its file reads, takes a file of this name that begins with `head`. */
bool msh_format_entry_takes(const char *entry, const char *path, msh_slice head);
#endif
