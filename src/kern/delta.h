/* The gated delta rule, on the vectors of vec_*.h; included after attn.h. Columns of a state are independent: a slice of them stays in the first
 * cache over all tokens, and because slices are contiguous (rm_delta) the processor can fetch them. */

/* A slice of n columns from c on, in nv vectors. While the last token is done the slice after it is fetched. */
RM_INLINE void delta_slice(const rm_delta *a, size_t c, size_t n, const int nv) {
    float *s = a->state + c * (size_t)a->dk;
    const float *next = s + n * (size_t)a->dk;
    for (int t = 0; t < a->n_tok; t++) {
        const float *q = a->q + (size_t)t * a->ldq, *k = a->k + (size_t)t * a->ldk;
        const bool fetch = t == a->n_tok - 1;
        vf u[2][2], o[2], decay = v_set(a->decay[(size_t)t * a->ldg]), beta = v_set(a->beta[(size_t)t * a->ldg]);
        RM_UNROLL for (int j = 0; j < nv; j++) u[0][j] = u[1][j] = o[j] = v_set(0.0f); /* u: sums of even and of odd rows */
        int i = 0;
        for (; i + 2 <= a->dk; i += 2) RM_UNROLL for (int r = 0; r < 2; r++) {
                vf ki = v_set(k[i + r]);
                RM_UNROLL for (int j = 0; j < nv; j++) u[r][j] = v_fma(ki, ld(s + (size_t)(i + r) * n, (size_t)j * 16, n), u[r][j]);
            }
        if (i < a->dk) RM_UNROLL for (int j = 0; j < nv; j++) u[0][j] = v_fma(v_set(k[i]), ld(s + (size_t)i * n, (size_t)j * 16, n), u[0][j]);
        RM_UNROLL for (int j = 0; j < nv; j++) {
            vf v = ld(a->v + (size_t)t * a->ldv + c, (size_t)j * 16, n);
            v = v_sub(v, v_mul(decay, v_add(u[0][j], u[1][j])));
            if (a->rest) st(a->rest + (size_t)t * a->ldo + c, v, (size_t)j * 16, n);
            u[0][j] = v_mul(beta, v);
        }
        for (i = 0; i < a->dk; i++) {
            vf ki = v_set(k[i]), qi = v_set(q[i]);
            RM_UNROLL for (int j = 0; j < nv; j++) {
                if (fetch) __builtin_prefetch(next + (size_t)i * n + 16 * j, 1, 3);
                vf x = v_fma(ki, u[0][j], v_mul(decay, ld(s + (size_t)i * n, (size_t)j * 16, n)));
                st(s + (size_t)i * n, x, (size_t)j * 16, n);
                o[j] = v_fma(qi, x, o[j]);
            }
        }
        RM_UNROLL for (int j = 0; j < nv; j++) st(a->o + (size_t)t * a->ldo + c, o[j], (size_t)j * 16, n);
    }
}

static void op_delta_rule(const rm_delta *a) {
    const size_t dv = (size_t)a->dv;
    size_t c = 0;
    for (; c + RM_DELTA_SLICE <= dv; c += RM_DELTA_SLICE) delta_slice(a, c, RM_DELTA_SLICE, 2);
    if (dv - c > 16)
        delta_slice(a, c, dv - c, 2);
    else if (dv > c)
        delta_slice(a, c, dv - c, 1);
}

/* ---- backward -------------------------------------------------------------------------------------------------------------------- */

/* A token's part of G, n columns of it, and before that what is left of the token after it (k1, du, decay; k1 NULL: nothing). dd = G' k; row i of G u is
 * added to row[i], a vector yet to be summed. */
RM_INLINE void delta_gradient(float *g, const float *k1, const float *du, float decay, const float *q, const float *d_o, const float *k,
                              const float *u, float *dd, float *row, int dk, size_t n, const int nv, bool first) {
    vf du_[2], do_[2], u_[2], dd_[2], f = v_set(decay);
    RM_UNROLL for (int j = 0; j < nv; j++) {
        du_[j] = ld(du, (size_t)j * 16, n), do_[j] = ld(d_o, (size_t)j * 16, n), u_[j] = ld(u, (size_t)j * 16, n), dd_[j] = v_set(0.0f);
    }
    for (int i = 0; i < dk; i++, g += n) {
        vf qi = v_set(q[i]), ki = v_set(k[i]), sum = first ? v_set(0.0f) : v_load(row + 16 * i);
        RM_UNROLL for (int j = 0; j < nv; j++) {
            vf x = ld(g, (size_t)j * 16, n);
            if (k1) x = v_mul(v_fma(v_set(k1[i]), du_[j], x), f);
            x = v_fma(qi, do_[j], x);
            st(g, x, (size_t)j * 16, n);
            dd_[j] = v_fma(ki, x, dd_[j]);
            sum = v_fma(x, u_[j], sum);
        }
        v_store(row + 16 * i, sum);
    }
    RM_UNROLL for (int j = 0; j < nv; j++) st(dd, dd_[j], (size_t)j * 16, n);
}

/* What is left of the last token that is gone through. */
static void delta_leave(float *g, const float *k, const float *du, float decay, int dk, size_t n) {
    for (int i = 0; i < dk; i++, g += n) {
        FOR_VECTORS(c, n) st(g, v_mul(v_fma(v_set(k[i]), ld(du, c, n), ld(g, c, n)), v_set(decay)), c, n);
    }
}

/* y[i] = the sum of the 16 lanes of row i */
static void sum_lanes(float *y, const float *row, int n) {
    for (int i = 0; i < n; i += 16) {
        vf t[16];
        RM_UNROLL for (int r = 0; r < 16; r++) t[r] = i + r < n ? v_load(row + 16 * (i + r)) : v_set(0.0f);
        v_turn(t);
        RM_UNROLL for (int w = 8; w; w /= 2) { RM_UNROLL for (int r = 0; r < w; r++) t[r] = v_add(t[r], t[r + w]); }
        st(y, t[0], (size_t)i, (size_t)n);
    }
}

