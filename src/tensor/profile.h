/* Where the time goes: one clock that always runs on something. Whoever begins an operation switches the clock to its class; time, calls and
 * work are kept per class and per stage (who computes, in which round and phase). Only the thread that calls the engine switches.
 *
 * Off (exec->profile is NULL) it costs one predictable branch per switch, on one reading of the clock. */
#ifndef RM_TENSOR_PROFILE_H
#define RM_TENSOR_PROFILE_H

#include <stdint.h>

#include "tensor/exec.h"

#define RM_TIME_CLASSES(X)                                                                                                                           \
    X(OTHER, "other")                                                                                                                                \
    X(LOAD, "loading")                                                                                                                               \
    X(TEXT, "templates, tokenizer")                                                                                                                  \
    X(EMBED, "embedding")                                                                                                                            \
    X(MIX_IN, "q, k, v products") /* and the inputs of the delta rule */                                                                             \
    X(MIX_OUT, "o products")                                                                                                                         \
    X(FFN, "ffn products")                                                                                                                           \
    X(HEAD, "lm head")                                                                                                                               \
    X(QUANT, "quantising") /* activations before a product: to 8 bits or bf16 */                                                                     \
    X(ATTENTION, "attention")                                                                                                                        \
    X(DELTA, "delta rule")                                                                                                                           \
    X(POINTWISE, "norms, rotation, activation")                                                                                                      \
    X(LINK, "links")                                                                                                                                 \
    X(SAMPLE, "sampling")                                                                                                                            \
    X(TOOL, "waiting for tools")                                                                                                                     \
    X(GRADE, "results, grading")

typedef enum {
#define X(name, text) RM_TIME_##name,
    RM_TIME_CLASSES(X)
#undef X
        RM_N_TIME
} rm_time;

typedef enum { RM_OPS_F32, RM_OPS_BF16, RM_OPS_INT8, RM_N_OPS } rm_ops_kind;
typedef enum { RM_PHASE_NONE, RM_PHASE_PREFILL, RM_PHASE_LATENT, RM_PHASE_DECODE, RM_N_PHASE } rm_phase;

typedef struct {
    uint64_t ns, n_call;
    double bytes; /* of weights and caches, each counted once per call */
    double ops[RM_N_OPS]; /* 2 per multiply-add, by the arithmetic that does them */
} rm_profile_cell;

typedef struct {
    char role[48]; /* "": outside of all stages */
    int round;
    rm_phase phase;
    uint64_t n_call, n_pos, n_reused; /* passes, positions that they computed, positions that were there already */
    rm_profile_cell cell[RM_N_TIME];
} rm_profile_stage;

struct rm_profile {
    rm_profile_stage *stage; /* the first is outside of all stages */
    int n_stage, at;
    rm_time on;
    uint64_t since;
};

rmas_status rm_profile_start(rm_exec *e, rmas_error *err); /* freed with e */
void rm_profile_stop(rm_profile *p); /* counts what has passed up to now */
void rm_profile_free(rm_profile *p);
const char *rm_time_name(rm_time t);
const char *rm_phase_name(rm_phase p);

void rm_profile_switch(rm_profile *p, rm_time t);
void rm_profile_enter(rm_profile *p, const char *role, int round, rm_phase phase);

static inline rm_time rm_time_now(const rm_exec *e) { return e->profile ? e->profile->on : RM_TIME_OTHER; }
/* The clock goes back to where it was: no call is counted. */
static inline void rm_time_back(const rm_exec *e, rm_time t) {
    if (e->profile) rm_profile_switch(e->profile, t);
}
/* From now on the clock runs on t; returns what it ran on. */
static inline rm_time rm_time_to(const rm_exec *e, rm_time t) {
    rm_time was = rm_time_now(e);
    rm_time_back(e, t);
    if (e->profile) e->profile->stage[e->profile->at].cell[t].n_call++;
    return was;
}
static inline void rm_time_stage(const rm_exec *e, const char *role, int round, rm_phase phase) {
    if (e->profile) rm_profile_enter(e->profile, role, round, phase);
}
/* Work of the class on which the clock runs. */
static inline void rm_time_work(const rm_exec *e, rm_ops_kind kind, double bytes, double ops) {
    if (!e->profile) return;
    rm_profile_cell *c = &e->profile->stage[e->profile->at].cell[e->profile->on];
    c->bytes += bytes;
    c->ops[kind] += ops;
}
static inline void rm_time_pass(const rm_exec *e, int n_pos) {
    if (e->profile) e->profile->stage[e->profile->at].n_call++, e->profile->stage[e->profile->at].n_pos += (uint64_t)n_pos;
}
static inline void rm_time_reused(const rm_exec *e, int n_pos) {
    if (e->profile) e->profile->stage[e->profile->at].n_reused += (uint64_t)n_pos;
}

#endif
