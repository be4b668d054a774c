/* float32 to the types that are written: halves and quantised blocks.
 *
 * Scales are found by search: a few ways of rounding are tried, each gives the best scale for its integers by least squares,
 * and the one with the smallest squared error is kept. Errors are not weighted: activations know nothing of the size of the
 * weights that they meet. NaN and infinity in a block spoil that block only. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "tensor/dtype.h"

enum { LANES = 8 }; /* independent partial sums, so that compilers can vectorise without reordering */

static float sum_lanes(const float v[LANES]) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

/* Nearest integer, ties to even, kept within [lo, hi]; NaN gives lo. */
static inline float round_to(float v, float lo, float hi) {
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return v + 0x1.8p23f - 0x1.8p23f;
}

static float store_half(float v, uint8_t *p) {
    uint16_t h = rm_f32_to_f16(v);
    memcpy(p, &h, 2);
    return rm_f16_to_f32(h);
}

static float inverse_of(float v) { return v != 0 ? 1 / v : 0; }

static void quant_half(const float *src, uint8_t *dst, size_t n, uint16_t (*convert)(float)) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h = convert(src[i]);
        memcpy(dst + 2 * i, &h, 2);
    }
}

/* ---- y = d * q ------------------------------------------------------------------------------------------------------ */

static float largest(const float *x, int n) { /* by magnitude, with its sign */
    float best = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(best)) best = x[i];
    return best;
}

/* The scale for which integers in [lo, hi], lo = -hi - 1, come nearest to x[0..n). n is a multiple of 8. */
static float symmetric_scale(const float *x, int n, float lo, float hi) {
    float max = largest(x, n), best = 0, best_gain = 0;
    if (!(fabsf(max) > 1e-30f)) return 0;
    for (int step = -9; step <= 9; step++) {
        float inverse = (lo + 0.1f * (float)step) / max, xq[LANES] = {0}, qq[LANES] = {0};
        for (int i = 0; i < n; i += LANES)
            for (int l = 0; l < LANES; l++) {
                float q = round_to(x[i + l] * inverse, lo, hi);
                xq[l] += x[i + l] * q;
                qq[l] += q * q;
            }
        float a = sum_lanes(xq), b = sum_lanes(qq);
        /* the squared error is sum(x^2) - a^2 / b */
        if (b > 0 && a * a > best_gain * b) {
            best = a / b;
            best_gain = a * a / b;
        }
    }
    return best;
}

/* d is the largest magnitude / 127: a search gains next to nothing with 8 bits. */
static void block_q8_0(const float *x, uint8_t *b) {
    float d = fabsf(largest(x, 32)) / 127, inverse = inverse_of(d);
    store_half(d, b);
    for (int j = 0; j < 32; j++) {
        float v = x[j] * inverse;
        v = v > -127 ? v : -127; /* NaN */
        b[2 + j] = (uint8_t)(int8_t)roundf(v < 127 ? v : 127);
    }
}

static void block_q4_0(const float *x, uint8_t *b) {
    float inverse = inverse_of(store_half(symmetric_scale(x, 32, -8, 7), b));
    for (int j = 0; j < 16; j++) {
        int low = (int)round_to(x[j] * inverse, -8, 7) + 8, high = (int)round_to(x[j + 16] * inverse, -8, 7) + 8;
        b[2 + j] = (uint8_t)(low | high << 4);
    }
}

static void block_q5_0(const float *x, uint8_t *b) {
    float inverse = inverse_of(store_half(symmetric_scale(x, 32, -16, 15), b));
    uint32_t high = 0;
    for (int j = 0; j < 16; j++) {
        uint32_t p = (uint32_t)(round_to(x[j] * inverse, -16, 15) + 16), q = (uint32_t)(round_to(x[j + 16] * inverse, -16, 15) + 16);
        b[6 + j] = (uint8_t)((p & 15) | (q & 15) << 4);
        high |= p >> 4 << j | q >> 4 << (j + 16);
    }
    memcpy(b + 2, &high, 4);
}

