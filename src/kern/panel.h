/* Panels of packed weights (kern.h), whole blocks of every form; included after quant_vec.h by a file that has columns_block, 32 rows of 32 columns in
 * float32, and may name a PAIRS_BLOCK, 16 pairs of 32 columns in bf16. TURNED: the form of turned blocks; if it is not
 * named, 8 bits. */

RM_INLINE void panel_body(uint8_t *panel, const uint8_t *group, size_t group_bytes, int n_group, int b0, int n_block, bool pairs, int bits, int high,
                          int sub, bool min, bool super, bool table, const rm_form_info *f) {
    const float offset = f->shift ? (float)(1 << f->shift) : 0;
    for (int g = 0; g < n_group; g++, group += group_bytes, panel += RM_GROUP * RM_PANEL * (pairs ? sizeof(uint16_t) : sizeof(float)))
        for (int b = b0; b < b0 + n_block; b++) {
            const uint8_t *p = group + rm_form_block_at(f, (size_t)b), *head = group + rm_form_head_at(f, (size_t)b);
            uint8_t *to = panel + (size_t)(b - b0) * RM_QBLOCK * sizeof(float); /* a pair of bf16 or one float32 */
            for (size_t i = 0; i < rm_form_block_bytes(f); i += 64) __builtin_prefetch(p + group_bytes + i, 0, 3);
#ifdef PAIRS_BLOCK
            if (pairs) {
                PAIRS_BLOCK((uint16_t *)(void *)to, p, head, bits, high, sub, min, super, table, offset);
                continue;
            }
#endif
            columns_block((float *)(void *)to, p, head, bits, high, sub, min, super, table, offset);
        }
}
RM_INLINE void panel_of(void *panel, const uint8_t *group, size_t group_bytes, int n_group, rm_form form, int b, int n_block, bool pairs) {
    switch (form) {
#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    case name: panel_body(panel, group, group_bytes, n_group, b, n_block, pairs, bits, high, sub, min, super, table, &rm_forms[name]); break;
        RM_SHAPES(X)
#undef X
    case RM_FORM_COUNT: break;
    }
}

/* ---- turned blocks ----------------------------------------------------------------------------------------------------------------- */

#ifndef TURNED
#define TURNED RM_FORM_Q8_0
#define TURNED_SHIFT 7
#endif

/* 32 rows of 32 columns: a scale for every column, and quants q - 2^TURNED_SHIFT up to the largest magnitude. What is no number gives any quants. */
RM_INLINE void turn_block(uint8_t *q, float *s, const float *w) {
    const float limit = (float)((1 << TURNED_SHIFT) - 1);
    const vf middle = v_set(12582912.0f + (float)(1 << TURNED_SHIFT)); /* added, it leaves a rounded number in the lowest bits */
    RM_UNROLL for (int c = 0; c < RM_QBLOCK; c += 16) {
        vf top = v_set(0.0f);
        for (int o = 0; o < RM_GROUP; o++) top = v_max(top, v_abs(v_load(w + o * RM_PANEL + c)));
        const vf inv = v_sel(v_lt(v_set(1e-30f), top), v_div(v_set(limit), top), v_set(0.0f));
        v_store(s + c, v_mul(top, v_set(1.0f / limit)));
        for (int o = 0; o < RM_GROUP; o += 4) {
            uint32_t u[4][16], *to = (uint32_t *)(void *)(q + o * RM_GROUP + c * 4);
            RM_UNROLL for (int k = 0; k < 4; k++) {
                const vf x = v_add(v_mul(v_load(w + (o + k) * RM_PANEL + c), inv), middle);
                memcpy(u[k], &x, sizeof x);
            }
            for (int j = 0; j < 16; j++) to[j] = (u[0][j] & 255) | (u[1][j] & 255) << 8 | (u[2][j] & 255) << 16 | u[3][j] << 24;
        }
    }
}

RM_INLINE void turn_body(uint8_t *q, float *s, const uint8_t *group, size_t group_bytes, int n_group, int b, int bits, int high, int sub, bool min,
                         bool super, bool table, const rm_form_info *f) {
    const float offset = f->shift ? (float)(1 << f->shift) : 0;
    for (int g = 0; g < n_group; g++, group += group_bytes, q += RM_EXPANDED_QUANTS, s += RM_GROUP) {
        _Alignas(64) float w[RM_GROUP * RM_PANEL];
        const uint8_t *p = group + rm_form_block_at(f, (size_t)b), *head = group + rm_form_head_at(f, (size_t)b);
        for (size_t i = 0; i < rm_form_block_bytes(f); i += 64) __builtin_prefetch(p + group_bytes + i, 0, 3);
        columns_block(w, p, head, bits, high, sub, min, super, table, offset);
        turn_block(q, s, w);
    }
}
static void q_turn_vec(uint8_t *q, float *s, const uint8_t *group, size_t group_bytes, int n_group, rm_form form, int b) {
    switch (form) {
#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    case name: turn_body(q, s, group, group_bytes, n_group, b, bits, high, sub, min, super, table, &rm_forms[name]); break;
        RM_SHAPES(X)
#undef X
    case RM_FORM_COUNT: break;
    }
}
