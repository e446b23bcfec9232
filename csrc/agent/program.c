#include "agent/program.h"
#include "agent/format.h"
#include "agent/fs.h"
#include "agent/json.h"
#include "agent/paths.h"
#include "wire/gcs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define TEXT_MAX     (4u << 20) /* of a passwd or group file */
#define PATH_ROOM    (2 * MSH_PATH_MAX)
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

int msh_program_root(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/root", (int)pid);
    return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static const char *search_path(const json_t *process)
{
    const char *path = DEFAULT_PATH;
    size_t i;
    json_t *v;
    json_array_foreach(msh_json_get(process, "env"), i, v)
    {
        const char *s = json_string_value(v);
        if (s != NULL && strncmp(s, "PATH=", 5) == 0)
            path = s + 5;
    }
    return path;
}

/* The best that goes by the name of args[0], and its `path` in root when that is a program. */
static msh_code find(int root, const json_t *process, char path[PATH_ROOM], msh_found *best, msh_err *err)
{
    const char *name = json_string_value(json_array_get(msh_json_get(process, "args"), 0));
    const char *cwd = json_string_value(msh_json_get(process, "cwd"));
    *best = MSH_FILE_MISSING;
    if (name == NULL || name[0] == '\0')
        return msh_fail(err, MSH_INVALID_ARGUMENT, "the process names no program");
    if (strlen(name) >= MSH_PATH_MAX || (cwd != NULL && strlen(cwd) >= MSH_PATH_MAX))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "the name of the program is too long");
    if (strchr(name, '/') != NULL) {
        snprintf(path, PATH_ROOM, "%s%s%s", name[0] == '/' || cwd == NULL ? "" : cwd,
                 name[0] == '/' ? "" : "/", name);
        *best = msh_format_look(root, path, NULL);
        return MSH_OK;
    }
    for (const char *p = search_path(process); *p != '\0' && *best != MSH_FILE_FOUND;) {
        size_t n = strcspn(p, ":");
        if (n < MSH_PATH_MAX) {
            snprintf(path, PATH_ROOM, "%s%s%.*s/%s", p[0] == '/' || cwd == NULL ? "" : cwd,
                     p[0] == '/' ? "" : "/", (int)n, p, name);
            msh_found f = msh_format_look(root, path, NULL);
            *best = f > *best ? f : *best;
        }
        p += n;
        p += *p == ':';
    }
    return MSH_OK;
}

msh_code msh_program_find(int root, const json_t *process, msh_err *err)
{
    char path[PATH_ROOM];
    msh_found best;
    msh_code rc = find(root, process, path, &best, err);
    if (rc != MSH_OK || best == MSH_FILE_FOUND)
        return rc;
    const char *name = json_string_value(json_array_get(msh_json_get(process, "args"), 0));
    rc = best == MSH_FILE_MISSING
             ? msh_fail(err, MSH_NOT_FOUND, "program \"%.100s\" is not in the container", name)
             : msh_fail(err, MSH_PERMISSION_DENIED, "\"%.100s\" is not an executable program", name);
    if (err != NULL)
        err->hresult = best == MSH_FILE_MISSING ? MSH_HR_FILE_NOT_FOUND : MSH_HR_ACCESS_DENIED;
    return rc;
}

msh_code msh_program_runs(int root, const json_t *process, msh_err *err)
{
    char path[PATH_ROOM];
    msh_found best;
    int file = -1;
    if (find(root, process, path, &best, NULL) != MSH_OK || best != MSH_FILE_FOUND ||
        msh_format_look(root, path, &file) != MSH_FILE_FOUND)
        return MSH_OK;
    const char *cwd = json_string_value(msh_json_get(process, "cwd"));
    msh_code rc = msh_format_check(root, cwd, path, file, err);
    msh_fd_close(&file);
    if (rc != MSH_OK && err != NULL)
        err->hresult = MSH_HR_ACCESS_DENIED;
    return rc;
}

msh_code msh_program_user(int root, const char *text, msh_user *out, msh_err *err)
{
    msh_buf passwd, group;
    msh_code rc = MSH_OK;
    msh_buf_init(&passwd, 2 * TEXT_MAX);
    msh_buf_init(&group, 2 * TEXT_MAX);
    /* A missing file is an image without names: numbers still work. Anything else is told. */
    if (msh_fs_read(root, "/etc/passwd", TEXT_MAX, &passwd) != 0 && errno != ENOENT && errno != ENOTDIR)
        rc = msh_fail_errno(err, errno, "read the container's passwd file");
    else if (msh_fs_read(root, "/etc/group", TEXT_MAX, &group) != 0 && errno != ENOENT && errno != ENOTDIR)
        rc = msh_fail_errno(err, errno, "read the container's group file");
    else
        rc = msh_user_find(text, msh_buf_slice(&passwd), msh_buf_slice(&group), out, err);
    msh_buf_free(&passwd);
    msh_buf_free(&group);
    return rc;
}

int32_t msh_program_blame(const char *text)
{
    bool about_program = strcasestr(text, "executable") != NULL || strstr(text, "exec: ") != NULL ||
                         strstr(text, "exec `") != NULL || strstr(text, "execv") != NULL;
    if (!about_program)
        return 0;
    if (strcasestr(text, "permission denied") != NULL || strcasestr(text, "not permitted") != NULL ||
        strcasestr(text, "is a directory") != NULL || strcasestr(text, "exec format error") != NULL)
        return MSH_HR_ACCESS_DENIED;
    if (strcasestr(text, "no such file") != NULL || strcasestr(text, "not found") != NULL ||
        strcasestr(text, "not a directory") != NULL)
        return MSH_HR_FILE_NOT_FOUND;
    return 0;
}
