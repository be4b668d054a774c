/* float32 to the types that are written: plain halves and quantised blocks. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "tensor/dtype.h"

static void quant_half(const float *src, uint8_t *dst, size_t n, uint16_t (*convert)(float)) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h = convert(src[i]);
        memcpy(dst + 2 * i, &h, 2);
    }
}

/* d is the largest magnitude / 127; every value is rounded to the nearest multiple of it. */
static void block_q8_0(const float *x, uint8_t *b) {
    float max = 0;
    for (int j = 0; j < 32; j++) max = fmaxf(max, fabsf(x[j]));
    float d = max / 127, inverse = d > 0 ? 1 / d : 0;
    uint16_t h = rm_f32_to_f16(d);
    memcpy(b, &h, 2);
    for (int j = 0; j < 32; j++) b[2 + j] = (uint8_t)(int8_t)roundf(x[j] * inverse);
}

bool rm_quant(rm_dtype t, const float *src, void *dst, size_t n) {
    const rm_dtype_info *info = rm_dtype_get(t);
    size_t step = (size_t)info->block_elems;
    uint8_t *p = dst;
    assert(n % step == 0);
    switch (t) {
    case RM_F32: memcpy(dst, src, n * 4); return true;
    case RM_F16: quant_half(src, p, n, rm_f32_to_f16); return true;
    case RM_BF16: quant_half(src, p, n, rm_f32_to_bf16); return true;
    case RM_Q8_0:
        for (size_t i = 0; i < n; i += step, p += info->block_bytes) block_q8_0(src + i, p);
        return true;
    default: return false;
    }
}
