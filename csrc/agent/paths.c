#include "agent/paths.h"
#include <stdio.h>
#include <string.h>

msh_code msh_path_clean(const char *path, char *out, size_t size, msh_err *err)
{
    if (path[0] != '/')
        return msh_fail(err, MSH_INVALID_ARGUMENT, "path \"%.80s\" is not absolute", path);
    size_t n = 0;
    for (const char *p = path; *p != '\0';) {
        p += strspn(p, "/");
        size_t len = strcspn(p, "/");
        if (len == 0)
            break;
        if (len == 2 && p[0] == '.' && p[1] == '.') {
            while (n > 0 && out[--n] != '/') {
            }
        } else if (len != 1 || p[0] != '.') {
            if (n + len + 2 > size)
                return msh_fail(err, MSH_INVALID_ARGUMENT, "path is longer than %zu bytes", size);
            out[n++] = '/';
            memcpy(out + n, p, len);
            n += len;
        }
        p += len;
    }
    if (n == 0)
        out[n++] = '/';
    out[n] = '\0';
    return MSH_OK;
}

bool msh_path_below(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (path[n] == '\0' || path[n] == '/' || strcmp(folder, "/") == 0);
}

msh_code msh_path_target(const char *what, const char *path, char *out, size_t size, msh_err *err)
{
    msh_code rc = msh_path_clean(path, out, size, err);
    if (rc == MSH_OK && (!msh_path_below(out, "/run") || strcmp(out, "/run") == 0))
        rc = msh_fail(err, MSH_INVALID_ARGUMENT, "path \"%.80s\" is not below /run", out);
    if (rc == MSH_OK && (msh_path_below(out, MSH_STATE_DIR) || msh_path_below(out, MSH_HOST_DIR)))
        rc = msh_fail(err, MSH_INVALID_ARGUMENT, "path \"%.80s\" belongs to the agent", out);
    if (rc != MSH_OK)
        msh_err_note(err, "%s", what);
    return rc;
}

msh_code msh_path_join(const char *base, const char *rest, char *out, size_t size, msh_err *err)
{
    char tail[MSH_PATH_MAX], rooted[MSH_PATH_MAX];
    int n = snprintf(rooted, sizeof rooted, "/%s", rest);
    if (n < 0 || (size_t)n >= sizeof rooted)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "path is longer than %d bytes", MSH_PATH_MAX);
    msh_code rc = msh_path_clean(rooted, tail, sizeof tail, err);
    if (rc != MSH_OK)
        return rc;
    n = snprintf(out, size, "%s%s", strcmp(base, "/") == 0 ? "" : base, strcmp(tail, "/") == 0 ? "" : tail);
    if (n < 0 || (size_t)n >= size)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "path is longer than %zu bytes", size);
    return MSH_OK;
}

void msh_path_parent(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL || slash == path ? 1 : (size_t)(slash - path);
    if (n >= size)
        n = size - 1;
    memcpy(out, path, n);
    out[n] = '\0';
}

bool msh_id_ok(const char *id)
{
    size_t n = strlen(id);
    return n > 0 && n <= 200 && strspn(id, ".") != n &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.") == n;
}
