#include "agent/controllers.h"
#include "agent/fs.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const used[] = {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"};
enum {
    USED = sizeof used / sizeof *used,
    /* Whoever manages the top (systemd) may take away there what was not yet handed on below. */
    TRIES = 5
};

bool msh_controllers_has(const char *dir, const char *name)
{
    char path[640], text[512];
    snprintf(path, sizeof path, "%s/cgroup.controllers", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    msh_fd_close(&fd);
    text[n > 0 ? n : 0] = '\0';
    char *save = NULL;
    for (char *s = strtok_r(text, " \n", &save); s != NULL; s = strtok_r(NULL, " \n", &save))
        if (strcmp(s, name) == 0)
            return true;
    return false;
}

static void hand_down(const char *dir)
{
    char path[640], all[128] = "";
    bool has[USED];
    size_t n = 0;
    for (size_t i = 0; i < USED; i++) {
        has[i] = msh_controllers_has(dir, used[i]);
        if (has[i])
            n += (size_t)snprintf(all + n, sizeof all - n, "%s+%s", n > 0 ? " " : "", used[i]);
    }
    snprintf(path, sizeof path, "%s/cgroup.subtree_control", dir);
    if (n == 0 || msh_fs_poke(path, all) == 0)
        return;
    /* All or nothing: one that cannot be handed down shall not keep the others back. */
    for (size_t i = 0; i < USED; i++) {
        char one[32];
        snprintf(one, sizeof one, "+%s", used[i]);
        if (has[i])
            msh_fs_poke(path, one);
    }
}

static void hand_down_to(const char *tree, const char *path)
{
    char at[640];
    hand_down(tree);
    for (size_t n = strcspn(path, "/"); path[n] == '/'; n += 1 + strcspn(path + n + 1, "/")) {
        snprintf(at, sizeof at, "%s/%.*s", tree, (int)n, path);
        hand_down(at);
    }
}

bool msh_controllers_hand_down(const char *tree, const char *path, char *missing, size_t size)
{
    char dir[640];
    size_t n = 1;
    path += strspn(path, "/");
    snprintf(dir, sizeof dir, "%s/%s", tree, path);
    for (int tries = 0; n > 0 && tries < TRIES; tries++) {
        hand_down_to(tree, path);
        n = 0;
        missing[0] = '\0';
        for (size_t i = 0; i < USED; i++)
            if (msh_controllers_has(tree, used[i]) && !msh_controllers_has(dir, used[i]) && n < size)
                n += (size_t)snprintf(missing + n, size - n, "%s%s", n > 0 ? " " : "", used[i]);
    }
    return n == 0;
}
