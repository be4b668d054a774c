/* The table in plain C: what every machine can run, and what the others are compared with. */
#include "kern/tables.h"
#include "kern/vec_portable.h"
#include "kern/ops.h"

#define DOT_R 2
#define DOT_O 2
#define OUTER_R 2
#define OUTER_S 8
#include "kern/gemm.h"
#include "kern/attn.h"
#include "kern/delta.h"
#include "kern/quant.h"

const rm_kern rm_kern_portable = {.name = "portable", RM_OPS, RM_ATTN, RM_DELTA, RM_GEMM, RM_QUANT};
