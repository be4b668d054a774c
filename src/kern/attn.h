/* Attention, forward and backward, on the vectors of vec_*.h and the outer products of gemm.h; included after them. */

enum { KV_VECTORS = RM_KV_BLOCK / 16, Q_TILE = 4 };

RM_INLINE vf kv_at(const void *p, size_t i, bool half) { return half ? v_load_half((const uint16_t *)p + i) : v_load((const float *)p + i); }
RM_INLINE vf kv_part(const void *p, size_t i, size_t n, bool half) {
    return half ? v_load_half_n((const uint16_t *)p + i, n) : v_load_n((const float *)p + i, n);
}

/* p[i][key] = q[i] k; a sum runs over the head dimension in order, one key per lane. Meanwhile `ahead` is fetched, as many bytes as the keys have. */
RM_INLINE void attn_scores(float p[][RM_KV_BLOCK], const void *keys, const float *q, size_t ldq, int d, int nq, bool half, const char *ahead) {
    const int nv = outer_width(nq);
    for (int c = 0; c < KV_VECTORS; c += nv) {
        vf s[Q_TILE][4];
        RM_UNROLL for (int i = 0; i < nq; i++) { RM_UNROLL for (int t = 0; t < nv; t++) s[i][t] = v_set(0.0f); }
        for (int j = 0; j < d; j++, ahead += nv * (half ? 32 : 64)) {
            __builtin_prefetch(ahead, 0, 3);
            vf k[4];
            RM_UNROLL for (int t = 0; t < nv; t++) k[t] = kv_at(keys, (size_t)j * RM_KV_BLOCK + (size_t)(c + t) * 16, half);
            RM_UNROLL for (int i = 0; i < nq; i++) {
                vf x = v_set(q[(size_t)i * ldq + (size_t)j]);
                RM_UNROLL for (int t = 0; t < nv; t++) s[i][t] = v_fma(x, k[t], s[i][t]);
            }
        }
        RM_UNROLL for (int i = 0; i < nq; i++) { RM_UNROLL for (int t = 0; t < nv; t++) v_store(p[i] + 16 * (c + t), s[i][t]); }
    }
}

/* The running softmax of one query: turns its scores p into weights and rescales what was summed before if the maximum grew. */
RM_INLINE void attn_weights(float p[RM_KV_BLOCK], const rm_attn *a, int q) {
    vf s[KV_VECTORS], scale = v_set(a->scale), top = v_set(-INFINITY), sum = v_set(0.0f);
    const int from = a->from[q], to = a->to[q];
    const bool all = from <= 0 && to >= RM_KV_BLOCK;
    if (from >= to) {
        for (int c = 0; c < KV_VECTORS; c++) v_store(p + 16 * c, sum);
        return;
    }
    for (int c = 0; c < KV_VECTORS; c++) {
        s[c] = v_mul(v_load(p + 16 * c), scale);
        if (!all) s[c] = v_sel(v_lanes(from - 16 * c, to - 16 * c), s[c], v_set(-INFINITY));
        top = v_max(top, s[c]);
    }
    float m = v_hmax(top), old = a->m[q];
    if (!(m <= old)) {
        float shrink[16];
        v_store(shrink, exp_v(v_set(old - m)));
        a->m[q] = m;
        a->l[q] *= shrink[0];
        op_scale(a->o + (size_t)q * a->ldo, a->o + (size_t)q * a->ldo, shrink[0], (size_t)a->d);
    }
    vf vm_ = v_set(a->m[q]);
    for (int c = 0; c < KV_VECTORS; c++) {
        vf e = exp_below(v_sub(s[c], vm_));
        if (!all) e = v_sel(v_lanes(from - 16 * c, to - 16 * c), e, v_set(0.0f));
        sum = v_add(sum, e);
        v_store(p + 16 * c, e);
    }
    a->l[q] += v_sum(sum);
}

