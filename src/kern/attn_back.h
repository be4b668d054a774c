/* Attention backward, on the vectors of vec_*.h and the outer products of gemm.h; included after them. */

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

/* Weights and ds of queries i .. i + nq against all slots, for the outer products. */
RM_INLINE void back_weights(const rm_attn_back *a, const float *vt, float *p, float *ds, int i, int nq, bool half) {
    vf s[Q_TILE][KV_VECTORS], g[Q_TILE][KV_VECTORS];
    size_t d = (size_t)a->d;
    attn_scores(s, a->k, a->q + (size_t)i * d, d, a->d, nq, half);
    attn_scores(g, vt, a->g + (size_t)i * d, d, a->d, nq, false);
    for (int k = 0; k < nq; k++)
        for (int c = 0; c < KV_VECTORS; c++) {
            vm seen = v_lanes(a->from[i + k] - 16 * c, a->to[i + k] - 16 * c);
            vf w = v_sel(seen, exp_v(v_sub(v_mul(s[k][c], v_set(a->scale)), v_set(a->lse[i + k]))), v_set(0.0f));
            size_t at = (size_t)(i + k) * RM_KV_BLOCK + 16 * (size_t)c;
            v_store(p + at, w);
            v_store(ds + at, v_sel(seen, v_mul(v_mul(w, v_sub(g[k][c], v_set(a->dot[i + k]))), v_set(a->scale)), v_set(0.0f)));
        }
}

/* Slots that a query does not see have weight 0 for it; those that no query sees are left out, they may hold anything. */
RM_INLINE void attn_back_all(const rm_attn_back *a, bool half) {
    size_t d = (size_t)a->d, n_q = (size_t)a->n_q;
    float *k = a->scratch, *vt = k + RM_KV_BLOCK * d, *p = vt + RM_KV_BLOCK * d, *ds = p + RM_KV_BLOCK * n_q;
    int j0 = RM_KV_BLOCK, j1 = 0, i = 0;
    for (int q = 0; q < a->n_q; q++) {
        if (a->from[q] >= a->to[q]) continue;
        if (a->from[q] < j0) j0 = a->from[q];
        if (a->to[q] > j1) j1 = a->to[q];
    }
    if (j0 >= j1) return;
    turn_all(k, a->k, d, RM_KV_BLOCK, half);
    turn_all(vt, a->v, RM_KV_BLOCK, d, half);
    for (; i + Q_TILE <= a->n_q; i += Q_TILE) back_weights(a, vt, p, ds, i, Q_TILE, half);
    for (; i < a->n_q; i++) back_weights(a, vt, p, ds, i, 1, half);
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
