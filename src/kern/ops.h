/* The functions of the kernel table, written once on the 16-lane vectors of vec_*.h and compiled for each instruction set:
 * included by portable.c, avx2.c, avx512.c and neon.c after their vector header. Rows of any length; tails use masked lanes, so the
 * lane that an element falls into depends on its index only. */
#include <math.h>

#include "kern/kern.h"

#define FOR_VECTORS(i, n) for (size_t i = 0; i < (n); i += 16)
static inline vf ld(const float *p, size_t i, size_t n) { return n - i >= 16 ? v_load(p + i) : v_load_n(p + i, n - i); }
static inline void st(float *p, vf x, size_t i, size_t n) {
    if (n - i >= 16)
        v_store(p + i, x);
    else
        v_store_n(p + i, x, n - i);
}

/* ---- elementary functions, about 1 ulp; polynomials fitted by tools of our own (minimax in the weighted least squares sense) ---- */

static inline vf exp_v(vf x) {
    /* exp(x) = 2^n exp(r), r = x - n ln 2 in two steps; NaN passes through; underflow to zero below 2^-126 */
    vf lo = v_set(-87.33654f), hi = v_set(88.72283f), c = v_min(hi, v_max(lo, x));
    vf n = v_round(v_mul(c, v_set(1.44269504f)));
    vf r = v_fma(n, v_set(-0.693145752f), c);
    r = v_fma(n, v_set(-1.42860677e-6f), r);
    vf p = v_fma(v_set(0.0013950602f), r, v_set(0.008368953f));
    p = v_fma(p, r, v_set(0.041666206f));
    p = v_fma(p, r, v_set(0.16666518f));
    p = v_fma(p, r, v_set(0.5f));
    p = v_fma(v_mul(r, r), p, r);
    vf half = v_mul(n, v_set(0.5f)); /* 2^128 is no float: scale twice */
    vf n1 = v_round(half), n2 = v_sub(n, n1);
    vf s1 = v_pow2(n1), y = v_mul(v_fma(p, s1, s1), v_pow2(n2));
    y = v_sel(v_lt(x, lo), v_set(0.0f), y);
    return v_sel(v_lt(hi, x), v_set(INFINITY), y);
}
static inline vf sigmoid_v(vf x) { return v_div(v_set(1.0f), v_add(v_set(1.0f), exp_v(v_sub(v_set(0.0f), x)))); }
static inline vf silu_v(vf x) { return v_div(x, v_add(v_set(1.0f), exp_v(v_sub(v_set(0.0f), x)))); }
static inline vf erf_v(vf x) {
    vf t = v_min(v_set(4.0f), v_abs(x)), s = v_mul(x, x);
    vf a = v_fma(v_set(-0.0006013283f), s, v_set(0.00499798f)); /* |x| < 0.92: x + x P(x^2) */
    a = v_fma(a, s, v_set(-0.026770217f));
    a = v_fma(a, s, v_set(0.11281927f));
    a = v_fma(a, s, v_set(-0.37612507f));
    a = v_fma(a, s, v_set(0.12837915f));
    a = v_fma(a, x, x);
    vf b = v_fma(v_set(0.00021392215f), t, v_set(-0.003214437f)); /* else: 1 - exp(-t + t R(t)) */
    b = v_fma(b, t, v_set(0.022888297f));
    b = v_fma(b, t, v_set(-0.10525924f));
    b = v_fma(b, t, v_set(-0.6357203f));
    b = v_fma(b, t, v_set(-0.12851377f));
    b = v_fma(b, t, v_sub(v_set(0.0f), t));
    b = v_copysign(v_sub(v_set(1.0f), exp_v(b)), x);
    return v_sel(v_lt(t, v_set(0.92f)), a, b);
}

/* ---- rows ---------------------------------------------------------------------------------------------------------------- */

