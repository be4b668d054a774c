/* What this machine can do, measured: the ceilings beside which speeds are shown. */
#ifndef RM_CLI_MACHINE_H
#define RM_CLI_MACHINE_H

#include <time.h>

#include "tensor/exec.h"

/* Reading memory; products of 256 rows with a matrix of 2048 x 2048. */
typedef enum { RM_CEILING_READ, RM_CEILING_F32, RM_CEILING_BF16, RM_CEILING_INT8, RM_N_CEILING } rm_ceiling;
const char *rm_ceiling_name(rm_ceiling c);

typedef struct {
    int n_row;
    double bytes, ops; /* of each time */
} rm_ceiling_work;
rmas_status rm_machine_time(rm_exec *e, rm_ceiling c, int repeat, clockid_t clock, double *seconds, rm_ceiling_work *work, rmas_error *err);
/* The best of three: bytes per second for RM_CEILING_READ, else operations. */
rmas_status rm_machine_rates(rm_exec *e, double rate[RM_N_CEILING], rmas_error *err);

#endif
