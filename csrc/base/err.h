/* base/err.h - the one error value, the same in C and in Lua.
 *
 * Layer      base: the C library only.
 * Words      code = ours and stable, what policy branches on; hresult = the platform's or the guest's
 *            number, 0 when there is none; origin = who said no; op = the operation that failed ("attach").
 * Ownership  a plain value on the caller's stack; nobody frees it. Every function takes NULL for "do not
 *            tell".
 * Always     1. on failure the outputs of a function are untouched.
 *            2. a call that takes a completion and fails never runs the completion.
 * See        lua/moonshim/err.lua, the same value in Lua */
#ifndef MSH_BASE_ERR_H
#define MSH_BASE_ERR_H
#include <stdbool.h>
#include <stdint.h>

/* The containerd classes plus gone (proof that the thing no longer exists), protocol (the peer broke the
 * rules) and again (not yet: more bytes or time are needed). */
#define MSH_CODES(X)                                                                                         \
    X(OK, "ok")                                                                                              \
    X(UNKNOWN, "unknown")                                                                                    \
    X(INVALID_ARGUMENT, "invalid_argument")                                                                  \
    X(NOT_FOUND, "not_found")                                                                                \
    X(ALREADY_EXISTS, "already_exists")                                                                      \
    X(PERMISSION_DENIED, "permission_denied")                                                                \
    X(RESOURCE_EXHAUSTED, "resource_exhausted")                                                              \
    X(FAILED_PRECONDITION, "failed_precondition")                                                            \
    X(ABORTED, "aborted")                                                                                    \
    X(OUT_OF_RANGE, "out_of_range")                                                                          \
    X(UNIMPLEMENTED, "unimplemented")                                                                        \
    X(INTERNAL, "internal")                                                                                  \
    X(UNAVAILABLE, "unavailable")                                                                            \
    X(DATA_LOSS, "data_loss")                                                                                \
    X(DEADLINE_EXCEEDED, "deadline_exceeded")                                                                \
    X(CANCELLED, "cancelled")                                                                                \
    X(GONE, "gone")                                                                                          \
    X(PROTOCOL, "protocol")                                                                                  \
    X(AGAIN, "again")
#define X(id, text) MSH_##id,
typedef enum msh_code { MSH_CODES(X) MSH_CODE_COUNT } msh_code;
#undef X

typedef enum msh_origin { MSH_SHIM, MSH_HOST, MSH_GUEST } msh_origin;

typedef struct msh_err {
    msh_code code;
    msh_origin origin;
    int32_t hresult;
    char op[24];   /* "" when there is none */
    char msg[240]; /* one line without control characters, context first, cut to fit */
} msh_err;

/* Fills *e (origin shim, no op, no hresult) and returns `code`. */
msh_code msh_fail(msh_err *e, msh_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As msh_fail, from an errno value: its class (ENOENT -> not_found, EACCES/EPERM -> permission_denied, EEXIST
 * -> already_exists, ENOSPC/EMFILE/ENOMEM -> resource_exhausted, ...) and ": <strerror>" at the end of the
 * text. */
msh_code msh_fail_errno(msh_err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#if defined(__clang_analyzer__) && !defined(MSH_ERR_C)
/* clang-tidy reads one file at a time and would believe that a failure may return MSH_OK. */
static inline msh_code msh_failed(msh_code code)
{
    return code != MSH_OK ? code : MSH_UNKNOWN;
}
#define msh_fail(e, code, ...)         (msh_fail((e), (code), __VA_ARGS__), msh_failed(code))
#define msh_fail_errno(e, errnum, ...) (msh_fail_errno((e), (errnum), __VA_ARGS__), MSH_UNKNOWN)
#endif
/* Puts context in front: "attach disk: " + what stood there. */
void msh_err_note(msh_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Names the operation and who refused it. */
void msh_err_from(msh_err *e, msh_origin origin, const char *op);

const char *msh_code_text(msh_code code); /* "unknown" for a number outside the enum */
const char *msh_origin_text(msh_origin origin);
msh_code msh_code_of_errno(int errnum);
#endif