/* G from the last token to the first: d_v, d_beta, du [m, dv], and the part of d_k that comes from G. dd [dv]: scratch. */
static void delta_states(const rm_delta_rule_back *a, float *u, float *du, float *row, float *dd) {
    const size_t dk = (size_t)a->dk, dv = (size_t)a->dv;
    const float *k1 = NULL;
    float decay = 1;
    for (int t = a->n_tok - 1; t >= a->from; t--) {
        const size_t i = (size_t)(t - a->from);
        const float *q = a->q + (size_t)t * a->ldk, *k = a->k + (size_t)t * a->ldk, *du1 = t + 1 < a->n_tok ? du + (i + 1) * dv : u;
        const float beta = a->beta[(size_t)t * a->ldg];
        for (size_t c = 0, n; c < dv; c += n) {
            n = dv - c < RM_DELTA_SLICE ? dv - c : RM_DELTA_SLICE;
            const float *d_o = a->d_o + i * dv + c, *ut = u + (size_t)t * dv + c;
            float *g = a->d_state + c * dk;
            if (n == RM_DELTA_SLICE)
                delta_gradient(g, k1, du1 + c, decay, q, d_o, k, ut, dd + c, row, a->dk, RM_DELTA_SLICE, 2, c == 0);
            else if (n > 16)
                delta_gradient(g, k1, du1 + c, decay, q, d_o, k, ut, dd + c, row, a->dk, n, 2, c == 0);
            else
                delta_gradient(g, k1, du1 + c, decay, q, d_o, k, ut, dd + c, row, a->dk, n, 1, c == 0);
        }
        sum_lanes(a->d_k + i * a->ld_qk, row, a->dk);
        a->d_beta[i * a->ldg] = op_dot(dd, a->rest + (size_t)t * a->ldr, dv);
        op_scale(a->d_v + i * a->ld_v, dd, beta, dv);
        op_scale(du + i * dv, dd, -beta, dv);
        k1 = k, decay = a->decay[(size_t)t * a->ldg];
    }
    for (size_t c = 0, n; c < dv; c += n) {
        n = dv - c < RM_DELTA_SLICE ? dv - c : RM_DELTA_SLICE;
        delta_leave(a->d_state + c * dk, k1, du + c, decay, a->dk, n);
    }
}

static void op_delta_rule_back(const rm_delta_rule_back *a) {
    const size_t dk = (size_t)a->dk, dv = (size_t)a->dv, n = (size_t)a->n_tok, m = n - (size_t)a->from, up = (dk + 15) / 16 * 16;
    float *s = a->scratch, *row = s + up * dv, *u = row + up * 16, *ut = u + RM_KV_BLOCK * dv, *x = ut + RM_KV_BLOCK * dv, *y = x + 2 * m * dv,
          *p = y + 2 * m * dk;
    for (size_t t = 0; t < n; t++) op_scale(u + t * dv, a->rest + t * a->ldr, a->beta[t * a->ldg], dv);
    memcpy(x, a->d_o, m * dv * sizeof *x);
    delta_states(a, u, x + m * dv, row, ut);
    /* d_o and du through the state before all tokens, and through k u' of those up to their own, or before it */
    for (size_t c = 0; c < dv; c += RM_DELTA_SLICE)
        turn_all(s + c * dk, a->state + c * dk, dk, dv - c < RM_DELTA_SLICE ? dv - c : RM_DELTA_SLICE, false);
    memset(y, 0, 2 * m * dk * sizeof *y);
    columns_all(y, dk, x, dv, 1, (int)(2 * m), s, dk, a->dv, dk);
    memset(u + n * dv, 0, (RM_KV_BLOCK - n) * dv * sizeof *u);
    turn_all(ut, u, RM_KV_BLOCK, dv, false);
    memset(p, 0, 2 * m * RM_KV_BLOCK * sizeof *p);
    columns_all(p, RM_KV_BLOCK, x, dv, 1, (int)(2 * m), ut, RM_KV_BLOCK, a->dv, RM_KV_BLOCK);
    float left[RM_KV_BLOCK] = {0}, all = 1; /* of each token's k u', and of the state, after the token t */
    for (size_t t = 0; t < n; t++) {
        const float decay = a->decay[t * a->ldg];
        op_scale(left, left, decay, t);
        all *= decay;
        left[t] = 1;
        if (t < (size_t)a->from) continue;
        const size_t i = t - (size_t)a->from;
        op_scale(y + i * dk, y + i * dk, all, dk);
        op_scale(y + (m + i) * dk, y + (m + i) * dk, all, dk);
        op_mul(p + i * RM_KV_BLOCK, p + i * RM_KV_BLOCK, left, RM_KV_BLOCK);
        op_mul(p + (m + i) * RM_KV_BLOCK, p + (m + i) * RM_KV_BLOCK, left, RM_KV_BLOCK);
        p[(m + i) * RM_KV_BLOCK + t] = 0;
    }
    columns_all(y, dk, p, RM_KV_BLOCK, 1, (int)(2 * m), a->k, a->ldk, a->n_tok, dk);
    for (size_t i = 0; i < m; i++) {
        memcpy(a->d_q + i * a->ld_qk, y + i * dk, dk * sizeof *y);
        op_add(a->d_k + i * a->ld_qk, a->d_k + i * a->ld_qk, y + (m + i) * dk, dk);
    }
}

#define RM_DELTA .delta_rule = op_delta_rule, .delta_rule_back = op_delta_rule_back
