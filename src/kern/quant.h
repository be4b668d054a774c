/* Quantised products in plain C, for every form; included like ops.h. The faster tables replace some of these by their own, which give
 * the same bits where the arithmetic has the same fused operations. */

#include "kern/quant_act.h"

static void expand_quants(uint8_t *q, const uint8_t *p, const rm_form_info *f) {
    if (f->bits == 8) {
        memcpy(q, p, RM_EXPANDED_QUANTS);
        return;
    }
    const uint8_t *h = p + 512;
    for (int t = 0; t < 8; t++, q += 128) {
        const uint8_t *low = p + (t & 3) * 128;
        int shift = t & 4;
        for (int i = 0; i < 128; i++) q[i] = low[i] >> shift & 15;
        if (f->table)
            for (int i = 0; i < 128; i++) q[i] = rm_iq4nl[q[i]];
        if (f->high == 1)
            for (int i = 0; i < 128; i++) q[i] |= (uint8_t)((h[i] >> t & 1) << 4);
        if (f->high == 2)
            for (int i = 0, at = 2 * (t & 3); i < 128; i++) q[i] |= (uint8_t)((h[t / 4 * 128 + i] >> at & 3) << 4);
    }
}
static void op_q_expand(uint8_t *q, float *s, const uint8_t *group, rm_form form, int b0, int n_block) {
    const rm_form_info *f = &rm_forms[form];
    const int n_sub = 32 / f->sub;
    for (int b = b0; b < b0 + n_block; b++, q += RM_EXPANDED_QUANTS) {
        const uint8_t *p = group + rm_form_block_at(f, (size_t)b), *scale = p + rm_form_quant_bytes(f), *head = group + rm_form_head_at(f, (size_t)b);
        expand_quants(q, p, f);
        for (int k = 0; k < n_sub * (f->min ? 2 : 1); k++) {
            for (int c = 0; c < RM_GROUP; c += 16, s += 16) {
                if (!f->super) {
                    v_store(s, v_load_half((const uint16_t *)(const void *)(scale + (k * RM_GROUP + c) * 2)));
                    continue;
                }
                const int8_t *i8 = (const int8_t *)scale + k * RM_GROUP + c;
                float sign = k < n_sub ? 1.0f : -1.0f;
                for (int o = 0; o < 16; o++) s[o] = sign * (float)i8[o];
                v_store(s, v_mul(v_load_half((const uint16_t *)(const void *)(head + (k < n_sub ? 0 : RM_GROUP * 2) + c * 2)), v_load(s)));
            }
        }
    }
}

static void op_q_tile(const rm_qtile *t) {
    const rm_form_info *f = &rm_forms[t->form];
    int n_sub = 32 / f->sub;
    for (int r = 0; r < t->n_row; r++) {
        vf acc[2] = {v_set(0.0f), v_set(0.0f)};
        if (t->more)
            for (int c = 0; c < 2; c++) acc[c] = v_load(t->y + (size_t)r * t->ldy + 16 * c);
        const uint8_t *x = t->x, *q = t->q;
        const float *s = t->s;
        for (int b = 0; b < t->n_block; b++, x += t->n_row * RM_QX_ROW, q += RM_EXPANDED_QUANTS, s += rm_form_expanded_scales(f)) {
            const int8_t *xq = (const int8_t *)x + r * RM_QBLOCK;
            float meta[2];
            int32_t neg[3];
            for (int k = 0; k < 2; k++) memcpy(&meta[k], x + t->n_row * (RM_QBLOCK + 4 * k) + r * 4, 4);
            for (int k = 0; k < 3; k++) memcpy(&neg[k], x + t->n_row * (RM_QBLOCK + 8 + 4 * k) + r * 4, 4);
            for (int h = 0; h < n_sub; h++) {
                int32_t start = f->shift ? (n_sub == 1 ? neg[0] : neg[1 + h]) * (1 << f->shift) : 0;
                float dot[32];
                int32_t sum[32];
                for (int o = 0; o < 32; o++) sum[o] = start;
                for (int step = h * 4; step < (n_sub == 1 ? 8 : h * 4 + 4); step++)
                    for (int o = 0; o < 32; o++)
                        for (int i = 0; i < 4; i++) sum[o] += q[step * 128 + o * 4 + i] * xq[step * 4 + i];
                for (int o = 0; o < 32; o++) dot[o] = (float)sum[o];
                for (int c = 0; c < 2; c++) acc[c] = v_fma(v_load(dot + 16 * c), v_mul(v_load(s + h * RM_GROUP + 16 * c), v_set(meta[0])), acc[c]);
            }
            for (int h = 0; f->min && h < n_sub; h++) {
                vf sx = v_set(n_sub == 1 ? meta[1] : meta[0] * (float)-neg[1 + h]);
                for (int c = 0; c < 2; c++) acc[c] = v_fma(v_load(s + (n_sub + h) * RM_GROUP + 16 * c), sx, acc[c]);
            }
        }
        for (int c = 0; c < 2; c++) v_store(t->y + (size_t)r * t->ldy + 16 * c, t->bias ? v_add(acc[c], v_load(t->bias + 16 * c)) : acc[c]);
    }
}

#define RM_QUANT .q_quant = op_q_quant, .q_expand = op_q_expand, .q_tile = op_q_tile
