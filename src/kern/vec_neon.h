/* 16 float lanes in four NEON registers (aarch64); see vec_portable.h for what each function means. */
#ifndef RM_KERN_VEC_NEON_H
#define RM_KERN_VEC_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef float32x4x4_t vf;
typedef uint32x4x4_t vm;

#define RM_FOUR for (int i = 0; i < 4; i++)

static inline vf v_load(const float *p) {
    vf r;
    RM_FOUR r.val[i] = vld1q_f32(p + 4 * i);
    return r;
}
static inline vf v_load_n(const float *p, size_t n) {
    float t[16] = {0};
    memcpy(t, p, n * sizeof *t);
    return v_load(t);
}
static inline void v_store(float *p, vf x) { RM_FOUR vst1q_f32(p + 4 * i, x.val[i]); }
static inline void v_store_n(float *p, vf x, size_t n) {
    float t[16];
    v_store(t, x);
    memcpy(p, t, n * sizeof *t);
}
static inline vf v_set(float a) {
    vf r;
    RM_FOUR r.val[i] = vdupq_n_f32(a);
    return r;
}
#define RM_VEC_OP(name, expr)                                                                                                                        \
    static inline vf name(vf a, vf b) {                                                                                                              \
        vf r;                                                                                                                                        \
        RM_FOUR r.val[i] = expr;                                                                                                                     \
        return r;                                                                                                                                    \
    }
RM_VEC_OP(v_add, vaddq_f32(a.val[i], b.val[i]))
RM_VEC_OP(v_sub, vsubq_f32(a.val[i], b.val[i]))
RM_VEC_OP(v_mul, vmulq_f32(a.val[i], b.val[i]))
RM_VEC_OP(v_div, vdivq_f32(a.val[i], b.val[i]))
RM_VEC_OP(v_max, vbslq_f32(vcgtq_f32(a.val[i], b.val[i]), a.val[i], b.val[i])) /* b if either is NaN */
RM_VEC_OP(v_min, vbslq_f32(vcltq_f32(a.val[i], b.val[i]), a.val[i], b.val[i]))
RM_VEC_OP(v_copysign, vbslq_f32(vdupq_n_u32(0x7FFFFFFF), a.val[i], b.val[i]))
#undef RM_VEC_OP
static inline vf v_fma(vf a, vf b, vf c) {
    vf r;
    RM_FOUR r.val[i] = vfmaq_f32(c.val[i], a.val[i], b.val[i]);
    return r;
}
static inline vf v_round(vf a) {
    vf r;
    RM_FOUR r.val[i] = vrndnq_f32(a.val[i]);
    return r;
}
static inline vf v_pow2(vf a) {
    vf r;
    RM_FOUR r.val[i] = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(a.val[i]), vdupq_n_s32(127)), 23));
    return r;
}
static inline vf v_abs(vf a) {
    vf r;
    RM_FOUR r.val[i] = vabsq_f32(a.val[i]);
    return r;
}
static inline vm v_lt(vf a, vf b) {
    vm r;
    RM_FOUR r.val[i] = vcltq_f32(a.val[i], b.val[i]);
    return r;
}
static inline vm v_lanes(int from, int to) {
    static const int32_t index[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vm r;
    RM_FOUR {
        int32x4_t x = vld1q_s32(index + 4 * i);
        r.val[i] = vandq_u32(vcgeq_s32(x, vdupq_n_s32(from)), vcltq_s32(x, vdupq_n_s32(to)));
    }
    return r;
}
static inline vf v_sel(vm m, vf a, vf b) {
    vf r;
    RM_FOUR r.val[i] = vbslq_f32(m.val[i], a.val[i], b.val[i]);
    return r;
}
static inline float v_sum(vf a) {
    float32x4_t c = vaddq_f32(vaddq_f32(a.val[0], a.val[2]), vaddq_f32(a.val[1], a.val[3]));
    float32x2_t d = vadd_f32(vget_low_f32(c), vget_high_f32(c));
    return vget_lane_f32(d, 0) + vget_lane_f32(d, 1);
}
static inline float v_hmax(vf a) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.val[0], a.val[2]), vmaxq_f32(a.val[1], a.val[3]))); }
static inline vf v_load_half(const uint16_t *p) {
    vf r;
    RM_FOUR r.val[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)));
    return r;
}
static inline vf v_load_half_n(const uint16_t *p, size_t n) {
    uint16_t t[16] = {0};
    memcpy(t, p, n * sizeof *t);
    return v_load_half(t);
}
static inline void v_store_half(uint16_t *p, vf x) { RM_FOUR vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.val[i]))); }
static inline void v_store_half_n(uint16_t *p, vf x, size_t n) {
    uint16_t t[16];
    v_store_half(t, x);
    memcpy(p, t, n * sizeof *t);
}
static inline vf v_load_bf16(const uint16_t *p) {
    vf r;
    RM_FOUR r.val[i] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16));
    return r;
}
static inline vf v_load_bf16_n(const uint16_t *p, size_t n) {
    uint16_t t[16] = {0};
    memcpy(t, p, n * sizeof *t);
    return v_load_bf16(t);
}
/* Rounded to the nearest even; what is no number stays so. */
static inline uint16x4_t v_bf16_bits(float32x4_t x) {
    const uint32x4_t u = vreinterpretq_u32_f32(x), odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    const uint32x4_t round = vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7FFF)));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), round, vorrq_u32(u, vdupq_n_u32(0x400000))), 16);
}
static inline void v_store_bf16(uint16_t *p, vf x) { RM_FOUR vst1_u16(p + 4 * i, v_bf16_bits(x.val[i])); }
static inline void v_store_bf16_n(uint16_t *p, vf x, size_t n) {
    uint16_t t[16];
    v_store_bf16(t, x);
    memcpy(p, t, n * sizeof *t);
}
#undef RM_FOUR

#endif
