/* Quantised products with NEON: what quant_vec.h wants, on vectors of 4 outputs. With dot products of 8 bits where the table is compiled for them, else a
 * sum of 16 bits for every two products. */

#define Q_LANES 4
#define Q_TOGETHER 4
#define Q_SIGNED
typedef uint8x16_t qi;
typedef int32x4_t qs;
typedef float32x4_t qf;

RM_INLINE qi qi_load(const void *p) { return vld1q_u8(p); }
RM_INLINE void qi_store(void *p, qi v) { vst1q_u8(p, v); }
RM_INLINE qi qi_low(qi v) { return vandq_u8(v, vdupq_n_u8(15)); }
RM_INLINE qi qi_high(qi v) { return vshrq_n_u8(v, 4); }
RM_INLINE qi qi_lookup(qi v) { return vqtbl1q_u8(vld1q_u8(rm_iq4nl), v); }
RM_INLINE qi qi_insert(qi v, qi h, int left, int mask) {
    return vorrq_u8(v, vandq_u8(vshlq_u8(h, vdupq_n_s8((int8_t)left)), vdupq_n_u8((uint8_t)mask)));
}
RM_INLINE qi qi_signed(qi v) { return veorq_u8(v, vdupq_n_u8(0x80)); }
RM_INLINE qi qi_spread(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return vreinterpretq_u8_s32(vdupq_n_s32(v));
}
RM_INLINE qs qs_zero(void) { return vdupq_n_s32(0); }
RM_INLINE qs qs_start(const void *p, int shift) { return vshlq_s32(vreinterpretq_s32_u8(qi_spread(p)), vdupq_n_s32(shift)); }
RM_INLINE qs qs_dot(qs s, qi w, qi x) {
    int8x16_t a = vreinterpretq_s8_u8(w), b = vreinterpretq_s8_u8(x);
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(s, a, b);
#else
    int16x8_t lo = vmull_s8(vget_low_s8(a), vget_low_s8(b)), hi = vmull_high_s8(a, b);
    return vpadalq_s16(s, vpaddq_s16(lo, hi)); /* two products are at most 2 x 128 x 127 */
#endif
}
RM_INLINE qf qf_load(const float *p) { return vld1q_f32(p); }
RM_INLINE void qf_store(float *p, qf v) { vst1q_f32(p, v); }
RM_INLINE qf qf_zero(void) { return vdupq_n_f32(0.0f); }
RM_INLINE qf qf_set(float a) { return vdupq_n_f32(a); }
RM_INLINE qf qf_spread(const void *p) { return vreinterpretq_f32_u8(qi_spread(p)); }
RM_INLINE qf qf_half(const void *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
RM_INLINE qf qf_int8(const void *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(v)))));
}
RM_INLINE qf qf_of(qs s) { return vcvtq_f32_s32(s); }
RM_INLINE qf qf_add(qf a, qf b) { return vaddq_f32(a, b); }
RM_INLINE qf qf_mul(qf a, qf b) { return vmulq_f32(a, b); }
RM_INLINE qf qf_fma(qf a, qf b, qf c) { return vfmaq_f32(c, a, b); }
RM_INLINE qf qf_fnma(qf a, qf b, qf c) { return vfmsq_f32(c, a, b); }

#include "kern/quant_vec.h"