static float op_dot(const float *a, const float *b, size_t n) {
    vf s = v_set(0.0f);
    FOR_VECTORS(i, n) s = v_fma(ld(a, i, n), ld(b, i, n), s);
    return v_sum(s);
}
static void op_axpy(float *y, float a, const float *x, size_t n) {
    vf va = v_set(a);
    FOR_VECTORS(i, n) st(y, v_fma(va, ld(x, i, n), ld(y, i, n)), i, n);
}
static void op_add(float *y, const float *a, const float *b, size_t n) { FOR_VECTORS(i, n) st(y, v_add(ld(a, i, n), ld(b, i, n)), i, n); }
static void op_mul(float *y, const float *a, const float *b, size_t n) { FOR_VECTORS(i, n) st(y, v_mul(ld(a, i, n), ld(b, i, n)), i, n); }
static void op_scale(float *y, const float *x, float a, size_t n) {
    vf va = v_set(a);
    FOR_VECTORS(i, n) st(y, v_mul(ld(x, i, n), va), i, n);
}
static float sum_squares(const float *x, size_t n) { return op_dot(x, x, n); }
static void op_rms_norm(float *y, const float *x, const float *w, size_t n, float eps) {
    vf r = v_set(1.0f / sqrtf(sum_squares(x, n) / (float)n + eps));
    if (w) {
        FOR_VECTORS(i, n) st(y, v_mul(v_mul(ld(x, i, n), r), ld(w, i, n)), i, n);
    } else {
        FOR_VECTORS(i, n) st(y, v_mul(ld(x, i, n), r), i, n);
    }
}
static void op_layer_norm(float *y, const float *x, const float *w, const float *b, size_t n, float eps) {
    vf s = v_set(0.0f);
    FOR_VECTORS(i, n) s = v_add(s, ld(x, i, n));
    float mean = v_sum(s) / (float)n;
    vf m = v_set(mean), q = v_set(0.0f);
    FOR_VECTORS(i, n) { /* two passes: no cancellation where the mean is large */
        vf d = v_sub(ld(x, i, n), m);
        if (n - i < 16) d = v_sel(v_lanes(0, (int)(n - i)), d, v_set(0.0f));
        q = v_fma(d, d, q);
    }
    vf r = v_set(1.0f / sqrtf(v_sum(q) / (float)n + eps));
    FOR_VECTORS(i, n) st(y, v_fma(v_mul(v_sub(ld(x, i, n), m), r), ld(w, i, n), ld(b, i, n)), i, n);
}
static void op_l2_norm(float *y, const float *x, size_t n, float eps, float scale) { op_scale(y, x, scale / sqrtf(sum_squares(x, n) + eps), n); }
static void op_exp(float *y, const float *x, size_t n) { FOR_VECTORS(i, n) st(y, exp_v(ld(x, i, n)), i, n); }
static void op_sigmoid(float *y, const float *x, size_t n) { FOR_VECTORS(i, n) st(y, sigmoid_v(ld(x, i, n)), i, n); }
static void op_silu(float *y, const float *x, size_t n) { FOR_VECTORS(i, n) st(y, silu_v(ld(x, i, n)), i, n); }
static void op_gelu(float *y, const float *x, size_t n) {
    FOR_VECTORS(i, n) {
        vf a = ld(x, i, n), h = v_mul(a, v_set(0.5f));
        st(y, v_fma(h, erf_v(v_mul(a, v_set(0.707106781f))), h), i, n);
    }
}
static void op_silu_mul(float *y, const float *gate, const float *up, size_t n) {
    FOR_VECTORS(i, n) st(y, v_mul(silu_v(ld(gate, i, n)), ld(up, i, n)), i, n);
}
static void op_gelu_tanh_mul(float *y, const float *gate, const float *up, size_t n) {
    FOR_VECTORS(i, n) { /* (1 + tanh u) / 2 = sigmoid(2u): no cancellation for negative u */
        vf g = ld(gate, i, n), u = v_mul(g, v_set(1.59576912f));
        u = v_fma(v_mul(u, v_set(0.044715f)), v_mul(g, g), u);
        st(y, v_mul(v_mul(g, sigmoid_v(u)), ld(up, i, n)), i, n);
    }
}
static void op_silu_mul_back(float *d_gate, float *d_up, const float *dy, const float *gate, const float *up, size_t n) {
    FOR_VECTORS(i, n) {
        vf g = ld(gate, i, n), s = sigmoid_v(g), a = v_mul(g, s), t = ld(dy, i, n);
        vf slope = v_fma(a, v_sub(v_set(1.0f), s), s);
        st(d_gate, v_mul(v_mul(t, ld(up, i, n)), slope), i, n);
        st(d_up, v_mul(t, a), i, n);
    }
}
static void op_gelu_tanh_mul_back(float *d_gate, float *d_up, const float *dy, const float *gate, const float *up, size_t n) {
    const vf c = v_set(1.59576912f), one = v_set(1.0f);
    FOR_VECTORS(i, n) { /* with s = sigmoid(u(g)): (g s)' = s + g s (1 - s) u' */
        vf g = ld(gate, i, n), q = v_mul(v_mul(g, g), v_set(0.044715f)), t = ld(dy, i, n);
        vf s = sigmoid_v(v_mul(v_mul(c, g), v_add(one, q))), a = v_mul(g, s);
        vf slope = v_fma(v_mul(a, v_sub(one, s)), v_mul(c, v_fma(v_set(3.0f), q, one)), s);
        st(d_gate, v_mul(v_mul(t, ld(up, i, n)), slope), i, n);
        st(d_up, v_mul(t, a), i, n);
    }
}
static void op_sigmoid_mul(float *y, const float *gate, const float *x, size_t n) {
    FOR_VECTORS(i, n) st(y, v_mul(sigmoid_v(ld(gate, i, n)), ld(x, i, n)), i, n);
}
static void op_softmax(float *y, const float *x, size_t n) {
    vf top = v_set(-INFINITY), s = v_set(0.0f);
    FOR_VECTORS(i, n) top = v_max(top, n - i >= 16 ? v_load(x + i) : v_sel(v_lanes(0, (int)(n - i)), v_load_n(x + i, n - i), top));
    top = v_set(v_hmax(top));
    FOR_VECTORS(i, n) {
        vf e = exp_v(v_sub(ld(x, i, n), top));
        if (n - i < 16) e = v_sel(v_lanes(0, (int)(n - i)), e, v_set(0.0f));
        s = v_add(s, e);
        st(y, e, i, n);
    }
    op_scale(y, y, 1.0f / v_sum(s), n);
}
static void op_rope(float *x, const float *cs, int half, bool adjacent) {
    if (adjacent) {
        for (int j = 0; j < half; j++) {
            float a = x[2 * j], b = x[2 * j + 1];
            x[2 * j] = a * cs[j] - b * cs[half + j];
            x[2 * j + 1] = b * cs[j] + a * cs[half + j];
        }
        return;
    }
    size_t n = (size_t)half;
    FOR_VECTORS(i, n) {
        vf a = ld(x, i, n), b = ld(x + n, i, n), c = ld(cs, i, n), s = ld(cs + n, i, n);
        st(x, v_sub(v_mul(a, c), v_mul(b, s)), i, n);
        st(x + n, v_add(v_mul(b, c), v_mul(a, s)), i, n);
    }
}
static void op_conv4_silu(float *y, const float *const x[4], const float *w, size_t n) {
    float t[16];
    for (size_t i = 0; i < n; i += 16) {
        size_t k = n - i < 16 ? n - i : 16;
        for (size_t j = 0; j < k; j++) {
            const float *c = w + 4 * (i + j);
            t[j] = ((c[0] * x[0][i + j] + c[1] * x[1][i + j]) + c[2] * x[2][i + j]) + c[3] * x[3][i + j];
        }
        vf v = silu_v(k == 16 ? v_load(t) : v_load_n(t, k));
        if (k == 16)
            v_store(y + i, v);
        else
            v_store_n(y + i, v, k);
    }
}
static void op_to_half(uint16_t *y, const float *x, size_t n) {
    FOR_VECTORS(i, n) {
        if (n - i >= 16)
            v_store_half(y + i, v_load(x + i));
        else
            v_store_half_n(y + i, v_load_n(x + i, n - i), n - i);
    }
}

