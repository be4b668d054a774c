/* RecursiveLinks: inner (d -> d) and outer (d_src -> d_dst). Knows no models. */
#ifndef RM_LINK_LINK_H
#define RM_LINK_LINK_H

#include "tensor/exec.h"
#include "tensor/matrix.h"
#include "util/error.h"

typedef struct rm_link rm_link;

/* path: .pt or .safetensors. type: NULL, or the adapter type; needed where the tensors do not tell (a residual link of the
 * linear and two-layer types looks like one without) and there is no adapter_config.json beside the file that says it.
 * Strict: a missing, unexpected or misshapen tensor is an error, and so is a type that the tensors contradict. */
rmas_status rm_link_open(rm_link **out, rm_exec *e, const char *path, const char *type, rm_precision p, rmas_error *err);
/* Untrained, of any type, inner (d_in == d_out) or outer, initialised from the seed as the reference does: weights and
 * biases uniform in +-1/sqrt(fan_in), norms 1 and 0. It can be trained. */
rmas_status rm_link_new(rm_link **out, rm_exec *e, const char *type, int d_in, int d_out, uint64_t seed, rmas_error *err);
/* Format by the name's ending: .pt, .safetensors. As stored; a link that can be trained is written in float32. */
rmas_status rm_link_save(const rm_link *l, const char *path, rmas_error *err);
rmas_status rm_link_save_as(const rm_link *l, const char *path, rm_dtype dtype, rmas_error *err); /* RM_F32, RM_F16, RM_BF16 */
void rm_link_close(rm_link *l);
int rm_link_d_in(const rm_link *l);
int rm_link_d_out(const rm_link *l);
const char *rm_link_type(const rm_link *l); /* "ln_res_adapter", "outer_ln_res_adapter" ... */
rm_dtype rm_link_dtype(const rm_link *l); /* as stored */
rm_exec *rm_link_exec(const rm_link *l);
size_t rm_link_bytes(const rm_link *l); /* parameters as stored */

/* y [n, d_out] = link(x [n, d_in]); rows are independent, bitwise. A link serves one caller at a time (it keeps scratch space). */
rmas_status rm_link_apply(const rm_link *l, const float *x, int n, float *y, rmas_error *err);

/* ---- training: float32 ----------------------------------------------------------------------------------------------- */

/* The types of the reference's training code, with the aliases of the reference ("2layer_ln_res"). */
bool rm_link_type_known(const char *type, bool *inner); /* aliases name inner types */

/* A parameter of the state dict. value is NULL unless the link can be trained; all values are one array without gaps. */
typedef struct {
    const char *name; /* "proj1.weight" */
    int n_dim; /* 2: a matrix, 1: a bias or a norm's gain */
    int64_t dim[2];
    size_t at, n; /* place and length in the arrays of values and gradients */
    float *value;
} rm_link_param;
int rm_link_n_param(const rm_link *l);
const rm_link_param *rm_link_param_at(const rm_link *l, int i); /* in the order of the state dict */
size_t rm_link_n_value(const rm_link *l); /* of all parameters */

/* Gives the link float32 values of its own that may be changed. Call rm_link_changed after changing any. */
rmas_status rm_link_thaw(rm_link *l, rmas_error *err);
float *rm_link_values(rm_link *l); /* NULL before rm_link_thaw */
rmas_status rm_link_changed(rm_link *l, rmas_error *err);

/* Gradients of a loss with respect to the input and the parameters from dy = d loss / d y, for rows x. The forward pass is
 * done again. dx [n, d_in] is overwritten (NULL: not wanted), grad [rm_link_n_value] is added to (NULL: not wanted).
 * The link must have been opened RM_EXACT or be trainable. Sums over rows are taken in blocks of rows, in order. */
rmas_status rm_link_backward(const rm_link *l, const float *x, int n, const float *dy, float *dx, float *grad, rmas_error *err);

#endif
