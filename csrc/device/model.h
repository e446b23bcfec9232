/* device/model.h - for tests: the reservation machine beside the world as it really is.
 *
 * Words      client = who makes, aims and re-aims one reservation; act = what a client does or how an effect ends.
 * Always     after every act the machine is compared with the world, see model.c. */
#ifndef MSH_DEVICE_MODEL_H
#define MSH_DEVICE_MODEL_H
#include "device/machine.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CLIENTS = 8, PLACES = 8, PARTS = 3, FLIGHT = 16 };

typedef struct setting {
    const char *name;
    msh_resvs_config config;
    bool boot;  /* slot 0 is a boot disk */
    bool eager; /* effects are given out as soon as they are due, instead of at any later moment */
    int clients;
    msh_want wants[CLIENTS];
    bool restored; /* the clients were there before a crash, at slot 0, and this was the truth: */
    msh_held held[CLIENTS];
    bool attached, ejected, mounted[3];
} setting;

typedef struct place { /* the truth about one slot, or about one share */
    bool attached, ejected, mounted[PARTS];
} place;

typedef struct flight {
    msh_effect_id id;
    msh_op op;
    int place, part;       /* part -1: the parent */
    bool landed, happened; /* unknown outcome: what really was */
} flight;

typedef struct world {
    const setting *s;
    msh_resvs *t;
    msh_resv r[CLIENTS];
    bool holds[CLIENTS]; /* told "mapped", and did not aim elsewhere since */
    place places[PLACES];
    flight flights[FLIGHT];
    int nflights;
    bool replaying; /* these steps were checked when they were first taken */
} world;

/* An act: what, and on whom. */
enum { MAKE, MAP, RELEASE, TAKE, DONE_OK, DONE_GONE, DONE_FAILED, DONE_LOST, DONE_NOT, LATE, ACTS };
typedef struct act {
    uint8_t what, whom;
} act;

/* Fails the test with the way that led here; see model_path. */
_Noreturn void model_broken(const world *w, const char *what, int line);
#define CHECK(cond)                                                                                          \
    do {                                                                                                     \
        if (!(cond))                                                                                         \
            model_broken(w, #cond, __LINE__);                                                                \
    } while (0)

extern act model_path[256]; /* how the state at hand was reached, for the report */
extern int model_path_len;

/* A world as the setting says, with a table of its own; the caller frees w->t. */
void model_begin(world *w, const setting *s);

/* False when the act is not possible in this state; then nothing was done. */
bool model_perform(world *w, act a);

/* Everything that can decide about the future, in a form that does not grow with time; never 0. */
uint64_t model_print(const world *w);

/* All aims on released and every effect ok: the end must be an empty table and an empty world. */
void model_must_reach_empty(world *w);
#endif
