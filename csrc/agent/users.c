#include "agent/users.h"
#include <string.h>

#define NAME_LONGEST 256u

/* The next line of *rest without its end; false at the end of the text. */
static bool next_line(msh_slice *rest, msh_slice *line)
{
    if (rest->n == 0)
        return false;
    const char *nl = memchr(rest->p, '\n', rest->n);
    size_t n = nl == NULL ? rest->n : (size_t)(nl - rest->p);
    *line = (msh_slice){rest->p, n};
    rest->p += nl == NULL ? n : n + 1;
    rest->n -= nl == NULL ? n : n + 1;
    if (line->n > 0 && line->p[line->n - 1] == '\r')
        line->n--;
    return true;
}

/* Cuts the text up to `sep` (or the end) off the front. */
static msh_slice field(msh_slice *line, char sep)
{
    const char *at = memchr(line->p, sep, line->n);
    size_t n = at == NULL ? line->n : (size_t)(at - line->p);
    msh_slice f = {line->p, n};
    line->p += at == NULL ? n : n + 1;
    line->n -= at == NULL ? n : n + 1;
    return f;
}

static bool same(msh_slice a, msh_slice b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

static bool digits(msh_slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

/* 4294967295 is not an id: the kernel reads it as "leave unchanged". */
static bool number(msh_slice s, uint32_t *out)
{
    uint64_t v = 0;
    if (!digits(s) || s.n > 10)
        return false;
    for (size_t i = 0; i < s.n; i++)
        v = v * 10 + (uint64_t)(s.p[i] - '0');
    if (v >= UINT32_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

static bool passwd_line(msh_slice line, msh_slice *name, uint32_t *uid, uint32_t *gid)
{
    *name = field(&line, ':');
    field(&line, ':');
    msh_slice u = field(&line, ':'), g = field(&line, ':');
    return name->n > 0 && number(u, uid) && number(g, gid);
}

/* First line of passwd with this name, or with this uid when `name` is empty. */
static bool find_passwd(msh_slice passwd, msh_slice name, uint32_t uid, msh_slice *found, uint32_t *id,
                        uint32_t *gid)
{
    msh_slice line, n;
    while (next_line(&passwd, &line))
        if (passwd_line(line, &n, id, gid) && (name.n > 0 ? same(n, name) : *id == uid)) {
            *found = n;
            return true;
        }
    return false;
}

static bool find_group(msh_slice group, msh_slice name, uint32_t *gid)
{
    msh_slice line;
    while (next_line(&group, &line)) {
        msh_slice n = field(&line, ':');
        field(&line, ':');
        if (same(n, name) && number(field(&line, ':'), gid))
            return true;
    }
    return false;
}

static bool member(msh_slice list, msh_slice name)
{
    while (list.n > 0)
        if (same(field(&list, ','), name))
            return true;
    return false;
}

static msh_code supplementary(msh_slice group, msh_slice name, msh_user *u, msh_err *err)
{
    msh_slice line;
    while (name.n > 0 && next_line(&group, &line)) {
        uint32_t gid;
        field(&line, ':');
        field(&line, ':');
        if (!number(field(&line, ':'), &gid) || !member(line, name) || gid == u->gid)
            continue;
        if (u->n_groups == MSH_GROUPS_MAX)
            return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "the user is in more than %u groups",
                            MSH_GROUPS_MAX);
        u->groups[u->n_groups++] = gid;
    }
    return MSH_OK;
}

msh_code msh_user_find(const char *text, msh_slice passwd, msh_slice group, msh_user *out, msh_err *err)
{
    msh_user u = {0};
    msh_slice rest = msh_slice_of(text), known = {"", 0};
    bool has_group = strchr(text, ':') != NULL;
    msh_slice who = field(&rest, ':');
    if (strlen(text) > NAME_LONGEST || who.n == 0)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "user \"%.64s\" is not a user", text);
    uint32_t id, gid;
    if (digits(who)) {
        if (!number(who, &u.uid))
            return msh_fail(err, MSH_INVALID_ARGUMENT, "user \"%.64s\": the number is out of range", text);
        if (find_passwd(passwd, (msh_slice){"", 0}, u.uid, &known, &id, &gid))
            u.gid = gid;
    } else if (find_passwd(passwd, who, 0, &known, &u.uid, &gid)) {
        u.gid = gid;
    } else {
        return msh_fail(err, MSH_NOT_FOUND, "user \"%.64s\" is not in the container's passwd file", text);
    }
    if (has_group) {
        if (digits(rest) ? !number(rest, &u.gid) : !find_group(group, rest, &u.gid))
            return msh_fail(err, MSH_NOT_FOUND, "group of \"%.64s\" is not in the container's group file",
                            text);
    } else {
        msh_code rc = supplementary(group, known, &u, err);
        if (rc != MSH_OK)
            return rc;
    }
    *out = u;
    return MSH_OK;
}