static void block_q6_k(const float *x, uint8_t *b) {
    uint8_t *ql = b, *qh = b + 128;
    float scale[16];
    for (int k = 0; k < 16; k++) scale[k] = symmetric_scale(x + 16 * k, 16, -32, 31);
    float inverse_d = inverse_of(store_half(largest(scale, 16) / -128, b + 208)), d = inverse_d != 0 ? 1 / inverse_d : 0;
    memset(b, 0, 192);
    for (int k = 0; k < 16; k++) {
        int n = k >> 3, t = k >> 1 & 3, h = k & 1, sc = (int)round_to(scale[k] * inverse_d, -128, 127);
        float inverse = inverse_of(d * (float)sc);
        b[192 + k] = (uint8_t)(int8_t)sc;
        for (int l = 16 * h; l < 16 * h + 16; l++) {
            int q = (int)round_to(x[16 * k + l - 16 * h] * inverse, -32, 31) + 32;
            ql[64 * n + 32 * (t & 1) + l] |= (uint8_t)((q & 15) << (t < 2 ? 0 : 4));
            qh[32 * n + l] |= (uint8_t)((q >> 4) << 2 * t);
        }
    }
}

/* ---- y = scale * q - min: Q4_K -------------------------------------------------------------------------------------- */

enum { SUB = 32, N_SUB = 8 };

/* Squared error of 32 values with q = nearest in 0..15. */
static float affine_error(const float *x, float scale, float min) {
    float inverse = inverse_of(scale), e[LANES] = {0};
    for (int i = 0; i < SUB; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float q = round_to((x[i + l] + min) * inverse, 0, 15), diff = scale * q - min - x[i + l];
            e[l] += diff * diff;
        }
    return sum_lanes(e);
}

/* Least squares for scale and min >= 0 over several ways of rounding 32 values. */
static void affine_fit(const float *x, float *scale, float *min) {
    float lo = 0, hi = x[0], sum_x = 0;
    double best = 0;
    for (int i = 0; i < SUB; i++) {
        if (x[i] < lo) lo = x[i];
        if (x[i] > hi) hi = x[i];
        sum_x += x[i];
    }
    *min = -lo;
    *scale = (hi - lo) / 15;
    if (!(hi - lo > 1e-30f)) return;
    for (int step = -10; step <= 10; step++) {
        float inverse = (15 + 0.12f * (float)step) / (hi - lo), q1[LANES] = {0}, q2[LANES] = {0}, xq[LANES] = {0};
        for (int i = 0; i < SUB; i += LANES)
            for (int l = 0; l < LANES; l++) {
                float q = round_to((x[i + l] - lo) * inverse, 0, 15);
                q1[l] += q;
                q2[l] += q * q;
                xq[l] += q * x[i + l];
            }
        float a = sum_lanes(q1), b = sum_lanes(q2), c = sum_lanes(xq), det = SUB * b - a * a;
        if (!(det > 0)) continue;
        float s = (SUB * c - a * sum_x) / det, m = (a * c - b * sum_x) / det; /* of x ~ s q - m */
        if (m < 0) {
            m = 0;
            s = c / b;
        }
        double gain = (double)s * (double)c - (double)m * (double)sum_x; /* the squared error is sum(x^2) - gain */
        if (gain > best) {
            best = gain;
            *scale = s;
            *min = m;
        }
    }
}

typedef struct {
    float d, dmin; /* as stored */
    int sc[N_SUB], mn[N_SUB]; /* 0..63 */
    float error;
} q4_k;

/* The best 6-bit numbers for given d and dmin, near the wanted scales and minima. */
static void choose_numbers(const float *x, const float *scale, const float *min, q4_k *r) {
    r->error = 0;
    for (int k = 0; k < N_SUB; k++) {
        int s0 = (int)round_to(scale[k] * inverse_of(r->d), 0, 63), m0 = (int)round_to(min[k] * inverse_of(r->dmin), 0, 63);
        float best = INFINITY;
        r->sc[k] = s0;
        r->mn[k] = m0;
        for (int s = s0 - 1; s <= s0 + 1; s++)
            for (int m = m0 - 1; m <= m0 + 1; m++) {
                if (s < 0 || s > 63 || m < 0 || m > 63) continue;
                float e = affine_error(x + SUB * k, r->d * (float)s, r->dmin * (float)m);
                if (e < best) {
                    best = e;
                    r->sc[k] = s;
                    r->mn[k] = m;
                }
            }
        r->error += best;
    }
}

