/* Panels of packed weights (kern.h), whole blocks of every form; included after quant_vec.h by a file that has columns_block, 32 rows of 32 columns in
 * float32, and may name a PAIRS_BLOCK, 16 pairs of 32 columns in bf16. */

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
