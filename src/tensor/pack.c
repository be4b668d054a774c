#include "tensor/pack.h"

#include <string.h>

bool rm_pack_form(rm_dtype t, rm_form *form) {
    switch (t) {
    case RM_Q4_0: *form = RM_FORM_Q4_0; return true;
    case RM_Q4_1: *form = RM_FORM_Q4_1; return true;
    case RM_Q5_0: *form = RM_FORM_Q5_0; return true;
    case RM_Q5_1: *form = RM_FORM_Q5_1; return true;
    case RM_Q8_0: *form = RM_FORM_Q8_0; return true;
    case RM_IQ4_NL: *form = RM_FORM_IQ4_NL; return true;
    case RM_Q2_K: *form = RM_FORM_Q2_K; return true;
    case RM_Q3_K: *form = RM_FORM_Q3_K; return true;
    case RM_Q4_K: *form = RM_FORM_Q4_K; return true;
    case RM_Q5_K: *form = RM_FORM_Q5_K; return true;
    case RM_Q6_K: *form = RM_FORM_Q6_K; return true;
    case RM_IQ4_XS: *form = RM_FORM_IQ4_XS; return true;
    default: return false;
    }
}

static inline uint32_t u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t u64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
/* Words 2 t and 2 t + 1 of an output. */
static inline void put_pair(uint32_t *low, int t, int o, uint64_t v) {
    low[2 * t * RM_GROUP + o] = (uint32_t)v;
    low[(2 * t + 1) * RM_GROUP + o] = (uint32_t)(v >> 32);
}
static inline uint16_t u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

/* Where the parts of one block of a group go. `low` takes the word of inputs 4 t .. 4 t + 3 of output o at [t * 32 + o]. */
typedef struct {
    uint32_t *low, *high;
    uint8_t *scale;
    uint16_t *head;
} place;

static place block_place(const rm_form_info *f, uint8_t *group, int b) {
    uint8_t *p = group + rm_form_block_at(f, (size_t)b);
    return (place){(uint32_t *)(void *)p, (uint32_t *)(void *)(p + (size_t)f->bits * 128), p + rm_form_quant_bytes(f),
                   (uint16_t *)(void *)(group + rm_form_head_at(f, (size_t)b))};
}

/* Bit 4 s + i of every word to bit s of byte i. */
static void spread_high(uint32_t *h) {
    for (int o = 0; o < RM_GROUP; o++) {
        uint32_t x = h[o], r = 0;
        for (int i = 0; i < 4; i++) {
            uint32_t t = x >> i & 0x11111111;
            t = (t | t >> 3) & 0x03030303;
            t = (t | t >> 6) & 0x000F000F;
            t = (t | t >> 12) & 0xFF;
            r |= t << 8 * i;
        }
        h[o] = r;
    }
}

/* The types of 32 elements: d, (m,) (high bits,) quants. */
static void pack_plain(const rm_form_info *f, uint8_t *group, const uint8_t *rows, size_t row_bytes, int n_valid, int n_block) {
    size_t head = f->min ? 4 : 2, high = f->high ? 4 : 0, bytes = head + high + (size_t)f->bits * 4;
    for (int b = 0; b < n_block; b++) {
        place d = block_place(f, group, b);
        uint16_t *scale = (uint16_t *)(void *)d.scale;
        for (int o = 0; o < n_valid; o++) {
            const uint8_t *p = rows + (size_t)o * row_bytes + (size_t)b * bytes, *q = p + head + high;
            scale[o] = u16(p);
            if (f->min) scale[RM_GROUP + o] = u16(p + 2);
            if (f->high) d.high[o] = u32(p + head);
            if (f->bits == 4) {
                for (int t = 0; t < 4; t++) d.low[t * RM_GROUP + o] = u32(q + 4 * t);
            } else {
                for (int t = 0; t < 8; t++) d.low[t * RM_GROUP + o] = u32(q + 4 * t) ^ 0x80808080;
            }
        }
        if (f->high) spread_high(d.high);
    }
}

/* scale k (0..7) and minimum of Q4_K, Q5_K */
static inline void scale_k4(const uint8_t *x, int k, uint8_t *sc, uint8_t *mn) {
    *sc = k < 4 ? x[k] & 63 : (x[k + 4] & 15) | (x[k - 4] >> 6) << 4;
    *mn = k < 4 ? x[k + 4] & 63 : x[k + 4] >> 4 | (x[k] >> 6) << 4;
}

static void pack_q45k(const rm_form_info *f, const place block[8], const uint8_t *p, int o) {
    const uint64_t lo = 0x0F0F0F0F0F0F0F0F;
    const uint8_t *qs = p + (f->high ? 48 : 16), *qh = p + 16;
    for (int h = 0; h < 8; h++) {
        const place d = block[h];
        d.head[o] = u16(p);
        d.head[RM_GROUP + o] = u16(p + 2);
        scale_k4(p + 4, h, &d.scale[o], &d.scale[RM_GROUP + o]);
        for (int t = 0; t < 2; t++) {
            uint64_t x = u64(qs + 32 * (h / 2) + 8 * t), y = u64(qs + 32 * (h / 2) + 16 + 8 * t);
            put_pair(d.low, t, o, h & 1 ? (x >> 4 & lo) | (y & ~lo) : (x & lo) | (y & lo) << 4);
        }
        if (f->high) {
            uint32_t r = 0;
            for (int s = 0; s < 8; s++) r |= (u32(qh + 4 * s) >> h & 0x01010101) << s;
            d.high[o] = r;
        }
    }
}

