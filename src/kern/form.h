/* How quantised weights lie in memory for multiplication.
 *
 * Outputs are taken in groups of RM_GROUP, inputs in blocks of 32. A group is stored whole, block after block:
 *   low quants    4 bits: 4 x 2 vectors of 64 bytes: byte 4 o + i of vector [t][c] holds for output 16 c + o the inputs 4 t + i (low
 *                 nibble) and 16 + 4 t + i (high nibble); 8 bits: 8 x 2 vectors, byte 4 o + i of [s][c]: input 4 s + i
 *   high quants   1 bit: 2 vectors [c]: bit s of byte 4 o + i belongs to input 4 s + i;
 *                 2 bits: 2 x 2 vectors [h][c]: bits 2 s, 2 s + 1 of byte 4 o + i belong to input 16 h + 4 s + i
 *   scales        f16[32] (+ minima f16[32]); "super" forms: one byte per scale and output: 32 (sub 32) or 2 x 32 (sub 16), then the
 *                 same for the minima; the f16 factors d[32] (and dmin[32]) stand before every 8 blocks
 * This order is what one dot-product instruction of 16 lanes x 4 bytes wants; values are kept without loss, so that a row can be
 * read back as it was. All parts are multiples of 64 bytes (scales are filled up). */
#ifndef RM_KERN_FORM_H
#define RM_KERN_FORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RM_GROUP = 32, RM_QBLOCK = 32, RM_QROWS = 6 /* rows of activations in a tile */ };

typedef enum {
    RM_FORM_Q4_0,
    RM_FORM_Q4_1,
    RM_FORM_Q5_0,
    RM_FORM_Q5_1,
    RM_FORM_Q8_0,
    RM_FORM_IQ4_NL,
    RM_FORM_Q2_K, /* stored with 4 bits */
    RM_FORM_Q3_K, /* stored with 4 bits */
    RM_FORM_Q4_K,
    RM_FORM_Q5_K,
    RM_FORM_Q6_K,
    RM_FORM_IQ4_XS,
    RM_FORM_COUNT,
    RM_FORM_TURNED_7 = RM_FORM_COUNT /* what q_turn makes where sums of 8-bit factors are slow; never packed, so no switch over packed forms has it */
} rm_form;

typedef struct {
    uint8_t bits; /* in the low part: 4 or 8; 7: as 8 */
    uint8_t high; /* in the high part: 0, 1 or 2 */
    uint8_t shift; /* value = quant - 2^shift; 0: value = quant */
    uint8_t sub; /* inputs per scale: 32 or 16 */
    bool min, super, table; /* table: quants are indices of rm_iq4nl (+ 128) */
} rm_form_info;

extern const rm_form_info rm_forms[RM_FORM_COUNT + 1];
extern const uint8_t rm_iq4nl[16]; /* + 128 */

static inline int rm_form_width(const rm_form_info *f) { return f->table ? 8 : f->bits + f->high; } /* bits of an expanded quant */
static inline size_t rm_form_quant_bytes(const rm_form_info *f) { return (size_t)(f->bits + f->high) * RM_GROUP * RM_QBLOCK / 8; }
/* Scales of a block, filled up to 64 bytes; f16, or bytes (super). */
static inline int rm_scale_bytes(int n_sub, bool min, bool super) {
    int n = RM_GROUP * (super ? n_sub : 2) * (min ? 2 : 1);
    return n < 64 ? 64 : n;
}
static inline size_t rm_form_scale_bytes(const rm_form_info *f) { return (size_t)rm_scale_bytes(32 / f->sub, f->min, f->super); }
static inline size_t rm_form_head_bytes(const rm_form_info *f) { return f->super ? (size_t)RM_GROUP * 2 * (f->min ? 2 : 1) : 0; }
static inline size_t rm_form_block_bytes(const rm_form_info *f) { return rm_form_quant_bytes(f) + rm_form_scale_bytes(f); }
/* Offsets in a group: of the factors before block b's super-block; of block b; the size of a group of n_block blocks. */
static inline size_t rm_form_head_at(const rm_form_info *f, size_t b) { return b / 8 * (rm_form_head_bytes(f) + 8 * rm_form_block_bytes(f)); }
static inline size_t rm_form_block_at(const rm_form_info *f, size_t b) {
    return rm_form_head_at(f, b) + rm_form_head_bytes(f) + b % 8 * rm_form_block_bytes(f);
}
static inline size_t rm_form_group_bytes(const rm_form_info *f, size_t n_block) {
    return n_block * rm_form_block_bytes(f) + (n_block + 7) / 8 * rm_form_head_bytes(f);
}

/* What q_expand makes of a block of a group: quants as unsigned bytes [8][2][64] as above, float scales [32 / sub][32], then minima alike. */
enum { RM_EXPANDED_QUANTS = RM_GROUP * RM_QBLOCK };
static inline size_t rm_form_expanded_scales(const rm_form_info *f) { /* floats */
    return (size_t)RM_GROUP * (32u / f->sub) * (f->min ? 2 : 1);
}

/* A tile of up to RM_QROWS rows of activations in 8 bits, block after block: int8 q[rows][32]; then for each row: float d; float d * sum q;
 * int32 -sum q; -sum of the first 16; -sum of the last 16 (each [rows]). The table avx2 has two int16 instead of each int32: for the inputs 4 i and 4 i + 1,
 * and for 4 i + 2 and 4 i + 3. */
enum { RM_QX_META = 5, RM_QX_ROW = RM_QBLOCK + RM_QX_META * 4 };

#endif
