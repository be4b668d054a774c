/* Element and block types of stored tensors (GGUF's block layouts). */
#ifndef RM_TENSOR_DTYPE_H
#define RM_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    RM_F32,
    RM_F16,
    RM_BF16,
    RM_F64,
    RM_I8,
    RM_I16,
    RM_I32,
    RM_I64,
    RM_U8,
    RM_BOOL,
    RM_Q4_0,
    RM_Q4_1,
    RM_Q5_0,
    RM_Q5_1,
    RM_Q8_0,
    RM_IQ4_NL,
    RM_Q2_K,
    RM_Q3_K,
    RM_Q4_K,
    RM_Q5_K,
    RM_Q6_K,
    RM_IQ4_XS,
    RM_DTYPE_COUNT
} rm_dtype;

typedef struct {
    const char *name; /* "F32", "Q4_K" ... */
    int block_elems; /* 1 for plain types */
    int block_bytes;
} rm_dtype_info;

const rm_dtype_info *rm_dtype_get(rm_dtype t);
/* Bytes of a row of n elements; n must be a multiple of block_elems. */
size_t rm_dtype_row_bytes(rm_dtype t, size_t n);

float rm_f16_to_f32(uint16_t h);
uint16_t rm_f32_to_f16(float f); /* round to nearest even */
static inline float rm_bf16_to_f32(uint16_t b) {
    union {
        uint32_t u;
        float f;
    } v = {(uint32_t)b << 16};
    return v.f;
}
uint16_t rm_f32_to_bf16(float f); /* round to nearest even, NaN kept quiet */

/* n elements (a multiple of block_elems) to float32. src need not be aligned. Integer types convert by value. */
void rm_dequant(rm_dtype t, const void *src, float *dst, size_t n);
/* float32 to F16, BF16, Q8_0, Q4_0, Q4_K ...; false if t cannot be written. */
bool rm_quant(rm_dtype t, const float *src, void *dst, size_t n);

#endif
