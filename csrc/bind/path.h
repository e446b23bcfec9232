/* bind/path.h - where in a value something is wrong: "a.b[3]", built from the inside out. */
#ifndef MSH_BIND_PATH_H
#define MSH_BIND_PATH_H
#include <stdio.h>
#include <string.h>

typedef struct msh_path {
    char text[160]; /* the end is cut off when it gets longer */
} msh_path;

static inline void msh_path_front(msh_path *p, const char *part)
{
    char old[sizeof p->text];
    memcpy(old, p->text, sizeof old);
    snprintf(p->text, sizeof p->text, "%.60s%s%s", part, old[0] != '\0' && old[0] != '[' ? "." : "", old);
    for (char *c = p->text; *c != '\0'; c++) /* it becomes part of a one-line message */
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
}

static inline void msh_path_front_index(msh_path *p, long long i)
{
    char part[32];
    snprintf(part, sizeof part, "[%lld]", i);
    msh_path_front(p, part);
}
#endif
