/* base/buf.h - borrowed bytes (slice) and owned, growing bytes (buf).
 *
 * Layer      base.
 * Ownership  a slice borrows; a buf owns and is freed by msh_buf_free (the empty value is fine).
 * Always     a buf never grows beyond its `limit`; allocation failure is MSH_RESOURCE_EXHAUSTED, never a
 *            crash. */
#ifndef MSH_BASE_BUF_H
#define MSH_BASE_BUF_H
#include "base/err.h"
#include <stddef.h>

typedef struct msh_slice {
    const char *p;
    size_t n;
} msh_slice;

/* Bytes in [start, end) of `p`; what was consumed from the front is reclaimed on the next append. */
typedef struct msh_buf {
    char *p;
    size_t start, end, cap;
    size_t limit; /* most bytes held at once; 0 means no limit */
} msh_buf;

void msh_buf_init(msh_buf *b, size_t limit);
void msh_buf_free(msh_buf *b);
/* Copies `s` to the end. MSH_RESOURCE_EXHAUSTED beyond the limit or without memory; then nothing changed. */
msh_code msh_buf_append(msh_buf *b, msh_slice s);
/* Room for `n` more bytes at the end; write there, then msh_buf_commit. NULL as for append. */
char *msh_buf_reserve(msh_buf *b, size_t n);
void msh_buf_commit(msh_buf *b, size_t n);
void msh_buf_consume(msh_buf *b, size_t n); /* n <= size */

static inline msh_slice msh_buf_slice(const msh_buf *b)
{
    return (msh_slice){b->p != NULL ? b->p + b->start : NULL, b->end - b->start};
}
static inline size_t msh_buf_size(const msh_buf *b)
{
    return b->end - b->start;
}
msh_slice msh_slice_of(const char *text); /* a C string, without its end */
#endif
