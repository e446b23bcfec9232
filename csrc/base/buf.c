#include "base/buf.h"
#include <stdlib.h>
#include <string.h>

void msh_buf_init(msh_buf *b, size_t limit)
{
    *b = (msh_buf){.limit = limit};
}

void msh_buf_free(msh_buf *b)
{
    free(b->p);
    *b = (msh_buf){.limit = b->limit};
}

char *msh_buf_reserve(msh_buf *b, size_t n)
{
    size_t size = b->end - b->start;
    if (n > SIZE_MAX / 4 || size + n < size || (b->limit != 0 && size + n > b->limit))
        return NULL;
    if (b->cap - b->end >= n && b->p != NULL)
        return b->p + b->end;
    if (b->start > 0 && b->p != NULL) {
        memmove(b->p, b->p + b->start, size);
        b->start = 0;
        b->end = size;
    }
    if (b->cap < size + n || b->p == NULL) {
        size_t cap = b->cap < 256 ? 256 : b->cap * 2;
        if (cap < size + n)
            cap = size + n;
        if (b->limit != 0 && cap > b->limit)
            cap = b->limit;
        char *p = realloc(b->p, cap > 0 ? cap : 1);
        if (p == NULL)
            return NULL;
        b->p = p;
        b->cap = cap;
    }
    return b->p + b->end;
}

void msh_buf_commit(msh_buf *b, size_t n)
{
    b->end += n;
}

msh_code msh_buf_append(msh_buf *b, msh_slice s)
{
    if (s.n == 0)
        return MSH_OK;
    char *p = msh_buf_reserve(b, s.n);
    if (p == NULL)
        return MSH_RESOURCE_EXHAUSTED;
    memcpy(p, s.p, s.n);
    b->end += s.n;
    return MSH_OK;
}

void msh_buf_consume(msh_buf *b, size_t n)
{
    b->start += n;
    if (b->start == b->end)
        b->start = b->end = 0;
}

msh_slice msh_slice_of(const char *text)
{
    return (msh_slice){text, strlen(text)};
}
