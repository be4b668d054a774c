/* The table for aarch64 (NEON with half-precision conversions). */
#include "kern/tables.h"
#include "kern/vec_neon.h"
#include "kern/ops.h"

const rm_kern rm_kern_neon = {.name = "neon", RM_OPS};
