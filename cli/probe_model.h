/* What the probes of a model share: opening it, and the sequences of an input file. */
#ifndef RM_CLI_PROBE_MODEL_H
#define RM_CLI_PROBE_MODEL_H

#include "probe.h"
#include "session/session.h"

typedef struct {
    int number; /* K of tokens.K, -1: tokens */
    int n;
    int32_t *tokens; /* [n], -1 where a row of embeds stands */
    float *embeds; /* [n, d_model], NULL if no position has one */
    rm_seq *seq;
} rm_probe_seq;

typedef struct {
    rm_probe_options o;
    rm_exec *exec;
    rm_model *model;
    rm_precision precision;
    rm_inputs *in;
    rm_outputs *out;
    rm_batch *batch;
    rm_probe_seq *seq;
    int n_seq;
} rm_probe_model;

/* Opens everything after the options are parsed: the model at path, inputs, sequences, a batch, outputs. */
rmas_status rm_probe_model_open(rm_probe_model *p, const char *path, rmas_error *err);
/* Writes the outputs if status is RMAS_OK, releases everything, and gives the exit status of the command. */
int rm_probe_model_close(rm_probe_model *p, const char *command, rmas_status status, rmas_error *err);
/* An output NAME or NAME.K for sequence s. */
rmas_status rm_probe_array(rm_probe_model *p, const rm_probe_seq *s, const char *name, int n_row, int n_col, float **out, rmas_error *err);

#endif