/* ---- attention -------------------------------------------------------------------------------------------------------------- */

enum { KV_VECTORS = RM_KV_BLOCK / 16, Q_TILE = 4 };

static inline __attribute__((always_inline)) vf kv_at(const void *p, size_t i, bool half) {
    return half ? v_load_half((const uint16_t *)p + i) : v_load((const float *)p + i);
}
static inline __attribute__((always_inline)) vf kv_part(const void *p, size_t i, size_t n, bool half) {
    return half ? v_load_half_n((const uint16_t *)p + i, n) : v_load_n((const float *)p + i, n);
}

/* s[i][key] = q[i] k; a sum runs over the head dimension in order, one key per lane */
static inline __attribute__((always_inline)) void attn_scores(vf s[][KV_VECTORS], const void *keys, const float *q, size_t ldq, int d, int nq,
                                                              bool half) {
    for (int i = 0; i < nq; i++)
        for (int c = 0; c < KV_VECTORS; c++) s[i][c] = v_set(0.0f);
    for (int j = 0; j < d; j++) {
        vf k[KV_VECTORS];
        for (int c = 0; c < KV_VECTORS; c++) k[c] = kv_at(keys, (size_t)j * RM_KV_BLOCK + (size_t)c * 16, half);
        for (int i = 0; i < nq; i++) {
            vf x = v_set(q[(size_t)i * ldq + (size_t)j]);
            for (int c = 0; c < KV_VECTORS; c++) s[i][c] = v_fma(x, k[c], s[i][c]);
        }
    }
}

