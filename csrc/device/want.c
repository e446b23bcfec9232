#include "device/machine.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int lower(int c, bool fold)
{
    return fold && c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

bool msh_text_same(const char *a, const char *b, bool fold)
{
    a = a != NULL ? a : "";
    b = b != NULL ? b : "";
    while (*a != '\0' && lower((unsigned char)*a, fold) == lower((unsigned char)*b, fold)) {
        a++;
        b++;
    }
    return *a == '\0' && *b == '\0';
}

static bool contains(msh_texts list, const char *text, bool fold)
{
    for (size_t i = 0; i < list.n; i++)
        if (msh_text_same(list.items[i], text, fold))
            return true;
    return false;
}

static bool subset(msh_texts a, msh_texts b, bool fold)
{
    for (size_t i = 0; i < a.n; i++)
        if (!contains(b, a.items[i], fold))
            return false;
    return true;
}

bool msh_texts_same(msh_texts a, msh_texts b, bool fold)
{
    return subset(a, b, fold) && subset(b, a, fold);
}

bool msh_mount_same(const msh_mount_config *a, const msh_mount_config *b)
{
    return a->read_only == b->read_only && a->encrypted == b->encrypted &&
           a->ensure_filesystem == b->ensure_filesystem && a->block_dev == b->block_dev &&
           msh_text_same(a->filesystem, b->filesystem, false) && msh_texts_same(a->options, b->options, true);
}

uint64_t msh_path_hash(const char *path, bool fold)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (; *path != '\0'; path++)
        h = (h ^ (uint64_t)lower((unsigned char)*path, fold)) * UINT64_C(0x100000001b3);
    return h;
}

/* By text alone: whoever calls has followed symbolic links, so that ".." means what it says. */
msh_code msh_path_clean(const char *path, bool fold, char *out, msh_err *err)
{
    if (path == NULL || path[0] == '\0')
        return msh_fail(err, MSH_INVALID_ARGUMENT, "the path is empty");
    if (strnlen(path, MSH_RESV_PATH + 1) > MSH_RESV_PATH)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "the path is longer than %u bytes", MSH_RESV_PATH);
    if (path[0] != '/') {
        if (!fold)
            return msh_fail(err, MSH_INVALID_ARGUMENT, "path %.120s is not absolute", path);
        /* A drive or device path: its spelling is the host driver's business. */
        memcpy(out, path, strlen(path) + 1);
        return MSH_OK;
    }
    size_t n = 0;
    for (const char *p = path; *p != '\0';) {
        while (*p == '/')
            p++;
        size_t part = strcspn(p, "/");
        if (part == 2 && memcmp(p, "..", 2) == 0) {
            while (n > 0 && out[--n] != '/')
                ;
        } else if (part > 0 && !(part == 1 && *p == '.')) {
            out[n++] = '/';
            memcpy(out + n, p, part);
            n += part;
        }
        p += part;
    }
    if (n == 0)
        out[n++] = '/';
    out[n] = '\0';
    return MSH_OK;
}

static bool plain(const char *text, size_t longest)
{
    size_t n = strnlen(text, longest + 1);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return n <= longest;
}

static msh_code check_list(msh_texts list, const char *what, msh_err *err)
{
    if (list.n > MSH_RESV_LIST)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "%zu %ss, at most %u are taken", list.n, what,
                        MSH_RESV_LIST);
    for (size_t i = 0; i < list.n; i++)
        if (list.items[i] == NULL || list.items[i][0] == '\0' || !plain(list.items[i], MSH_RESV_TEXT))
            return msh_fail(err, MSH_INVALID_ARGUMENT, "%s %zu is empty, too long or has control characters",
                            what, i + 1);
    return MSH_OK;
}

msh_code msh_want_check(const msh_want *want, msh_err *err)
{
    if (!plain(want->path != NULL ? want->path : "", MSH_RESV_PATH))
        return msh_fail(err, MSH_INVALID_ARGUMENT, "the path is too long or has control characters");
    const char *words[] = {want->type, want->provider, want->mount.filesystem};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (words[i] != NULL && !plain(words[i], MSH_RESV_WORD))
            return msh_fail(err, MSH_INVALID_ARGUMENT, "%.40s...: too long or with control characters",
                            words[i]);
    msh_code rc = check_list(want->mount.options, "mount option", err);
    if (rc == MSH_OK)
        rc = check_list(want->names, "name", err);
    return rc;
}

/* One block: the lists' pointers first, then all text. */
typedef struct copier {
    const char **items;
    char *text;
} copier;

static size_t size_of(const char *s)
{
    return s != NULL ? strlen(s) + 1 : 1;
}

static size_t size_of_list(msh_texts list)
{
    size_t n = 0;
    for (size_t i = 0; i < list.n; i++)
        n += size_of(list.items[i]);
    return n;
}

static const char *copy(copier *c, const char *s)
{
    char *at = c->text;
    size_t n = size_of(s);
    memcpy(at, s != NULL ? s : "", n);
    c->text += n;
    return at;
}

static msh_texts copy_list(copier *c, msh_texts list)
{
    msh_texts out = {c->items, list.n};
    for (size_t i = 0; i < list.n; i++)
        *c->items++ = copy(c, list.items[i]);
    return out;
}

static bool copier_open(copier *c, size_t items, size_t text, void **memory)
{
    char *block = malloc(items * sizeof(char *) + text);
    if (block == NULL)
        return false;
    *c = (copier){(const char **)(void *)block, block + items * sizeof(char *)};
    *memory = block;
    return true;
}

bool msh_want_copy(const msh_want *want, const char *path, msh_want *out, void **memory)
{
    copier c;
    size_t text = size_of(path) + size_of(want->type) + size_of(want->provider) + size_of(want->instance) +
                  size_of_list(want->names);
    if (!copier_open(&c, want->names.n, text, memory))
        return false;
    *out = (msh_want){.bus = want->bus,
                      .read_only = want->read_only,
                      .restrict_names = want->restrict_names,
                      .vf = want->vf};
    out->names = copy_list(&c, want->names);
    out->path = copy(&c, path);
    out->type = copy(&c, want->type);
    out->provider = copy(&c, want->provider);
    out->instance = copy(&c, want->instance);
    return true;
}

bool msh_mount_copy(const msh_mount_config *config, msh_mount_config *out, void **memory)
{
    copier c;
    size_t text = size_of(config->filesystem) + size_of_list(config->options);
    if (!copier_open(&c, config->options.n, text, memory))
        return false;
    *out = *config;
    out->options = copy_list(&c, config->options);
    out->filesystem = copy(&c, config->filesystem);
    return true;
}
