#include "bridge/deadlines.h"
#include <stdlib.h>

static void set(msh_deadlines *h, size_t i, msh_deadline *d)
{
    h->heap[i] = d;
    d->place = i + 1;
}

static void sift_up(msh_deadlines *h, size_t i, msh_deadline *d)
{
    while (i > 0 && h->heap[(i - 1) / 2]->at > d->at) {
        set(h, i, h->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    set(h, i, d);
}

static void sift_down(msh_deadlines *h, size_t i, msh_deadline *d)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->n)
            break;
        if (child + 1 < h->n && h->heap[child + 1]->at < h->heap[child]->at)
            child++;
        if (h->heap[child]->at >= d->at)
            break;
        set(h, i, h->heap[child]);
        i = child;
    }
    set(h, i, d);
}

bool msh_deadlines_add(msh_deadlines *h, msh_deadline *d)
{
    if (h->n == h->cap) {
        size_t cap = h->cap == 0 ? 16 : h->cap * 2;
        msh_deadline **p = realloc(h->heap, cap * sizeof *p);
        if (p == NULL)
            return false;
        h->heap = p;
        h->cap = cap;
    }
    sift_up(h, h->n++, d);
    return true;
}

void msh_deadlines_remove(msh_deadlines *h, msh_deadline *d)
{
    if (d->place == 0)
        return;
    size_t i = d->place - 1;
    msh_deadline *last = h->heap[--h->n];
    d->place = 0;
    if (last == d)
        return;
    if (i > 0 && h->heap[(i - 1) / 2]->at > last->at)
        sift_up(h, i, last);
    else
        sift_down(h, i, last);
}

msh_deadline *msh_deadlines_first(const msh_deadlines *h)
{
    return h->n == 0 ? NULL : h->heap[0];
}

void msh_deadlines_free(msh_deadlines *h)
{
    free(h->heap);
    *h = (msh_deadlines){0};
}