/* o[iq..][16 c..] += sum over keys j0 <= j < j1 of p[j] v[j]: in the order of the keys. The next keys are fetched meanwhile. */
RM_INLINE void attn_values(const rm_attn *a, float p[][RM_KV_BLOCK], int iq, int nq, int j0, int j1, bool half) {
    const char *ahead = a->next;
    const size_t d = (size_t)a->d, nv = (size_t)outer_width(nq);
    size_t c = 0;
    for (; c + 16 * nv <= d; c += 16 * nv) {
        float *to = a->o + (size_t)iq * a->ldo + c;
        vf o[Q_TILE][4];
        RM_UNROLL for (int i = 0; i < nq; i++) { RM_UNROLL for (size_t t = 0; t < nv; t++) o[i][t] = v_load(to + (size_t)i * a->ldo + 16 * t); }
        for (int j = j0; j < j1; j++, ahead += nv * (half ? 32 : 64)) {
            __builtin_prefetch(ahead, 0, 3);
            vf v[4];
            RM_UNROLL for (size_t t = 0; t < nv; t++) v[t] = kv_at(a->v, (size_t)j * d + c + 16 * t, half);
            RM_UNROLL for (int i = 0; i < nq; i++) {
                vf w = v_set(p[i][j]);
                RM_UNROLL for (size_t t = 0; t < nv; t++) o[i][t] = v_fma(w, v[t], o[i][t]);
            }
        }
        RM_UNROLL for (int i = 0; i < nq; i++) { RM_UNROLL for (size_t t = 0; t < nv; t++) v_store(to + (size_t)i * a->ldo + 16 * t, o[i][t]); }
    }
    for (; c < d; c += 16) {
        const size_t n = d - c < 16 ? d - c : 16;
        for (int i = 0; i < nq; i++) {
            float *row = a->o + (size_t)(iq + i) * a->ldo;
            vf o = ld(row, c, d);
            for (int j = j0; j < j1; j++) {
                vf v = n == 16 ? kv_at(a->v, (size_t)j * d + c, half) : kv_part(a->v, (size_t)j * d + c, n, half);
                o = v_fma(v_set(p[i][j]), v, o);
            }
            st(row, o, c, d);
        }
    }
}

/* Is any slot seen by n queries? They are all in [*j0, *j1). */
RM_INLINE bool attn_seen(const int *from, const int *to, int n, int *j0, int *j1) {
    *j0 = RM_KV_BLOCK, *j1 = 0;
    for (int i = 0; i < n; i++) {
        if (from[i] >= to[i]) continue;
        if (from[i] < *j0) *j0 = from[i];
        if (to[i] > *j1) *j1 = to[i];
    }
    return *j0 < *j1;
}

/* A few queries, straight from keys and values as they are stored. */
RM_INLINE void attn_tile(const rm_attn *a, int iq, int nq, bool half) {
    float p[Q_TILE][RM_KV_BLOCK];
    int j0, j1;
    if (!attn_seen(a->from + iq, a->to + iq, nq, &j0, &j1)) return;
    attn_scores(p, a->k, a->q + (size_t)iq * a->ldq, a->ldq, a->d, nq, half, a->v);
    for (int i = 0; i < nq; i++) attn_weights(p[i], a, iq + i);
    attn_values(a, p, iq, nq, j0, j1, half);
}
RM_INLINE void attn_few(const rm_attn *a, bool half) {
    int i = 0;
    for (; i + Q_TILE <= a->n_q; i += Q_TILE) attn_tile(a, i, Q_TILE, half);
    if (a->n_q - i == 3) attn_tile(a, i, 3, half);
    if (a->n_q - i == 2) attn_tile(a, i, 2, half);
    if (a->n_q - i == 1) attn_tile(a, i, 1, half);
}

/* Many queries: keys and values are made float32 once, then scores and sums are products in tiles of rows. The same sums in the same order. */
RM_INLINE void attn_many(const rm_attn *a, bool half) {
    size_t d = (size_t)a->d;
    float *k = a->scratch, *v = k + RM_KV_BLOCK * d, *p = v + RM_KV_BLOCK * d;
    int j0, j1;
    if (!attn_seen(a->from, a->to, a->n_q, &j0, &j1)) return;
    if (half) {
        op_widen(k, a->k, RM_W_F16, RM_KV_BLOCK * d);
        op_widen(v + (size_t)j0 * d, (const uint16_t *)a->v + (size_t)j0 * d, RM_W_F16, (size_t)(j1 - j0) * d);
    }
    const float *keys = half ? k : (const float *)a->k, *values = half ? v : (const float *)a->v;
    for (int i = 0, n; i < a->n_q; i += n) {
        n = outer_rows(a->n_q - i);
        if (!attn_seen(a->from + i, a->to + i, n, &j0, &j1)) continue;
        memset(p, 0, (size_t)n * RM_KV_BLOCK * sizeof *p);
        columns_all(p, RM_KV_BLOCK, a->q + (size_t)i * a->ldq, a->ldq, 1, n, keys, RM_KV_BLOCK, a->d, RM_KV_BLOCK);
        for (int r = 0; r < n; r++) attn_weights(p + r * RM_KV_BLOCK, a, i + r);
        columns_all(a->o + (size_t)i * a->ldo, a->ldo, p + j0, RM_KV_BLOCK, 1, n, values + (size_t)j0 * d, d, j1 - j0, d);
    }
}

enum { ATTN_MANY = 8 };

static void op_attn_block(const rm_attn *a) {
    if (a->n_q >= ATTN_MANY && a->scratch && a->half)
        attn_many(a, true);
    else if (a->n_q >= ATTN_MANY && a->scratch)
        attn_many(a, false);
    else if (a->half)
        attn_few(a, true);
    else
        attn_few(a, false);
}
static void op_attn_finish(float *o, size_t ldo, const float *l, int n_q, int d) {
    for (int i = 0; i < n_q; i++) op_scale(o + (size_t)i * ldo, o + (size_t)i * ldo, 1.0f / l[i], (size_t)d);
}