static void pack_q6k(const place block[8], const uint8_t *p, int o) {
    const uint64_t lo = 0x0F0F0F0F0F0F0F0F, two = 0x0303030303030303;
    for (int h = 0; h < 8; h++) {
        const place d = block[h];
        int n = h / 4, t = h % 4;
        const uint8_t *ql = p + 64 * n + 32 * (t & 1), *qh = p + 128 + 32 * n;
        d.head[o] = u16(p + 208);
        d.scale[o] = p[192 + 2 * h];
        d.scale[RM_GROUP + o] = p[193 + 2 * h];
        for (int j = 0; j < 2; j++) {
            uint64_t x = u64(ql + 8 * j) >> (t < 2 ? 0 : 4) & lo, y = u64(ql + 16 + 8 * j) >> (t < 2 ? 0 : 4) & lo;
            put_pair(d.low, j, o, x | y << 4);
        }
        for (int k = 0; k < 2; k++) {
            uint64_t r = (u64(qh + 16 * k) >> 2 * t & two) | (u64(qh + 16 * k + 8) >> 2 * t & two) << 4; /* steps 0 and 2 below, 1 and 3 above */
            d.high[k * RM_GROUP + o] = (uint32_t)(r | r >> 30);
        }
    }
}

static void pack_iq4xs(const place block[8], const uint8_t *p, int o) {
    for (int h = 0; h < 8; h++) {
        const place d = block[h];
        int scale = (p[4 + h / 2] >> 4 * (h & 1) & 15) | (p[2 + h / 4] >> 2 * (h & 3) & 3) << 4;
        d.head[o] = u16(p);
        d.scale[o] = (uint8_t)(scale - 32);
        for (int t = 0; t < 4; t++) d.low[t * RM_GROUP + o] = u32(p + 8 + 16 * h + 4 * t);
    }
}

/* Q2_K and Q3_K: 2-bit quants (and an inverted high bit) widened to 4 bits */
static void pack_q23k(const rm_form_info *f, const place block[8], const uint8_t *p, int o) {
    bool q3 = !f->min;
    const uint8_t *qs = p + (q3 ? 32 : 16), *sc = q3 ? p + 96 : p;
    for (int h = 0; h < 8; h++) {
        const place d = block[h];
        int n = h / 4, t = h % 4;
        d.head[o] = u16(p + (q3 ? 108 : 80));
        if (!q3) d.head[RM_GROUP + o] = u16(p + 82);
        for (int k = 0; k < 2; k++) {
            int i = 2 * h + k;
            if (q3) {
                int low = i < 8 ? sc[i] & 15 : sc[i - 8] >> 4, top = sc[8 + (i & 3)] >> 2 * (i >> 2) & 3;
                d.scale[k * RM_GROUP + o] = (uint8_t)((low | top << 4) - 32);
            } else {
                d.scale[k * RM_GROUP + o] = sc[i] & 15;
                d.scale[(2 + k) * RM_GROUP + o] = sc[i] >> 4;
            }
        }
        for (int j = 0; j < 4; j++) {
            uint32_t v[2];
            for (int k = 0; k < 2; k++) {
                v[k] = u32(qs + 32 * n + 16 * k + 4 * j) >> 2 * t & 0x03030303;
                if (q3) v[k] |= (u32(p + 16 * k + 4 * j) >> h & 0x01010101) << 2;
            }
            d.low[j * RM_GROUP + o] = v[0] | v[1] << 4;
        }
    }
}

void rm_pack_group(rm_form form, uint8_t *group, const uint8_t *rows, size_t row_bytes, int n_valid, int n_block) {
    const rm_form_info *f = &rm_forms[form];
    if (n_valid < RM_GROUP) memset(group, 0, rm_form_group_bytes(f, (size_t)n_block));
    if (!f->super) {
        pack_plain(f, group, rows, row_bytes, n_valid, n_block);
        return;
    }
    size_t super_bytes = row_bytes / ((size_t)n_block / 8);
    for (int b = 0; b < n_block; b += 8) {
        place block[8];
        for (int h = 0; h < 8; h++) block[h] = block_place(f, group, b + h);
        for (int o = 0; o < n_valid; o++) {
            const uint8_t *p = rows + (size_t)o * row_bytes + (size_t)b / 8 * super_bytes;
            if (form == RM_FORM_Q6_K)
                pack_q6k(block, p, o);
            else if (form == RM_FORM_IQ4_XS)
                pack_iq4xs(block, p, o);
            else if (form == RM_FORM_Q2_K || form == RM_FORM_Q3_K)
                pack_q23k(f, block, p, o);
            else
                pack_q45k(f, block, p, o);
        }
    }
}
