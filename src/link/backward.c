/* The backward pass of links in float32, with the forward pass done again: nothing has to be kept between the two.
 *
 * Rows go in blocks of BLOCK. A weight's gradient is the product dYt X, taken with the engine's own products: X stands as a
 * matrix of n rows, and dYt [out, n] is multiplied with it from the left. */
#include <string.h>

#include "link/internal.h"
#include "util/mem.h"

enum { BLOCK = 512 };

typedef struct {
    const rm_link *l;
    int n;
    float *normed, *a, *h, *z, *res; /* N1(x), before and after gelu, before N2, residual */
    float *dz, *dh, *dn; /* gradients of z, of the hidden units, of N1(x) */
    float *turned; /* a gradient transposed */
} tape;

static void transpose(const float *x, int n, int d, float *out) {
    enum { TILE = 16 };
    for (int i0 = 0; i0 < n; i0 += TILE)
        for (int j0 = 0; j0 < d; j0 += TILE)
            for (int i = i0; i < n && i < i0 + TILE; i++)
                for (int j = j0; j < d && j < j0 + TILE; j++) out[(size_t)j * (size_t)n + (size_t)i] = x[(size_t)i * (size_t)d + (size_t)j];
}

/* dW += dYt X and db += sum of dY's rows; dy [n, d_out], x [n, d_in]. */
static rmas_status grad_linear(tape *t, const float *dy, int d_out, const float *x, int d_in, float *dw, float *db, rmas_error *err) {
    for (int r = 0; r < t->n; r++)
        for (int i = 0; i < d_out; i++) db[i] += dy[(size_t)r * (size_t)d_out + (size_t)i];
    rm_tensor rows = {
        .name = "rows", .dtype = RM_F32, .n_dim = 2, .dim = {t->n, d_in}, .data = x, .n_bytes = (size_t)t->n * (size_t)d_in * sizeof(float)};
    const rm_tensor *part[1] = {&rows};
    rm_matrix *m = NULL;
    RM_TRY(rm_matrix_new(&m, t->l->exec, part, 1, RM_EXACT, err));
    transpose(dy, t->n, d_out, t->turned);
    rmas_status st = rm_matrix_mul_t(t->l->exec, dw, (size_t)d_in, t->turned, (size_t)t->n, d_out, m, true, err);
    rm_matrix_free(m);
    return st;
}

static float *at(const rm_link *l, float *grad, int slot) {
    for (int i = 0; i < l->n_param; i++)
        if (l->slot[i] == slot) return grad ? grad + l->param[i].at : NULL;
    return NULL;
}

/* As apply_rows, keeping what the backward pass needs. */
static rmas_status forward(tape *t, const float *x, rmas_error *err) {
    const rm_link *l = t->l;
    const rm_link_kind *k = l->kind;
    size_t in = (size_t)l->d_in, o = (size_t)l->d_out, hid = (size_t)l->d_hid, n = (size_t)t->n;
    if (!k->two) return RMAS_OK; /* linear: the gradients need x alone */
    if (k->ln) rm_link_norm(l->exec, x, t->n, l->d_in, l->vec[RM_LINK_G1], l->vec[RM_LINK_C1], t->normed);
    RM_TRY(rm_matrix_mul(l->exec, t->a, hid, k->ln ? t->normed : x, in, t->n, l->w[0], l->vec[RM_LINK_B1], err));
    memcpy(t->h, t->a, n * hid * sizeof(float));
    rm_link_gelu(l->exec, t->h, n * hid);
    if (!k->ln) return RMAS_OK;
    RM_TRY(rm_matrix_mul(l->exec, t->z, o, t->h, hid, t->n, l->w[1], l->vec[RM_LINK_B2], err));
    if (k->res == RM_RES_PROJ) RM_TRY(rm_matrix_mul(l->exec, t->res, o, x, in, t->n, l->w[2], l->vec[RM_LINK_B3], err));
    if (k->res != RM_RES_NONE) {
        const float *r = k->res == RM_RES_SELF ? x : t->res;
        for (size_t i = 0; i < n * o; i++) t->z[i] = r[i] + t->z[i];
    }
    return RMAS_OK;
}

