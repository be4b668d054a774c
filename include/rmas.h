/* rmas.h - the public interface of the rmas library. */
#ifndef RMAS_H
#define RMAS_H

#include <stddef.h>
#include <stdint.h>

#define RMAS_VERSION "0.1.0"

/* ---- status ------------------------------------------------------------- */

#define RMAS_STATUS_MAP(X)                                                                                                                           \
    X(OK, 0, "ok")                                                                                                                                   \
    X(E_ARG, -1, "invalid argument")                                                                                                                 \
    X(E_NOMEM, -2, "out of memory")                                                                                                                  \
    X(E_IO, -3, "file or socket error")                                                                                                              \
    X(E_FORMAT, -4, "malformed or truncated file")                                                                                                   \
    X(E_UNSUPPORTED, -5, "valid, but not supported here")                                                                                            \
    X(E_SHAPE, -6, "tensor shape does not fit the model")                                                                                            \
    X(E_FULL, -7, "context or batch capacity exceeded")                                                                                              \
    X(E_CANCELLED, -8, "cancelled by the caller")                                                                                                    \
    X(E_TOOL, -9, "a tool failed or was refused")

typedef enum {
#define X(name, value, text) RMAS_##name = value,
    RMAS_STATUS_MAP(X)
#undef X
} rmas_status;

/* Filled by the function that fails; the caller owns it and may pass NULL. */
typedef struct {
    rmas_status code;
    char msg[504];
} rmas_error;

const char *rmas_version(void);
const char *rmas_status_name(rmas_status s); /* "E_SHAPE" */

#endif /* RMAS_H */
