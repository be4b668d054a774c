/* Errors: every function that can fail returns an rmas_status and fills the caller's rmas_error (may be NULL).
 * A message is one line: which file and which tensor or field, what was expected, what was found, what to do. */
#ifndef RM_UTIL_ERROR_H
#define RM_UTIL_ERROR_H

#include "rmas.h"

/* Formats the message into err and returns code, so that callers can write `return rm_fail(err, RMAS_E_IO, ...)`. */
rmas_status rm_fail(rmas_error *err, rmas_status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message of an error that is passed on (for instance a path). Returns err->code. */
rmas_status rm_fail_prefix(rmas_error *err, rmas_status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define RM_TRY(call)                                                                                                                                 \
    do {                                                                                                                                             \
        rmas_status rm_try_ = (call);                                                                                                                \
        if (rm_try_ != RMAS_OK) return rm_try_;                                                                                                      \
    } while (0)

#endif