/* The running softmax of one query: turns its scores into weights p and rescales what was summed before if the maximum grew. */
static inline __attribute__((always_inline)) void attn_weights(float p[RM_KV_BLOCK], vf s[KV_VECTORS], const rm_attn *a, int q) {
    vf scale = v_set(a->scale), top = v_set(-INFINITY), sum = v_set(0.0f), none = v_set(-INFINITY);
    for (int c = 0; c < KV_VECTORS; c++) {
        s[c] = v_sel(v_lanes(a->from[q] - 16 * c, a->to[q] - 16 * c), v_mul(s[c], scale), none);
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
        vf e = v_sel(v_lanes(a->from[q] - 16 * c, a->to[q] - 16 * c), exp_v(v_sub(s[c], vm_)), v_set(0.0f));
        sum = v_add(sum, e);
        v_store(p + 16 * c, e);
    }
    a->l[q] += v_sum(sum);
}

/* o[iq..][16 c..] += sum over keys j0 <= j < j1 of p[j] v[j]: in the order of the keys */
static inline __attribute__((always_inline)) void attn_values(const rm_attn *a, float p[][RM_KV_BLOCK], int iq, int nq, int j0, int j1, bool half) {
    size_t d = (size_t)a->d;
    for (size_t c = 0; c < d; c += 64) {
        size_t rest = d - c;
        if (rest >= 64) {
            vf o[Q_TILE][4];
            for (int i = 0; i < nq; i++)
                for (int t = 0; t < 4; t++) o[i][t] = v_load(a->o + (size_t)(iq + i) * a->ldo + c + (size_t)t * 16);
            for (int j = j0; j < j1; j++) {
                vf v[4];
                for (int t = 0; t < 4; t++) v[t] = kv_at(a->v, (size_t)j * d + c + (size_t)t * 16, half);
                for (int i = 0; i < nq; i++) {
                    vf w = v_set(p[i][j]);
                    for (int t = 0; t < 4; t++) o[i][t] = v_fma(w, v[t], o[i][t]);
                }
            }
            for (int i = 0; i < nq; i++)
                for (int t = 0; t < 4; t++) v_store(a->o + (size_t)(iq + i) * a->ldo + c + (size_t)t * 16, o[i][t]);
        } else {
            for (size_t t = c; t < d; t += 16) {
                size_t n = d - t < 16 ? d - t : 16;
                for (int i = 0; i < nq; i++) {
                    float *row = a->o + (size_t)(iq + i) * a->ldo;
                    vf o = ld(row, t, d);
                    for (int j = j0; j < j1; j++) {
                        vf v = n == 16 ? kv_at(a->v, (size_t)j * d + t, half) : kv_part(a->v, (size_t)j * d + t, n, half);
                        o = v_fma(v_set(p[i][j]), v, o);
                    }
                    st(row, o, t, d);
                }
            }
        }
    }
}

