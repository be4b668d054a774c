/* What the sub-commands of `rmas probe` share: options, the engine, and their names. */
#ifndef RM_CLI_PROBE_H
#define RM_CLI_PROBE_H

#include <stdio.h>
#include <string.h>

#include "arrays.h"
#include "cli.h"
#include "tensor/exec.h"
#include "tensor/matrix.h"

/* Each parses argv[1..] (argv[0] is "probe NAME", for messages) and returns the exit status. */
#define RM_PROBES(X)                                                                                                                                 \
    X(forward, "forward", "hidden states and logits of a model")                                                                                     \
    X(rollout, "rollout", "latent rollout of a model through an inner link")                                                                         \
    X(link, "link", "a link applied to rows")                                                                                                        \
    X(generate, "generate", "tokens of a model, with margins")                                                                                       \
    X(grad, "grad", "gradients of a loss with respect to the input embeddings")                                                                      \
    X(link_grad, "link-grad", "gradients of a link")                                                                                                 \
    X(tensor, "tensor", "one stored tensor as float32")                                                                                              \
    X(config, "config", "what a config.json says, as JSON")

#define X(name, word, summary) int probe_##name(int argc, char **argv);
RM_PROBES(X)
#undef X

typedef struct {
    const char *in, *out, *isa, *dtype;
    int64_t threads;
} rm_probe_options;

#define RM_PROBE_DEFAULTS                                                                                                                            \
    { .dtype = "f32" }
/* Rows for a table of rm_opt. */
#define RM_PROBE_IN(o)                                                                                                                               \
    { "i", RM_OPT_STRING, &(o).in, NULL, "FILE", "input arrays (safetensors)" }
#define RM_PROBE_OUT(o)                                                                                                                              \
    { "o", RM_OPT_STRING, &(o).out, NULL, "FILE", "output arrays (safetensors)" }
#define RM_PROBE_ENGINE(o)                                                                                                                           \
    {"threads", RM_OPT_INT, &(o).threads, NULL, "N", "threads; 0: all processors"},                                                                  \
        {"isa", RM_OPT_STRING, &(o).isa, NULL, "NAME", "instruction set: portable, avx2, avx-vnni, avx512, avx512-intel, amx, neon, neon-dot"}, {    \
        "dtype", RM_OPT_STRING, &(o).dtype, NULL, "NAME", "f32: exact; native: as a run computes"                                                    \
    }

/* The engine and precision that the options name. */
static inline rmas_status rm_probe_engine(const rm_probe_options *o, rm_exec **e, rm_precision *p, rmas_error *err) {
    *e = NULL;
    if (strcmp(o->dtype, "f32") != 0 && strcmp(o->dtype, "native") != 0)
        return rm_fail(err, RMAS_E_ARG, "--dtype: '%s' is neither f32 nor native", o->dtype);
    if (o->threads < 0 || o->threads > 4096) return rm_fail(err, RMAS_E_ARG, "--threads: %lld is not between 0 and 4096", (long long)o->threads);
    *p = o->dtype[0] == 'f' ? RM_EXACT : RM_NATIVE;
    return rm_exec_new(e, (int)o->threads, o->isa, err);
}

#endif
