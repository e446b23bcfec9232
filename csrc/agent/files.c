#include "agent/files.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define WORDS_MAX 64
#define WORD_LEN  256
#define SEARCHES  6

msh_code msh_hostname_check(const char *name, msh_err *err)
{
    size_t n = strlen(name);
    if (n > 255 || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") != n)
        return msh_fail(err, MSH_INVALID_ARGUMENT,
                        "host name \"%.40s\" has characters that host names cannot have", name);
    return MSH_OK;
}

static msh_code put(msh_buf *out, const char *text)
{
    return msh_buf_append(out, msh_slice_of(text));
}

msh_code msh_hostname_file(const char *name, msh_buf *out)
{
    msh_code rc = put(out, name);
    return rc != MSH_OK ? rc : put(out, "\n");
}

msh_code msh_hosts_file(const char *name, const char *address, msh_buf *out)
{
    const char *own = address != NULL && address[0] != '\0' ? address : "127.0.0.1";
    char line[600];
    const char *dot = strchr(name, '.');
    if (dot != NULL && dot != name)
        snprintf(line, sizeof line, "%s %s %.*s\n", own, name, (int)(dot - name), name);
    else
        snprintf(line, sizeof line, "%s %s\n", own, name);
    msh_code rc = put(out, "127.0.0.1 localhost\n");
    if (rc == MSH_OK)
        rc = put(out, line);
    if (rc == MSH_OK)
        rc = put(out, "\n# names that IPv6 programs expect\n"
                      "::1 ip6-localhost ip6-loopback\n"
                      "fe00::0 ip6-localnet\n"
                      "ff00::0 ip6-mcastprefix\n"
                      "ff02::1 ip6-allnodes\n"
                      "ff02::2 ip6-allrouters\n");
    return rc;
}

typedef struct words {
    size_t n;
    char word[WORDS_MAX][WORD_LEN];
} words;

static msh_code add_words(const char *list, words *w, msh_err *err)
{
    for (const char *p = list; *p != '\0';) {
        size_t n = strcspn(p, ",");
        const char *from = p;
        p += n;
        p += *p == ',';
        while (n > 0 && isspace((unsigned char)*from)) {
            from++;
            n--;
        }
        while (n > 0 && isspace((unsigned char)from[n - 1]))
            n--;
        if (n == 0)
            continue;
        char word[WORD_LEN];
        if (n >= sizeof word)
            return msh_fail(err, MSH_INVALID_ARGUMENT, "a name server or search domain has %zu bytes", n);
        for (size_t i = 0; i < n; i++)
            word[i] = (char)tolower((unsigned char)from[i]);
        word[n] = '\0';
        if (strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_-.:%") != n)
            return msh_fail(err, MSH_INVALID_ARGUMENT, "\"%.40s\" is not a name server or search domain",
                            word);
        bool known = false;
        for (size_t i = 0; i < w->n && !known; i++)
            known = strcmp(w->word[i], word) == 0;
        if (known)
            continue;
        if (w->n == WORDS_MAX)
            return msh_fail(err, MSH_INVALID_ARGUMENT, "more than %d name servers or search domains",
                            WORDS_MAX);
        memcpy(w->word[w->n++], word, n + 1);
    }
    return MSH_OK;
}

msh_code msh_resolv_file(const char *const *searches, const char *const *servers, size_t n, msh_buf *out,
                         msh_err *err)
{
    words search = {0}, server = {0};
    msh_code rc = MSH_OK;
    for (size_t i = 0; i < n && rc == MSH_OK; i++) {
        rc = add_words(searches[i], &search, err);
        if (rc == MSH_OK)
            rc = add_words(servers[i], &server, err);
    }
    if (rc == MSH_OK && search.n > SEARCHES)
        rc = msh_fail(err, MSH_INVALID_ARGUMENT, "%zu search domains, at most %d are possible", search.n,
                      SEARCHES);
    for (size_t i = 0; i < search.n && rc == MSH_OK; i++) {
        rc = put(out, i == 0 ? "search " : " ");
        if (rc == MSH_OK)
            rc = put(out, search.word[i]);
        if (rc == MSH_OK && i + 1 == search.n)
            rc = put(out, "\n");
    }
    for (size_t i = 0; i < server.n && rc == MSH_OK; i++) {
        char line[WORD_LEN + 16];
        snprintf(line, sizeof line, "nameserver %s\n", server.word[i]);
        rc = put(out, line);
    }
    return rc;
}