static inline __attribute__((always_inline)) void attn_tile(const rm_attn *a, int iq, int nq, bool half) {
    vf s[Q_TILE][KV_VECTORS];
    float p[Q_TILE][RM_KV_BLOCK];
    int j0 = RM_KV_BLOCK, j1 = 0;
    for (int i = iq; i < iq + nq; i++) {
        if (a->from[i] >= a->to[i]) continue;
        if (a->from[i] < j0) j0 = a->from[i];
        if (a->to[i] > j1) j1 = a->to[i];
    }
    if (j0 >= j1) return;
    attn_scores(s, a->k, a->q + (size_t)iq * a->ldq, a->ldq, a->d, nq, half);
    for (int i = 0; i < nq; i++) {
        if (a->from[iq + i] < a->to[iq + i])
            attn_weights(p[i], s[i], a, iq + i);
        else
            for (int j = 0; j < RM_KV_BLOCK; j++) p[i][j] = 0.0f;
    }
    attn_values(a, p, iq, nq, j0, j1, half);
}
static inline __attribute__((always_inline)) void attn_all(const rm_attn *a, bool half) {
    int i = 0;
    for (; i + Q_TILE <= a->n_q; i += Q_TILE) attn_tile(a, i, Q_TILE, half);
    if (a->n_q - i == 3) attn_tile(a, i, 3, half);
    if (a->n_q - i == 2) attn_tile(a, i, 2, half);
    if (a->n_q - i == 1) attn_tile(a, i, 1, half);
}
static void op_attn_block(const rm_attn *a) {
    if (a->half)
        attn_all(a, true);
    else
        attn_all(a, false);
}
static void op_attn_finish(float *o, size_t ldo, const float *l, int n_q, int d) {
    for (int i = 0; i < n_q; i++) op_scale(o + (size_t)i * ldo, o + (size_t)i * ldo, 1.0f / l[i], (size_t)d);
}

/* ---- the gated delta rule: columns of the state are independent; a slice of columns stays in the cache over all tokens ---- */

static inline __attribute__((always_inline)) void delta_slice(const rm_delta *a, size_t c, size_t n, int nv) {
    size_t dv = (size_t)a->dv;
    for (int t = 0; t < a->n_tok; t++) {
        const float *q = a->q + (size_t)t * a->ldq, *k = a->k + (size_t)t * a->ldk;
        float *s = a->state + c;
        vf u[4], o[4], decay = v_set(a->decay[(size_t)t * a->ldg]), beta = v_set(a->beta[(size_t)t * a->ldg]);
        for (int j = 0; j < nv; j++) u[j] = o[j] = v_set(0.0f);
        for (int i = 0; i < a->dk; i++) {
            vf ki = v_set(k[i]);
            for (int j = 0; j < nv; j++) u[j] = v_fma(ki, ld(s + (size_t)i * dv, (size_t)j * 16, n), u[j]);
        }
        for (int j = 0; j < nv; j++) {
            vf v = ld(a->v + (size_t)t * a->ldv + c, (size_t)j * 16, n);
            u[j] = v_mul(beta, v_sub(v, v_mul(decay, u[j])));
        }
        for (int i = 0; i < a->dk; i++) {
            vf ki = v_set(k[i]), qi = v_set(q[i]);
            for (int j = 0; j < nv; j++) {
                vf x = v_fma(ki, u[j], v_mul(decay, ld(s + (size_t)i * dv, (size_t)j * 16, n)));
                st(s + (size_t)i * dv, x, (size_t)j * 16, n);
                o[j] = v_fma(qi, x, o[j]);
            }
        }
        for (int j = 0; j < nv; j++) st(a->o + (size_t)t * a->ldo + c, o[j], (size_t)j * 16, n);
    }
}
static void op_delta_rule(const rm_delta *a) {
    size_t dv = (size_t)a->dv, c = 0;
    for (; c + 64 <= dv; c += 64) delta_slice(a, c, 64, 4);
    for (; c < dv; c += 16) delta_slice(a, c, dv - c < 16 ? dv - c : 16, 1);
}

#define RM_OPS                                                                                                                                       \
    .dot = op_dot, .axpy = op_axpy, .add = op_add, .mul = op_mul, .scale = op_scale, .rms_norm = op_rms_norm, .layer_norm = op_layer_norm,           \
    .l2_norm = op_l2_norm, .exp = op_exp, .sigmoid = op_sigmoid, .silu = op_silu, .gelu = op_gelu, .silu_mul = op_silu_mul,                          \
    .gelu_tanh_mul = op_gelu_tanh_mul, .silu_mul_back = op_silu_mul_back, .gelu_tanh_mul_back = op_gelu_tanh_mul_back,                               \
    .sigmoid_mul = op_sigmoid_mul, .softmax = op_softmax, .rope = op_rope, .conv4_silu = op_conv4_silu, .attn_block = op_attn_block,                 \
    .attn_back = op_attn_back, .attn_finish = op_attn_finish, .delta_rule = op_delta_rule, .to_half = op_to_half
