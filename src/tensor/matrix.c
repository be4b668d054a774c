/* Weight matrices: binding tensors, packing them, reading rows back. Products are in product.c. */
#include "tensor/matrix.h"

#include <string.h>

#include "tensor/matrix_impl.h"
#include "tensor/pack.h"
#include "util/mem.h"

static rmas_status bind_part(rm_part *out, const rm_tensor *t, const rm_tensor *first, rm_precision p, const rm_kern *k, rmas_error *err) {
    const rm_dtype_info *info = rm_dtype_get(t->dtype);
    if (t->n_dim != 2 || t->dim[0] < 1 || t->dim[1] < 1 || t->dim[0] > INT32_MAX || t->dim[1] > INT32_MAX / 2)
        return rm_fail(err, RMAS_E_SHAPE, "tensor '%s': expected a matrix, found %d dimensions (%lld ...)", t->name, t->n_dim,
                       t->n_dim ? (long long)t->dim[0] : 1ll);
    if (t->dim[1] != first->dim[1])
        return rm_fail(err, RMAS_E_SHAPE, "tensor '%s': %lld columns, but '%s', which is multiplied with it, has %lld", t->name, (long long)t->dim[1],
                       first->name, (long long)first->dim[1]);
    if (t->dim[1] % info->block_elems)
        return rm_fail(err, RMAS_E_SHAPE, "tensor '%s': %lld columns are no multiple of the %d elements of a %s block", t->name, (long long)t->dim[1],
                       info->block_elems, info->name);
    *out = (rm_part){.kind = RM_PART_DEQUANT, .dtype = t->dtype, .n_out = (int)t->dim[0], .data = t->data};
    out->row_bytes = rm_dtype_row_bytes(t->dtype, (size_t)t->dim[1]);
    if (t->dtype == RM_F32 || t->dtype == RM_F16 || t->dtype == RM_BF16) {
        out->kind = t->dtype == RM_BF16 && p == RM_NATIVE && k->mul_bf16 ? RM_PART_BF16 : RM_PART_ROWS;
        out->wtype = t->dtype == RM_F32 ? RM_W_F32 : t->dtype == RM_F16 ? RM_W_F16 : RM_W_BF16;
    } else if (p == RM_NATIVE && rm_pack_form(t->dtype, &out->form)) {
        out->kind = RM_PART_PACKED;
    }
    return RMAS_OK;
}

enum { PACK_CHUNK = 4 }; /* groups */

typedef struct {
    rm_part *part;
    int n_block;
} packing;

static void pack_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    const packing *k = ctx;
    const rm_part *p = k->part;
    for (int g = chunk * PACK_CHUNK; g < (chunk + 1) * PACK_CHUNK && g * RM_GROUP < p->n_out; g++) {
        int valid = p->n_out - g * RM_GROUP < RM_GROUP ? p->n_out - g * RM_GROUP : RM_GROUP;
        rm_pack_group(p->form, p->packed + (size_t)g * p->group_bytes, p->data + (size_t)g * RM_GROUP * p->row_bytes, p->row_bytes, valid,
                      k->n_block);
    }
}

static rmas_status pack(rm_part *p, int n_in, rm_exec *e, rmas_error *err) {
    int n_group = (p->n_out + RM_GROUP - 1) / RM_GROUP;
    p->group_bytes = rm_form_group_bytes(&rm_forms[p->form], (size_t)n_in / RM_QBLOCK);
    p->packed = rm_aligned(p->group_bytes * (size_t)n_group);
    if (!p->packed)
        return rm_fail(err, RMAS_E_NOMEM, "out of memory: a matrix of %d x %d needs %zu bytes", p->n_out, n_in, p->group_bytes * (size_t)n_group);
    rm_huge_pages(p->packed, p->group_bytes * (size_t)n_group);
    packing k = {p, n_in / RM_QBLOCK};
    rm_pool_run(e->pool, (n_group + PACK_CHUNK - 1) / PACK_CHUNK, pack_chunk, &k);
    p->data = NULL;
    return RMAS_OK;
}

rmas_status rm_matrix_new(rm_matrix **out, rm_exec *e, const rm_tensor *const *t, int n_part, rm_precision p, rmas_error *err) {
    *out = NULL;
    if (n_part < 1 || n_part > RM_MATRIX_PARTS) return rm_fail(err, RMAS_E_ARG, "matrix: %d parts, expected 1 to %d", n_part, RM_MATRIX_PARTS);
    rm_matrix *w = RM_NEW(rm_matrix);
    if (!w) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a matrix");
    w->kern = e->kern;
    rmas_status s = RMAS_OK;
    for (int i = 0; i < n_part && s == RMAS_OK; i++) {
        rm_part *q = &w->part[i];
        s = bind_part(q, t[i], t[0], p, w->kern, err);
        if (s != RMAS_OK) break;
        w->n_in = (int)t[0]->dim[1];
        if (q->n_out > INT32_MAX / 2 - w->n_out)
            s = rm_fail(err, RMAS_E_SHAPE, "tensor '%s': too many rows", t[i]->name);
        else if (q->kind == RM_PART_PACKED)
            s = pack(q, w->n_in, e, err);
        w->n_out += q->n_out;
        w->n_part = i + 1;
    }
    if (s != RMAS_OK) {
        rm_matrix_free(w);
        return s;
    }
    *out = w;
    return RMAS_OK;
}

