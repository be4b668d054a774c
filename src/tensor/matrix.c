/* Weight matrices: binding of tensors, products by row tiles. */
#include "tensor/matrix.h"

#include <string.h>

#include "kern/kern.h"
#include "util/mem.h"

enum { MAX_PART = 4, OUT_CHUNK = 32 };

typedef struct {
    rm_dtype dtype;
    int n_out;
    const uint8_t *data;
    size_t row_bytes;
} part;

struct rm_matrix {
    int n_in, n_out, n_part;
    part part[MAX_PART];
};

rmas_status rm_matrix_new(rm_matrix **out, rm_exec *e, const rm_tensor *const *t, int n_part, rm_precision p, rmas_error *err) {
    (void)e, (void)p;
    *out = NULL;
    if (n_part < 1 || n_part > MAX_PART) return rm_fail(err, RMAS_E_ARG, "matrix: %d parts, expected 1 to %d", n_part, MAX_PART);
    rm_matrix *w = RM_NEW(rm_matrix);
    if (!w) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a matrix");
    int64_t n_out = 0;
    for (int i = 0; i < n_part; i++) {
        const rm_dtype_info *info = rm_dtype_get(t[i]->dtype);
        rmas_status s = RMAS_OK;
        if (t[i]->n_dim != 2 || t[i]->dim[0] < 1 || t[i]->dim[1] < 1 || t[i]->dim[0] + n_out > INT32_MAX || t[i]->dim[1] > INT32_MAX) {
            s = rm_fail(err, RMAS_E_SHAPE, "tensor '%s': expected a matrix, found %d dimensions", t[i]->name, t[i]->n_dim);
        } else if (t[i]->dim[1] != t[0]->dim[1]) {
            s = rm_fail(err, RMAS_E_SHAPE, "tensor '%s': %lld columns, but '%s' has %lld", t[i]->name, (long long)t[i]->dim[1], t[0]->name,
                        (long long)t[0]->dim[1]);
        } else if (t[i]->dim[1] % info->block_elems) {
            s = rm_fail(err, RMAS_E_SHAPE, "tensor '%s': %lld columns are no multiple of the %d of a %s block", t[i]->name, (long long)t[i]->dim[1],
                        info->block_elems, info->name);
        }
        if (s != RMAS_OK) {
            rm_free(w);
            return s;
        }
        w->part[i] = (part){t[i]->dtype, (int)t[i]->dim[0], t[i]->data, rm_dtype_row_bytes(t[i]->dtype, (size_t)t[i]->dim[1])};
        n_out += t[i]->dim[0];
    }
    w->n_part = n_part;
    w->n_in = (int)t[0]->dim[1];
    w->n_out = (int)n_out;
    *out = w;
    return RMAS_OK;
}

void rm_matrix_free(rm_matrix *w) { rm_free(w); }
int rm_matrix_n_out(const rm_matrix *w) { return w->n_out; }
int rm_matrix_n_in(const rm_matrix *w) { return w->n_in; }
bool rm_matrix_owns_data(const rm_matrix *w) { return (void)w, false; }
size_t rm_matrix_bytes(const rm_matrix *w) { return (void)w, sizeof *w; }

void rm_matrix_row(const rm_matrix *w, int64_t row, float *out) {
    const part *p = w->part;
    for (; row >= p->n_out; p++) row -= p->n_out;
    rm_dequant(p->dtype, p->data + (size_t)row * p->row_bytes, out, (size_t)w->n_in);
}

typedef struct {
    const rm_kern *kern;
    const rm_matrix *w;
    float *y;
    const float *x, *bias;
    size_t ldy, ldx, each;
    uint8_t *local;
    int n_row;
    bool add;
} product;

static void mul_chunk(void *ctx, int chunk, int thread) {
    const product *p = ctx;
    float *tile = (float *)(p->local + (size_t)thread * p->each);
    int o1 = (chunk + 1) * OUT_CHUNK < p->w->n_out ? (chunk + 1) * OUT_CHUNK : p->w->n_out;
    for (int o = chunk * OUT_CHUNK; o < o1; o++) {
        rm_matrix_row(p->w, o, tile);
        for (int i = 0; i < p->n_row; i++) {
            float s = p->kern->dot(p->x + (size_t)i * p->ldx, tile, (size_t)p->w->n_in);
            p->y[(size_t)i * p->ldy + (size_t)o] = p->bias ? s + p->bias[o] : s;
        }
    }
}

rmas_status rm_matrix_mul(rm_exec *e, float *y, size_t ldy, const float *x, size_t ldx, int n_row, const rm_matrix *w, const float *bias,
                          rmas_error *err) {
    product p = {e->kern, w, y, x, bias, ldy, ldx, ((size_t)w->n_in * 4 + 63) & ~(size_t)63, NULL, n_row, false};
    p.local = rm_exec_local(e, p.each);
    if (!p.local) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a product of %d columns", w->n_in);
    rm_pool_run(e->pool, (w->n_out + OUT_CHUNK - 1) / OUT_CHUNK, mul_chunk, &p);
    return RMAS_OK;
}

static void mul_t_rows(void *ctx, int chunk, int thread) { /* one row of dy and dx */
    const product *p = ctx;
    float *tile = (float *)(p->local + (size_t)thread * p->each), *dx = p->y + (size_t)chunk * p->ldy;
    if (!p->add) memset(dx, 0, (size_t)p->w->n_in * sizeof *dx);
    for (int o = 0; o < p->w->n_out; o++) {
        rm_matrix_row(p->w, o, tile);
        p->kern->axpy(dx, p->x[(size_t)chunk * p->ldx + (size_t)o], tile, (size_t)p->w->n_in);
    }
}

rmas_status rm_matrix_mul_t(rm_exec *e, float *dx, size_t lddx, const float *dy, size_t lddy, int n_row, const rm_matrix *w, bool add,
                            rmas_error *err) {
    product p = {e->kern, w, dx, dy, NULL, lddx, lddy, ((size_t)w->n_in * 4 + 63) & ~(size_t)63, NULL, n_row, add};
    p.local = rm_exec_local(e, p.each);
    if (!p.local) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a product of %d columns", w->n_in);
    rm_pool_run(e->pool, n_row, mul_t_rows, &p);
    return RMAS_OK;
}
