/* The table of stored types, conversions of single values, and dequantisation of every type.
 * The block formulas are evaluated in float32 in one order: first d * scale, then times the integer, then minus the
 * minimum; that is the order of the format's reference, so values agree bit for bit. Quantisation is in quant.c. */
#include "tensor/dtype.h"

#include <assert.h>
#include <string.h>

#include "tensor/tensor.h"

static const rm_dtype_info infos[RM_DTYPE_COUNT] = {
    [RM_F32] = {"F32", 1, 4},       [RM_F16] = {"F16", 1, 2},           [RM_BF16] = {"BF16", 1, 2},     [RM_F64] = {"F64", 1, 8},
    [RM_I8] = {"I8", 1, 1},         [RM_I16] = {"I16", 1, 2},           [RM_I32] = {"I32", 1, 4},       [RM_I64] = {"I64", 1, 8},
    [RM_U8] = {"U8", 1, 1},         [RM_BOOL] = {"BOOL", 1, 1},         [RM_Q4_0] = {"Q4_0", 32, 18},   [RM_Q4_1] = {"Q4_1", 32, 20},
    [RM_Q5_0] = {"Q5_0", 32, 22},   [RM_Q5_1] = {"Q5_1", 32, 24},       [RM_Q8_0] = {"Q8_0", 32, 34},   [RM_IQ4_NL] = {"IQ4_NL", 32, 18},
    [RM_Q2_K] = {"Q2_K", 256, 84},  [RM_Q3_K] = {"Q3_K", 256, 110},     [RM_Q4_K] = {"Q4_K", 256, 144}, [RM_Q5_K] = {"Q5_K", 256, 176},
    [RM_Q6_K] = {"Q6_K", 256, 210}, [RM_IQ4_XS] = {"IQ4_XS", 256, 136},
};

const rm_dtype_info *rm_dtype_get(rm_dtype t) {
    assert((unsigned)t < RM_DTYPE_COUNT);
    return &infos[t];
}

size_t rm_dtype_row_bytes(rm_dtype t, size_t n) {
    const rm_dtype_info *i = rm_dtype_get(t);
    assert(n % (size_t)i->block_elems == 0);
    return n / (size_t)i->block_elems * (size_t)i->block_bytes;
}

int64_t rm_tensor_count(const rm_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->n_dim; i++) n *= t->dim[i];
    return n;
}

bool rm_tensor_same(const rm_tensor *a, const rm_tensor *b) {
    return a->dtype == b->dtype && a->n_dim == b->n_dim && !memcmp(a->dim, b->dim, (size_t)a->n_dim * sizeof *a->dim) && a->n_bytes == b->n_bytes &&
           !memcmp(a->data, b->data, a->n_bytes);
}

/* ---- single values -------------------------------------------------------------------------------------------------- */

static uint32_t float_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static float bits_float(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

float rm_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00) return bits_float(sign | 0x7f800000 | (rest & 0x3ff) << 13 | (rest > 0x7c00 ? 0x400000 : 0)); /* infinity, NaN made quiet */
    if (rest >= 0x400) return bits_float(sign | ((rest << 13) + (112u << 23)));
    float f = (float)rest * 0x1p-24f; /* zero and subnormal: exact */
    return sign ? -f : f;
}

uint16_t rm_f32_to_f16(float f) {
    uint32_t u = float_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and above round to infinity */
    if (a >= 0x38800000) {
        a += 0xfff + (a >> 13 & 1);
        return (uint16_t)(sign | (a - 0x38000000) >> 13);
    }
    /* Subnormal: in 0.5 + |f| the lowest bit of the sum is 2^-24, so the addition itself rounds to nearest even. */
    return (uint16_t)(sign | (float_bits(bits_float(a) + 0.5f) - 0x3f000000));
}