void rm_matrix_free(rm_matrix *w) {
    if (!w) return;
    for (int i = 0; i < RM_MATRIX_PARTS; i++) rm_free(w->part[i].packed);
    rm_free(w);
}

int rm_matrix_n_out(const rm_matrix *w) { return w->n_out; }
int rm_matrix_n_in(const rm_matrix *w) { return w->n_in; }

bool rm_matrix_owns_data(const rm_matrix *w) {
    for (int i = 0; i < w->n_part; i++)
        if (w->part[i].data) return false;
    return true;
}

size_t rm_matrix_bytes(const rm_matrix *w) {
    size_t n = sizeof *w;
    for (int i = 0; i < w->n_part; i++)
        if (w->part[i].packed) n += w->part[i].group_bytes * (size_t)((w->part[i].n_out + RM_GROUP - 1) / RM_GROUP);
    return n;
}

/* Output o of an expanded block: value = (quant - offset) * scale + minimum, in the order of rm_dequant. */
static void block_row(const rm_form_info *f, const uint8_t *q, const float *s, int o, float *out) {
    const int n_sub = 32 / f->sub, offset = f->shift ? 1 << f->shift : 0;
    uint8_t v[RM_QBLOCK];
    for (int t = 0; t < 8; t++) memcpy(v + 4 * t, q + t * 128 + o * 4, 4);
    for (int h = 0; h < 2; h++) { /* halves of 16: loops that the compiler turns into vectors */
        const float d = s[(h & (n_sub - 1)) * RM_GROUP + o];
        for (int i = 16 * h; i < 16 * h + 16; i++) out[i] = (float)(v[i] - offset) * d;
        if (!f->min) continue;
        const float m = s[(n_sub + (h & (n_sub - 1))) * RM_GROUP + o];
        for (int i = 16 * h; i < 16 * h + 16; i++) out[i] += m;
    }
}

enum { AT_ONCE = 8 }; /* blocks: a super-block */

static void packed_columns(const rm_matrix *w, const rm_part *p, int row, int n, size_t c, size_t n_c, float *out) {
    _Alignas(64) uint8_t q[AT_ONCE * RM_EXPANDED_QUANTS];
    _Alignas(64) float s[AT_ONCE * RM_GROUP * 4];
    const rm_form_info *f = &rm_forms[p->form];
    int b0 = (int)(c / RM_QBLOCK), b1 = b0 + (int)(n_c / RM_QBLOCK);
    for (int r = row; r < row + n;) {
        int g = r / RM_GROUP, end = (g + 1) * RM_GROUP < row + n ? (g + 1) * RM_GROUP : row + n;
        for (int b = b0; b < b1; b += AT_ONCE) {
            int nb = b1 - b < AT_ONCE ? b1 - b : AT_ONCE;
            w->kern->q_expand(q, s, p->packed + (size_t)g * p->group_bytes, p->form, b, nb);
            for (int i = r; i < end; i++)
                for (int k = 0; k < nb; k++)
                    block_row(f, q + k * RM_EXPANDED_QUANTS, s + (size_t)k * rm_form_expanded_scales(f), i - g * RM_GROUP,
                              out + (size_t)(i - row) * n_c + (size_t)(b + k - b0) * RM_QBLOCK);
        }
        r = end;
    }
}

void rm_part_columns(const rm_matrix *w, const rm_part *p, int row, int n, size_t c, size_t n_c, float *out) {
    if (p->packed) {
        packed_columns(w, p, row, n, c, n_c, out);
        return;
    }
    size_t at = rm_dtype_row_bytes(p->dtype, c); /* 256 columns are whole blocks of every type */
    for (int i = 0; i < n; i++) {
        const uint8_t *from = p->data + (size_t)(row + i) * p->row_bytes + at;
        if (p->dtype == RM_F16 || p->dtype == RM_BF16)
            w->kern->widen(out + (size_t)i * n_c, from, p->dtype == RM_F16 ? RM_W_F16 : RM_W_BF16, n_c);
        else
            rm_dequant(p->dtype, from, out + (size_t)i * n_c, n_c);
    }
}

void rm_matrix_row(const rm_matrix *w, int64_t row, float *out) {
    const rm_part *p = w->part;
    for (; row >= p->n_out; p++) row -= p->n_out;
    rm_part_columns(w, p, (int)row, 1, 0, (size_t)w->n_in, out);
}