/* ---- backward -------------------------------------------------------------------------------------------------------------------- */

#ifndef RM_OWN_TURN
/* Element j of vector i becomes element i of vector j. */
static inline void v_turn(vf t[16]) {
    float x[16][16];
    for (int i = 0; i < 16; i++) v_store(x[i], t[i]);
    for (int i = 0; i < 16; i++) {
        float y[16];
        for (int j = 0; j < 16; j++) y[j] = x[j][i];
        t[i] = v_load(y);
    }
}
#endif

/* y [n_col, n_row] = x [n_row, n_col] transposed */
RM_INLINE void turn_all(float *y, const void *x, size_t n_row, size_t n_col, bool half) {
    for (size_t r = 0; r < n_row; r += 16)
        for (size_t c = 0; c < n_col; c += 16) {
            size_t nr = n_row - r < 16 ? n_row - r : 16, nc = n_col - c < 16 ? n_col - c : 16;
            vf t[16];
            if (nr == 16 && nc == 16) {
                RM_UNROLL for (size_t i = 0; i < 16; i++) t[i] = kv_at(x, (r + i) * n_col + c, half);
                v_turn(t);
                RM_UNROLL for (size_t i = 0; i < 16; i++) v_store(y + (c + i) * n_row + r, t[i]);
                continue;
            }
            for (size_t i = 0; i < 16; i++)
                t[i] = i >= nr ? v_set(0.0f) : nc == 16 ? kv_at(x, (r + i) * n_col + c, half) : kv_part(x, (r + i) * n_col + c, nc, half);
            v_turn(t);
            for (size_t i = 0; i < nc; i++) st(y + (c + i) * n_row + r, t[i], 0, nr);
        }
}

/* From scores p and products ds of gradients with values to weights and ds of query i, for the outer products. */
RM_INLINE void back_weights(const rm_attn_back *a, float *p, float *ds, int i) {
    for (int c = 0; c < KV_VECTORS; c++, p += 16, ds += 16) {
        vm seen = v_lanes(a->from[i] - 16 * c, a->to[i] - 16 * c);
        vf w = v_sel(seen, exp_v(v_sub(v_mul(v_load(p), v_set(a->scale)), v_set(a->lse[i]))), v_set(0.0f));
        v_store(ds, v_sel(seen, v_mul(v_mul(w, v_sub(v_load(ds), v_set(a->dot[i]))), v_set(a->scale)), v_set(0.0f)));
        v_store(p, w);
    }
}

/* Slots that a query does not see have weight 0 for it; those that no query sees are left out, they may hold anything. */
RM_INLINE void attn_back_all(const rm_attn_back *a, bool half) {
    size_t d = (size_t)a->d, n_q = (size_t)a->n_q;
    float *kt = a->scratch, *k = kt + RM_KV_BLOCK * d, *vt = k + RM_KV_BLOCK * d, *p = vt + RM_KV_BLOCK * d, *ds = p + RM_KV_BLOCK * n_q;
    int j0, j1;
    if (!attn_seen(a->from, a->to, a->n_q, &j0, &j1)) return;
    if (half) op_widen(kt, a->k, RM_W_F16, RM_KV_BLOCK * d);
    turn_all(k, a->k, d, RM_KV_BLOCK, half);
    turn_all(vt, a->v, RM_KV_BLOCK, d, half);
    memset(p, 0, 2 * RM_KV_BLOCK * n_q * sizeof *p);
    columns_all(p, RM_KV_BLOCK, a->q, d, 1, a->n_q, half ? kt : (const float *)a->k, RM_KV_BLOCK, a->d, RM_KV_BLOCK);
    columns_all(ds, RM_KV_BLOCK, a->g, d, 1, a->n_q, vt, RM_KV_BLOCK, a->d, RM_KV_BLOCK);
    for (int i = 0; i < a->n_q; i++) back_weights(a, p + i * RM_KV_BLOCK, ds + i * RM_KV_BLOCK, i);
    columns_all(a->dq, d, ds + j0, RM_KV_BLOCK, 1, a->n_q, k + (size_t)j0 * d, d, j1 - j0, d);
    if (j0 < a->first) j0 = a->first;
    if (j0 >= j1) return;
    columns_all(a->dv + (size_t)j0 * a->ld, a->ld, p + j0, 1, RM_KV_BLOCK, j1 - j0, a->g, d, a->n_q, d);
    columns_all(a->dk + (size_t)j0 * a->ld, a->ld, ds + j0, 1, RM_KV_BLOCK, j1 - j0, a->q, d, a->n_q, d);
}

static void op_attn_back(const rm_attn_back *a) {
    if (a->half)
        attn_back_all(a, true);
    else
        attn_back_all(a, false);
}

#define RM_ATTN .attn_block = op_attn_block, .attn_back = op_attn_back
