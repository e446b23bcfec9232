#include "agent/split.h"
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 4096u

typedef struct words {
    char **list;
    size_t n;
    char *word; /* room for the whole line */
    size_t len;
    bool open; /* a word has begun, maybe an empty quoted one */
} words;

static bool end_word(words *w)
{
    if (!w->open)
        return true;
    w->word[w->len] = '\0';
    w->open = false;
    if (w->n + 1 >= WORDS_MAX || (w->list[w->n] = strdup(w->word)) == NULL)
        return false;
    w->list[++w->n] = NULL;
    w->len = 0;
    return true;
}

static void put(words *w, char c)
{
    w->open = true;
    w->word[w->len++] = c;
}

static msh_code scan(const char *line, words *w, msh_err *err)
{
    char quote = '\0';
    for (const char *p = line; *p != '\0'; p++) {
        if (*p == '\\' && quote != '\'' && p[1] != '\0') {
            p++;
            put(w, *p == 't' ? '\t' : *p == 'n' ? '\n' : *p);
        } else if (quote != '\0') {
            if (*p == quote)
                quote = '\0';
            else
                put(w, *p);
        } else if (*p == '\'' || *p == '"') {
            quote = *p;
            w->open = true;
        } else if (strchr(" \t\r\n", *p) != NULL) {
            if (!end_word(w))
                return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "the command line is too long");
        } else if (strchr(";&|<>", *p) != NULL) {
            break;
        } else if (*p == '(' || *p == ')') {
            return msh_fail(err, MSH_UNKNOWN, "the command line has a bare parenthesis");
        } else {
            put(w, *p);
        }
    }
    if (quote != '\0')
        return msh_fail(err, MSH_UNKNOWN, "the command line has an open quote");
    return end_word(w) ? MSH_OK : msh_fail(err, MSH_RESOURCE_EXHAUSTED, "the command line is too long");
}

msh_code msh_split_command(const char *line, char ***out, msh_err *err)
{
    words w = {.list = calloc(WORDS_MAX + 1, sizeof(char *)), .word = malloc(strlen(line) + 1)};
    msh_code rc = w.list == NULL || w.word == NULL ? msh_fail(err, MSH_RESOURCE_EXHAUSTED, "no memory")
                                                   : scan(line, &w, err);
    free(w.word);
    if (rc == MSH_OK) {
        *out = w.list;
        return MSH_OK;
    }
    for (size_t i = 0; i < w.n; i++)
        free(w.list[i]);
    free(w.list);
    return rc;
}
