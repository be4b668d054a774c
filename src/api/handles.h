/* What stands behind the public handles. */
#ifndef RM_API_HANDLES_H
#define RM_API_HANDLES_H

#include "link/link.h"
#include "prompt/prompt.h"
#include "session/session.h"
#include "tok/tok.h"

struct rmas_engine {
    rm_exec *exec;
};

struct rmas_model {
    rm_model *model;
    rm_tok *tok;
    rm_chat *chat; /* NULL: the model has no chat template */
    char *path;
};

struct rmas_link {
    rm_link *link;
};

static inline rm_precision rm_api_precision(rmas_precision p) { return p == RMAS_EXACT ? RM_EXACT : RM_NATIVE; }

#endif