uint16_t rm_f32_to_bf16(float f) {
    uint32_t u = float_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- plain types ---------------------------------------------------------------------------------------------------- */

#define CONVERT(type, expr)                                                                                                                          \
    for (size_t i = 0; i < n; i++) {                                                                                                                 \
        type v;                                                                                                                                      \
        memcpy(&v, p + i * sizeof v, sizeof v);                                                                                                      \
        y[i] = (expr);                                                                                                                               \
    }                                                                                                                                                \
    return

static void dequant_plain(rm_dtype t, const uint8_t *p, float *y, size_t n) {
    switch (t) {
    case RM_F32: memcpy(y, p, n * 4); return;
    case RM_F16: CONVERT(uint16_t, rm_f16_to_f32(v));
    case RM_BF16: CONVERT(uint16_t, rm_bf16_to_f32(v));
    case RM_F64: CONVERT(double, (float)v);
    case RM_I8: CONVERT(int8_t, (float)v);
    case RM_I16: CONVERT(int16_t, (float)v);
    case RM_I32: CONVERT(int32_t, (float)v);
    case RM_I64: CONVERT(int64_t, (float)v);
    case RM_U8: CONVERT(uint8_t, (float)v);
    case RM_BOOL: CONVERT(uint8_t, v ? 1.0f : 0.0f);
    default: assert(0);
    }
}

/* ---- blocks of 32 --------------------------------------------------------------------------------------------------- */

static float half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return rm_f16_to_f32(h);
}

static void block_q4_0(const uint8_t *b, float *y) {
    float d = half_at(b);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)((b[2 + j] & 15) - 8) * d;
        y[j + 16] = (float)((b[2 + j] >> 4) - 8) * d;
    }
}

static void block_q4_1(const uint8_t *b, float *y) {
    float d = half_at(b), m = half_at(b + 2);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)(b[4 + j] & 15) * d + m;
        y[j + 16] = (float)(b[4 + j] >> 4) * d + m;
    }
}

static void block_q5_0(const uint8_t *b, float *y) {
    float d = half_at(b);
    uint32_t high;
    memcpy(&high, b + 2, 4);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)((int)((b[6 + j] & 15) | (high >> j & 1) << 4) - 16) * d;
        y[j + 16] = (float)((int)((b[6 + j] >> 4) | (high >> (j + 16) & 1) << 4) - 16) * d;
    }
}

static void block_q5_1(const uint8_t *b, float *y) {
    float d = half_at(b), m = half_at(b + 2);
    uint32_t high;
    memcpy(&high, b + 4, 4);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)((b[8 + j] & 15) | (high >> j & 1) << 4) * d + m;
        y[j + 16] = (float)((b[8 + j] >> 4) | (high >> (j + 16) & 1) << 4) * d + m;
    }
}

static void block_q8_0(const uint8_t *b, float *y) {
    float d = half_at(b);
    for (int j = 0; j < 32; j++) y[j] = (float)(int8_t)b[2 + j] * d;
}

