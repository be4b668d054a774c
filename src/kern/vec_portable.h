/* 16 float lanes in plain C. The same names exist for every instruction set; ops.h is written on them. */
#ifndef RM_KERN_VEC_PORTABLE_H
#define RM_KERN_VEC_PORTABLE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    float f[16];
} vf;
typedef struct {
    uint32_t b[16]; /* all ones or zero */
} vm;

#define RM_LANES for (int i = 0; i < 16; i++)

static inline vf v_load(const float *p) {
    vf r;
    memcpy(r.f, p, sizeof r.f);
    return r;
}
static inline vf v_load_n(const float *p, size_t n) { /* the first n < 16 floats, the rest 0 */
    vf r = {{0}};
    memcpy(r.f, p, n * sizeof *r.f);
    return r;
}
static inline void v_store(float *p, vf x) { memcpy(p, x.f, sizeof x.f); }
static inline void v_store_n(float *p, vf x, size_t n) { memcpy(p, x.f, n * sizeof *p); }
static inline vf v_set(float a) {
    vf r;
    RM_LANES r.f[i] = a;
    return r;
}
#define RM_VEC_OP(name, expr)                                                                                                                        \
    static inline vf name(vf a, vf b) {                                                                                                              \
        vf r;                                                                                                                                        \
        RM_LANES r.f[i] = expr;                                                                                                                      \
        return r;                                                                                                                                    \
    }
RM_VEC_OP(v_add, a.f[i] + b.f[i])
RM_VEC_OP(v_sub, a.f[i] - b.f[i])
RM_VEC_OP(v_mul, a.f[i] * b.f[i])
RM_VEC_OP(v_div, a.f[i] / b.f[i])
RM_VEC_OP(v_max, a.f[i] > b.f[i] ? a.f[i] : b.f[i]) /* b if either is NaN */
RM_VEC_OP(v_min, a.f[i] < b.f[i] ? a.f[i] : b.f[i])
#undef RM_VEC_OP
static inline vf v_fma(vf a, vf b, vf c) { /* a b + c; this table has no fused form */
    vf r;
    RM_LANES r.f[i] = a.f[i] * b.f[i] + c.f[i];
    return r;
}
static inline vf v_round(vf a) { /* to nearest even, |a| < 2^22 */
    vf r;
    RM_LANES r.f[i] = (a.f[i] + 12582912.0f) - 12582912.0f;
    return r;
}
static inline vf v_pow2(vf a) { /* 2^a for integral a in [-126, 127]; of NaN: anything */
    vf r;
    RM_LANES {
        uint32_t u = (uint32_t)((int32_t)(a.f[i] == a.f[i] ? a.f[i] : 0) + 127) << 23;
        memcpy(&r.f[i], &u, 4);
    }
    return r;
}
static inline vf v_abs(vf a) {
    vf r;
    RM_LANES r.f[i] = fabsf(a.f[i]);
    return r;
}
static inline vf v_copysign(vf mag, vf sign) {
    vf r;
    RM_LANES r.f[i] = copysignf(mag.f[i], sign.f[i]);
    return r;
}
static inline vm v_lt(vf a, vf b) {
    vm r;
    RM_LANES r.b[i] = a.f[i] < b.f[i] ? 0xFFFFFFFFu : 0;
    return r;
}
static inline vm v_lanes(int from, int to) { /* lanes from <= i < to; borders may lie outside 0..16 */
    vm r;
    RM_LANES r.b[i] = i >= from && i < to ? 0xFFFFFFFFu : 0;
    return r;
}
static inline vf v_sel(vm m, vf a, vf b) { /* m ? a : b */
    vf r;
    RM_LANES r.f[i] = m.b[i] ? a.f[i] : b.f[i];
    return r;
}
static inline float v_sum(vf a) {
    for (int w = 8; w > 0; w /= 2)
        for (int i = 0; i < w; i++) a.f[i] += a.f[i + w];
    return a.f[0];
}
static inline float v_hmax(vf a) {
    for (int w = 8; w > 0; w /= 2)
        for (int i = 0; i < w; i++) a.f[i] = a.f[i] > a.f[i + w] ? a.f[i] : a.f[i + w];
    return a.f[0];
}
static inline float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3FF, u;
    float f;
    if (e == 31) {
        u = sign | 0x7F800000 | m << 13;
    } else if (e) {
        u = sign | (e + 112) << 23 | m << 13;
    } else { /* zero and denormals: m 2^-24 is exact */
        f = (float)m * 0x1p-24f;
        return sign ? -f : f;
    }
    memcpy(&f, &u, 4);
    return f;
}
static inline uint16_t float_to_half(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t sign = u >> 16 & 0x8000, a = u & 0x7FFFFFFF;
    if (a > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (a >> 13 & 0x1FF));
    if (a >= 0x477FF000) return (uint16_t)(sign | 0x7C00);
    if (a < 0x38800000) { /* a half denormal: let the float adder round at 2^-24 */
        float m;
        memcpy(&m, &a, 4);
        m += 0.5f;
        memcpy(&a, &m, 4);
        return (uint16_t)(sign | (a - 0x3F000000));
    }
    a += 0xFFF + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}
static inline vf v_load_half(const uint16_t *p) {
    vf r;
    uint16_t h[16];
    memcpy(h, p, sizeof h);
    RM_LANES r.f[i] = half_to_float(h[i]);
    return r;
}
static inline vf v_load_half_n(const uint16_t *p, size_t n) {
    vf r = {{0}};
    uint16_t h[16] = {0};
    memcpy(h, p, n * sizeof *h);
    for (size_t i = 0; i < n; i++) r.f[i] = half_to_float(h[i]);
    return r;
}
static inline void v_store_half(uint16_t *p, vf x) { RM_LANES p[i] = float_to_half(x.f[i]); }
static inline void v_store_half_n(uint16_t *p, vf x, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = float_to_half(x.f[i]);
}
static inline vf v_load_bf16_n(const uint16_t *p, size_t n) {
    vf r = {{0}};
    uint16_t h[16] = {0};
    memcpy(h, p, n * sizeof *h);
    for (size_t i = 0; i < n; i++) {
        uint32_t u = (uint32_t)h[i] << 16;
        memcpy(&r.f[i], &u, 4);
    }
    return r;
}
static inline vf v_load_bf16(const uint16_t *p) { return v_load_bf16_n(p, 16); }
static inline void v_store_bf16_n(uint16_t *p, vf x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x.f[i], 4);
        p[i] = (uint16_t)((u & 0x7FFFFFFF) > 0x7F800000 ? u >> 16 | 0x40 : (u + 0x7FFF + (u >> 16 & 1)) >> 16); /* what is no number stays so */
    }
}
static inline void v_store_bf16(uint16_t *p, vf x) { v_store_bf16_n(p, x, 16); }
#undef RM_LANES

#endif
