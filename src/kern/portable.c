/* The table in plain C: what every machine can run, and what the others are compared with. */
#include "kern/tables.h"
#include "kern/vec_portable.h"
#include "kern/ops.h"

const rm_kern rm_kern_portable = {.name = "portable", RM_OPS};
