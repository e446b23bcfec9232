#include "device/explore.h"

typedef struct visited {
    uint32_t before; /* index of the state before */
    act by;
} visited;

typedef struct seen {
    uint64_t *prints;
    size_t cap, n;
} seen;

static bool see(seen *s, uint64_t print) /* true when it is new */
{
    if (s->n * 2 >= s->cap) {
        seen bigger = {calloc(s->cap ? s->cap * 2 : 1024, sizeof(uint64_t)), s->cap ? s->cap * 2 : 1024, 0};
        assert_non_null(bigger.prints);
        for (size_t i = 0; i < s->cap; i++)
            if (s->prints[i] != 0)
                see(&bigger, s->prints[i]);
        free(s->prints);
        *s = bigger;
    }
    size_t i = print & (s->cap - 1);
    while (s->prints[i] != 0 && s->prints[i] != print)
        i = (i + 1) & (s->cap - 1);
    if (s->prints[i] == print)
        return false;
    s->prints[i] = print;
    s->n++;
    return true;
}

static void replay(world *w, const setting *s, const visited *states, uint32_t at)
{
    model_path_len = 0;
    for (uint32_t i = at; i != 0; i = states[i].before)
        model_path_len++;
    assert_true(model_path_len < (int)(sizeof model_path / sizeof model_path[0]) - 1);
    int k = model_path_len;
    for (uint32_t i = at; i != 0; i = states[i].before)
        model_path[--k] = states[i].by;
    model_begin(w, s);
    w->replaying = true;
    for (int i = 0; i < model_path_len; i++)
        assert_true(model_perform(w, model_path[i]));
    w->replaying = false;
}

void explore_all(const setting *s)
{
    seen known = {0};
    size_t cap = 1024;
    visited *states = malloc(cap * sizeof *states);
    uint32_t n = 1;
    uint64_t steps = 0;
    int deepest = 0;
    world w;
    model_begin(&w, s);
    see(&known, model_print(&w));
    states[0] = (visited){0, {0, 0}};
    msh_resvs_free(w.t);
    for (uint32_t at = 0; at < n; at++) {
        replay(&w, s, states, at);
        model_must_reach_empty(&w);
        msh_resvs_free(w.t);
        deepest = model_path_len > deepest ? model_path_len : deepest;
        bool fresh = false;
        for (int what = 0; what < ACTS; what++)
            for (int whom = 0; whom < FLIGHT; whom++) {
                if (!fresh)
                    replay(&w, s, states, at);
                fresh = true;
                model_path[model_path_len] = (act){(uint8_t)what, (uint8_t)whom};
                model_path_len++;
                bool done = model_perform(&w, model_path[model_path_len - 1]);
                model_path_len--;
                if (!done)
                    continue; /* nothing changed: go on from the same table */
                steps++;
                if (see(&known, model_print(&w))) {
                    if (n == cap)
                        states = realloc(states, (cap *= 2) * sizeof *states);
                    assert_non_null(states);
                    states[n++] = (visited){at, {(uint8_t)what, (uint8_t)whom}};
                }
                msh_resvs_free(w.t);
                fresh = false;
            }
        if (fresh)
            msh_resvs_free(w.t);
    }
    print_message("  %s: %u states, %llu steps, longest way %d\n", s->name, n, (unsigned long long)steps,
                  deepest);
    free(states);
    free(known.prints);
}

void explore_at_random(const setting *s, uint32_t seed)
{
    world w;
    int acts = 0;
    model_begin(&w, s);
    model_path_len = 0;
    for (int tries = 0; acts < 10000 && tries < 1000000; tries++) {
        seed = seed * 1664525u + 1013904223u;
        act a = {(uint8_t)((seed >> 8) % ACTS), (uint8_t)((seed >> 16) % FLIGHT)};
        int last = model_path_len < 255 ? model_path_len++ : 255;
        if (last == 255) /* the report shows the last acts */
            memmove(model_path, model_path + 1, 255 * sizeof model_path[0]);
        model_path[last] = a;
        if (w.nflights < FLIGHT && model_perform(&w, a))
            acts++;
        else if (w.nflights == FLIGHT)
            acts += model_perform(&w, (act){w.flights[0].landed ? LATE : DONE_OK, 0});
        else
            model_path_len = last;
    }
    assert_int_equal(acts, 10000);
    model_must_reach_empty(&w);
    msh_resvs_free(w.t);
}