static void table_block(const uint8_t *q, float scale, float *y) {
    static const int8_t table[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    for (int j = 0; j < 16; j++) {
        y[j] = scale * (float)table[q[j] & 15];
        y[j + 16] = scale * (float)table[q[j] >> 4];
    }
}
static void block_iq4_nl(const uint8_t *b, float *y) { table_block(b + 2, half_at(b), y); }

/* ---- super-blocks of 256 -------------------------------------------------------------------------------------------- */

static void block_q2_k(const uint8_t *b, float *y) {
    const uint8_t *scales = b, *qs = b + 16;
    float d = half_at(b + 80), dmin = half_at(b + 82);
    for (int k = 0; k < 16; k++, y += 16) { /* k = 8n + 2t + h */
        int n = k >> 3, t = k >> 1 & 3, h = k & 1;
        float scale = d * (float)(scales[k] & 15), min = dmin * (float)(scales[k] >> 4);
        for (int l = 0; l < 16; l++) y[l] = scale * (float)(qs[32 * n + 16 * h + l] >> 2 * t & 3) - min;
    }
}

static void block_q3_k(const uint8_t *b, float *y) {
    const uint8_t *hmask = b, *qs = b + 32, *scales = b + 96;
    float d = half_at(b + 108);
    for (int k = 0; k < 16; k++, y += 16) {
        int n = k >> 3, t = k >> 1 & 3, h = k & 1;
        int low = k < 8 ? scales[k] & 15 : scales[k - 8] >> 4, top = scales[8 + (k & 3)] >> 2 * (k >> 2) & 3;
        float scale = d * (float)((low | top << 4) - 32);
        for (int l = 0; l < 16; l++) {
            int q = (qs[32 * n + 16 * h + l] >> 2 * t & 3) - (hmask[16 * h + l] >> (4 * n + t) & 1 ? 0 : 4);
            y[l] = scale * (float)q;
        }
    }
}

/* The 6-bit scale and minimum number k (0..7) of Q4_K and Q5_K. */
static void scale_min(const uint8_t *x, int k, int *scale, int *min) {
    if (k < 4) {
        *scale = x[k] & 63;
        *min = x[k + 4] & 63;
    } else {
        *scale = (x[k + 4] & 15) | (x[k - 4] >> 6) << 4;
        *min = (x[k + 4] >> 4) | (x[k] >> 6) << 4;
    }
}

static void block_q4_k(const uint8_t *b, float *y) {
    const uint8_t *qs = b + 16;
    float d = half_at(b), dmin = half_at(b + 2);
    for (int k = 0; k < 8; k++, y += 32) {
        int sc, mn, shift = 4 * (k & 1);
        scale_min(b + 4, k, &sc, &mn);
        float scale = d * (float)sc, min = dmin * (float)mn;
        for (int l = 0; l < 32; l++) y[l] = scale * (float)(qs[32 * (k >> 1) + l] >> shift & 15) - min;
    }
}

static void block_q5_k(const uint8_t *b, float *y) {
    const uint8_t *qh = b + 16, *qs = b + 48;
    float d = half_at(b), dmin = half_at(b + 2);
    for (int k = 0; k < 8; k++, y += 32) {
        int sc, mn, shift = 4 * (k & 1);
        scale_min(b + 4, k, &sc, &mn);
        float scale = d * (float)sc, min = dmin * (float)mn;
        for (int l = 0; l < 32; l++) y[l] = scale * (float)((qs[32 * (k >> 1) + l] >> shift & 15) + (qh[l] >> k & 1) * 16) - min;
    }
}

static void block_q6_k(const uint8_t *b, float *y) {
    const uint8_t *ql = b, *qh = b + 128;
    const int8_t *scales = (const int8_t *)(b + 192);
    float d = half_at(b + 208);
    for (int k = 0; k < 16; k++, y += 16) {
        int n = k >> 3, t = k >> 1 & 3, h = k & 1;
        float scale = d * (float)scales[k];
        for (int l = 16 * h; l < 16 * h + 16; l++) {
            int nib = ql[64 * n + 32 * (t & 1) + l] >> (t < 2 ? 0 : 4) & 15;
            y[l - 16 * h] = scale * (float)((nib | (qh[32 * n + l] >> 2 * t & 3) << 4) - 32);
        }
    }
}

/* Quants of IQ4_NL; the 6-bit scales have their low four bits in bytes 4 .. 7, the high two in 2 and 3. */
static void block_iq4_xs(const uint8_t *b, float *y) {
    float d = half_at(b);
    for (int k = 0; k < 8; k++) {
        int scale = (b[4 + k / 2] >> 4 * (k & 1) & 15) | (b[2 + k / 4] >> 2 * (k & 3) & 3) << 4;
        table_block(b + 8 + 16 * k, d * (float)(scale - 32), y + 32 * k);
    }
}

void rm_dequant(rm_dtype t, const void *src, float *dst, size_t n) {
    static void (*const block[RM_DTYPE_COUNT])(const uint8_t *, float *) = {
        [RM_Q4_0] = block_q4_0, [RM_Q4_1] = block_q4_1,     [RM_Q5_0] = block_q5_0, [RM_Q5_1] = block_q5_1,
        [RM_Q8_0] = block_q8_0, [RM_IQ4_NL] = block_iq4_nl, [RM_Q2_K] = block_q2_k, [RM_Q3_K] = block_q3_k,
        [RM_Q4_K] = block_q4_k, [RM_Q5_K] = block_q5_k,     [RM_Q6_K] = block_q6_k, [RM_IQ4_XS] = block_iq4_xs,
    };
    const rm_dtype_info *info = rm_dtype_get(t);
    const uint8_t *p = src;
    if (!block[t]) {
        if (n) dequant_plain(t, p, dst, n);
        return;
    }
    size_t step = (size_t)info->block_elems;
    assert(n % step == 0);
    for (size_t i = 0; i < n; i += step, p += info->block_bytes) block[t](p, dst + i);
}
