/* agent/split.h - the CommandLine of an external process, cut into words the way hosts expect. Pure. */
#ifndef MSH_AGENT_SPLIT_H
#define MSH_AGENT_SPLIT_H
#include "base/err.h"

/* Blanks separate; ' and " group; a backslash outside '' takes the next character (t and n become tab and newline);
 * an unquoted ; & | < or > ends the line. Gives a list ended by NULL; the caller frees every word and the list.
 * Open quotes and bare parentheses are an error. */
msh_code msh_split_command(const char *line, char ***out, msh_err *err);
#endif
