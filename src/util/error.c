#include "util/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *rmas_version(void) { return RMAS_VERSION; }

const char *rmas_status_name(rmas_status s) {
    switch (s) {
#define X(name, value, text)                                                                                                                         \
    case RMAS_##name: return #name;
        RMAS_STATUS_MAP(X)
#undef X
    }
    return "E_?";
}

rmas_status rm_fail(rmas_error *err, rmas_status code, const char *fmt, ...) {
    if (!err) return code;
    va_list ap;
    va_start(ap, fmt);
    err->code = code;
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    for (char *p = err->msg; *p; p++) /* one line, whatever a hostile name holds */
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = ' ';
    return code;
}

rmas_status rm_fail_prefix(rmas_error *err, rmas_status code, const char *fmt, ...) {
    if (!err) return code;
    char old[sizeof err->msg], prefix[256];
    memcpy(old, err->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    return rm_fail(err, code, "%s: %s", prefix, old);
}
