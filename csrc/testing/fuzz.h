/* testing/fuzz.h - what the fuzz entry points share: numbers out of the input, and a claim that must hold.
 *
 * Layer      testing.
 * Ownership  borrows the input. */
#ifndef MSH_TESTING_FUZZ_H
#define MSH_TESTING_FUZZ_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct msh_fuzz {
    const uint8_t *p;
    size_t n;
} msh_fuzz;

static inline uint8_t fuzz_byte(msh_fuzz *f) /* 0 when the input is used up */
{
    if (f->n == 0)
        return 0;
    f->n--;
    return *f->p++;
}

/* Up to `n` bytes of the input, in memory of exactly that size, so that a sanitizer sees a step outside. */
static inline char *fuzz_bytes(msh_fuzz *f, size_t n, size_t *got)
{
    *got = n < f->n ? n : f->n;
    char *copy = malloc(*got > 0 ? *got : 1);
    if (copy == NULL)
        abort();
    for (size_t i = 0; i < *got; i++)
        copy[i] = (char)f->p[i];
    f->p += *got;
    f->n -= *got;
    return copy;
}

static inline void must(int claim)
{
    if (!claim)
        abort();
}
#endif
