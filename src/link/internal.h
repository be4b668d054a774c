/* The inside of a link, shared by the files of this module. */
#ifndef RM_LINK_INTERNAL_H
#define RM_LINK_INTERNAL_H

#include "link/link.h"
#include "weights/weights.h"

enum { RM_LINK_W1, RM_LINK_B1, RM_LINK_W2, RM_LINK_B2, RM_LINK_G1, RM_LINK_C1, RM_LINK_G2, RM_LINK_C2, RM_LINK_W3, RM_LINK_B3, RM_LINK_N_SLOT };

typedef enum { RM_RES_NONE, RM_RES_SELF, RM_RES_PROJ } rm_link_res; /* what is added to the MLP's output: nothing, x, W3 x + b3 */

/* y = N2( W2 gelu(W1 N1(x) + b1) + b2 + residual ); without two layers: W1 x + b1 + residual */
typedef struct {
    const char *name, *alias;
    bool inner, two, ln;
    rm_link_res res;
    int hidden; /* hidden width / d_out */
} rm_link_kind;

struct rm_link {
    rm_exec *exec;
    const rm_link_kind *kind;
    int d_in, d_out, d_hid;
    rm_dtype dtype;
    rm_precision precision;
    rm_weights *file; /* NULL if made by rm_link_new */
    const rm_tensor *tensor[RM_LINK_N_SLOT]; /* of the file */
    int n_param, slot[RM_LINK_N_SLOT]; /* slot of parameter i */
    rm_link_param param[RM_LINK_N_SLOT];
    size_t n_value;
    float *value; /* all parameters; NULL unless trainable */
    float *vec_own; /* the 1-D parameters in float32, if value is NULL */
    const float *vec[RM_LINK_N_SLOT]; /* 1-D parameters by slot, NULL where the type has none */
    rm_matrix *w[3]; /* proj1, proj2, residual_proj */
    float *scratch; /* of rm_link_apply: rows of N1(x), hidden units, residual */
};

enum { RM_LINK_ROWS = 64 }; /* rows that rm_link_apply does at once */

/* Row-wise helpers, with the threads of e. */
void rm_link_norm(rm_exec *e, const float *x, int n, int d, const float *gain, const float *bias, float *y);
void rm_link_norm_back(rm_exec *e, const float *x, int n, int d, const float *gain, const float *dy, float *dx, float *dgain, float *dbias);
void rm_link_gelu(rm_exec *e, float *x, size_t n); /* in place */
void rm_link_gelu_back(rm_exec *e, const float *a, float *d, size_t n); /* d *= gelu'(a) */

#endif
