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

/* exp(c) = 2^n (1 + p): r = c - n ln 2 in two steps, p = exp(r) - 1 */
static inline vf exp_parts(vf c, vf *n) {
    *n = v_round(v_mul(c, v_set(1.44269504f)));
    vf r = v_fma(*n, v_set(-0.693145752f), c);
    r = v_fma(*n, v_set(-1.42860677e-6f), r);
    vf p = v_fma(v_set(0.0013950602f), r, v_set(0.008368953f));
    p = v_fma(p, r, v_set(0.041666206f));
    p = v_fma(p, r, v_set(0.16666518f));
    p = v_fma(p, r, v_set(0.5f));
    return v_fma(v_mul(r, r), p, r);
}
/* NaN passes through; underflow to zero below 2^-126 */
static inline vf exp_v(vf x) {
    vf lo = v_set(-87.33654f), hi = v_set(88.72283f), n, p = exp_parts(v_min(hi, v_max(lo, x)), &n);
    vf half = v_mul(n, v_set(0.5f)); /* 2^128 is no float: scale twice */
    vf n1 = v_round(half), n2 = v_sub(n, n1);
    vf s1 = v_pow2(n1), y = v_mul(v_fma(p, s1, s1), v_pow2(n2));
    y = v_sel(v_lt(x, lo), v_set(0.0f), y);
    return v_sel(v_lt(hi, x), v_set(INFINITY), y);
}
/* The same for x <= 0 or NaN. */
static inline vf exp_below(vf x) {
    vf lo = v_set(-87.33654f), n, p = exp_parts(v_max(lo, x), &n), s = v_pow2(n);
    return v_sel(v_lt(x, lo), v_set(0.0f), v_fma(p, s, s));
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
/* y = r x w: dx = r (dy w) - r^3 x mean(x dy w) */
static void op_rms_norm_back(float *dx, const float *dy, const float *x, const float *w, size_t n, float eps) {
    vf s = v_set(0.0f);
    FOR_VECTORS(i, n) s = v_fma(ld(x, i, n), v_mul(ld(dy, i, n), ld(w, i, n)), s);
    float r = 1.0f / sqrtf(sum_squares(x, n) / (float)n + eps);
    vf a = v_set(r), c = v_set(-r * r * r * v_sum(s) / (float)n);
    FOR_VECTORS(i, n) st(dx, v_fma(c, ld(x, i, n), v_fma(a, v_mul(ld(dy, i, n), ld(w, i, n)), ld(dx, i, n))), i, n);
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

static void op_to_bf16(uint16_t *y, const float *x, size_t n) {
    FOR_VECTORS(i, n) {
        if (n - i >= 16)
            v_store_bf16(y + i, v_load(x + i));
        else
            v_store_bf16_n(y + i, v_load_n(x + i, n - i), n - i);
    }
}

#define RM_OPS                                                                                                                                       \
    .dot = op_dot, .axpy = op_axpy, .add = op_add, .mul = op_mul, .scale = op_scale, .rms_norm = op_rms_norm, .rms_norm_back = op_rms_norm_back,     \
    .layer_norm = op_layer_norm, .l2_norm = op_l2_norm, .exp = op_exp, .sigmoid = op_sigmoid, .silu = op_silu, .gelu = op_gelu,                      \
    .silu_mul = op_silu_mul, .gelu_tanh_mul = op_gelu_tanh_mul, .silu_mul_back = op_silu_mul_back, .gelu_tanh_mul_back = op_gelu_tanh_mul_back,      \
    .sigmoid_mul = op_sigmoid_mul, .softmax = op_softmax, .rope = op_rope, .conv4_silu = op_conv4_silu, .attn_finish = op_attn_finish,               \
    .to_half = op_to_half, .to_bf16 = op_to_bf16
