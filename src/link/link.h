/* RecursiveLinks: inner (d -> d) and outer (d_src -> d_dst). Knows no models. */
#ifndef RM_LINK_LINK_H
#define RM_LINK_LINK_H

#include "tensor/exec.h"
#include "tensor/matrix.h"
#include "util/error.h"

typedef struct rm_link rm_link;

/* path: .pt or .safetensors. type: NULL, or the adapter type where the tensors do not tell (training.md 2).
 * Strict: a missing, unexpected or misshapen tensor is an error. */
rmas_status rm_link_open(rm_link **out, rm_exec *e, const char *path, const char *type, rm_precision p, rmas_error *err);
/* Untrained: inner (d_in == d_out, type "ln_res_adapter") or outer ("outer_ln_res_adapter"), initialised from the seed. */
rmas_status rm_link_new(rm_link **out, rm_exec *e, const char *type, int d_in, int d_out, uint64_t seed, rmas_error *err);
rmas_status rm_link_save(const rm_link *l, const char *path, rmas_error *err); /* format by the name's ending: .pt, .safetensors */
void rm_link_close(rm_link *l);
int rm_link_d_in(const rm_link *l);
int rm_link_d_out(const rm_link *l);
const char *rm_link_type(const rm_link *l); /* "ln_res_adapter", "outer_ln_res_adapter" ... */
rm_dtype rm_link_dtype(const rm_link *l); /* as stored */

/* y [n, d_out] = link(x [n, d_in]); rows are independent, bitwise. */
rmas_status rm_link_apply(const rm_link *l, const float *x, int n, float *y, rmas_error *err);

#endif