static float as_half(float v) { return rm_f16_to_f32(rm_f32_to_f16(v)); }

/* With the integers fixed, the best d and dmin of x ~ d (sc q) - dmin mn. False if they are not determined. */
static bool solve_scales(const float *x, const q4_k *r, float *d, float *dmin) {
    double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (int k = 0; k < N_SUB; k++) {
        float scale = r->d * (float)r->sc[k], min = r->dmin * (float)r->mn[k], inverse = inverse_of(scale);
        for (int i = SUB * k; i < SUB * k + SUB; i++) {
            double a = (double)r->sc[k] * (double)round_to((x[i] + min) * inverse, 0, 15), b = r->mn[k];
            aa += a * a;
            ab += a * b;
            bb += b * b;
            xa += a * (double)x[i];
            xb += b * (double)x[i];
        }
    }
    double det = aa * bb - ab * ab;
    if (!(det > 1e-6 * aa * bb)) return false;
    *d = as_half((float)((bb * xa - ab * xb) / det));
    *dmin = as_half((float)((ab * xa - aa * xb) / det));
    return *d > 0 && *dmin >= 0;
}

static void block_q4_k(const float *x, uint8_t *b) {
    float scale[N_SUB], min[N_SUB], max_scale = 0, max_min = 0;
    for (int k = 0; k < N_SUB; k++) {
        affine_fit(x + SUB * k, &scale[k], &min[k]);
        if (scale[k] > max_scale) max_scale = scale[k];
        if (min[k] > max_min) max_min = min[k];
    }
    q4_k best = {.d = as_half(max_scale / 63), .dmin = as_half(max_min / 63)}, next;
    choose_numbers(x, scale, min, &best);
    for (int round = 0; round < 2; round++) {
        if (!solve_scales(x, &best, &next.d, &next.dmin)) break;
        choose_numbers(x, scale, min, &next);
        if (!(next.error < best.error)) break;
        best = next;
    }
    store_half(best.d, b);
    store_half(best.dmin, b + 2);
    for (int k = 0; k < 4; k++) {
        b[4 + k] = (uint8_t)(best.sc[k] | (best.sc[k + 4] >> 4) << 6);
        b[8 + k] = (uint8_t)(best.mn[k] | (best.mn[k + 4] >> 4) << 6);
        b[12 + k] = (uint8_t)((best.sc[k + 4] & 15) | (best.mn[k + 4] & 15) << 4);
    }
    for (int k = 0; k < N_SUB; k++) {
        float s = best.d * (float)best.sc[k], m = best.dmin * (float)best.mn[k], inverse = inverse_of(s);
        for (int l = 0; l < SUB; l++) {
            int q = (int)round_to((x[SUB * k + l] + m) * inverse, 0, 15);
            uint8_t *p = &b[16 + 32 * (k >> 1) + l];
            *p = (uint8_t)(k & 1 ? *p | q << 4 : q);
        }
    }
}

bool rm_quant(rm_dtype t, const float *src, void *dst, size_t n) {
    static void (*const block[RM_DTYPE_COUNT])(const float *, uint8_t *) = {
        [RM_Q8_0] = block_q8_0, [RM_Q4_0] = block_q4_0, [RM_Q5_0] = block_q5_0, [RM_Q4_K] = block_q4_k, [RM_Q6_K] = block_q6_k};
    const rm_dtype_info *info = rm_dtype_get(t);
    size_t step = (size_t)info->block_elems;
    uint8_t *p = dst;
    assert(n % step == 0);
    if (t == RM_F32) {
        if (n) memcpy(dst, src, n * 4);
    } else if (t == RM_F16)
        quant_half(src, p, n, rm_f32_to_f16);
    else if (t == RM_BF16)
        quant_half(src, p, n, rm_f32_to_bf16);
    else if (!block[t])
        return false;
    else
        for (size_t i = 0; i < n; i += step, p += info->block_bytes) block[t](src + i, p);
    return true;
}