static rmas_status backward_rows(tape *t, const float *x, const float *dy, float *dx, float *grad, rmas_error *err) {
    const rm_link *l = t->l;
    const rm_link_kind *k = l->kind;
    size_t in = (size_t)l->d_in, o = (size_t)l->d_out, hid = (size_t)l->d_hid, n = (size_t)t->n;
    RM_TRY(forward(t, x, err));
    const float *dz = dy;
    if (k->ln) {
        rm_link_norm_back(l->exec, t->z, t->n, l->d_out, l->vec[RM_LINK_G2], dy, t->dz, at(l, grad, RM_LINK_G2), at(l, grad, RM_LINK_C2));
        dz = t->dz;
    }
    const float *dh = dz;
    if (k->two) {
        if (grad) RM_TRY(grad_linear(t, dz, l->d_out, t->h, l->d_hid, at(l, grad, RM_LINK_W2), at(l, grad, RM_LINK_B2), err));
        RM_TRY(rm_matrix_mul_t(l->exec, t->dh, hid, dz, o, t->n, l->w[1], false, err));
        rm_link_gelu_back(l->exec, t->a, t->dh, n * hid);
        dh = t->dh;
    }
    int d_first = k->two ? l->d_hid : l->d_out;
    if (grad) {
        RM_TRY(grad_linear(t, dh, d_first, k->ln ? t->normed : x, l->d_in, at(l, grad, RM_LINK_W1), at(l, grad, RM_LINK_B1), err));
        if (k->res == RM_RES_PROJ) RM_TRY(grad_linear(t, dz, l->d_out, x, l->d_in, at(l, grad, RM_LINK_W3), at(l, grad, RM_LINK_B3), err));
    }
    if (!dx && !(grad && k->ln)) return RMAS_OK;
    RM_TRY(rm_matrix_mul_t(l->exec, t->dn, in, dh, (size_t)d_first, t->n, l->w[0], false, err));
    if (k->ln) rm_link_norm_back(l->exec, x, t->n, l->d_in, l->vec[RM_LINK_G1], t->dn, t->dn, at(l, grad, RM_LINK_G1), at(l, grad, RM_LINK_C1));
    if (!dx) return RMAS_OK;
    memcpy(dx, t->dn, n * in * sizeof(float));
    if (k->res == RM_RES_SELF)
        for (size_t i = 0; i < n * in; i++) dx[i] += dz[i];
    if (k->res == RM_RES_PROJ) RM_TRY(rm_matrix_mul_t(l->exec, dx, in, dz, o, t->n, l->w[2], true, err));
    return RMAS_OK;
}

rmas_status rm_link_backward(const rm_link *l, const float *x, int n, const float *dy, float *dx, float *grad, rmas_error *err) {
    if (!l->value && l->precision != RM_EXACT)
        return rm_fail(err, RMAS_E_ARG, "gradients of a link need float32 arithmetic: open it in the exact mode");
    size_t rows = (size_t)(n < BLOCK ? n : BLOCK), in = (size_t)l->d_in, o = (size_t)l->d_out, hid = (size_t)l->d_hid;
    size_t widest = in > o ? in : o;
    if (hid > widest) widest = hid;
    float *memory = rm_array(rows * (2 * in + 3 * hid + 3 * o + widest), sizeof(float));
    if (!memory) return rm_fail(err, RMAS_E_NOMEM, "out of memory for the gradients of a link from %d to %d", l->d_in, l->d_out);
    tape t = {.l = l, .normed = memory};
    t.dn = t.normed + rows * in;
    t.a = t.dn + rows * in;
    t.h = t.a + rows * hid;
    t.dh = t.h + rows * hid;
    t.z = t.dh + rows * hid;
    t.res = t.z + rows * o;
    t.dz = t.res + rows * o;
    t.turned = t.dz + rows * o;
    rmas_status st = RMAS_OK;
    for (int r = 0; r < n && st == RMAS_OK; r += BLOCK) {
        t.n = n - r < BLOCK ? n - r : BLOCK;
        st = backward_rows(&t, x + (size_t)r * in, dy + (size_t)r * o, dx ? dx + (size_t)r * in : NULL, grad, err);
    }
    rm_free(memory);
    return st;
}
