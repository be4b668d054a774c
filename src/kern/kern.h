/* The kernel table: everything that runs per element, once per instruction set. kern.c chooses a table; nobody else looks at the CPU.
 *
 * Vectors have 16 lanes in every instruction set and sums are reduced in one fixed order, so a result depends on its own inputs
 * only: not on how many rows are computed together. Tables may differ from one another in the last bits (fused multiply-add).
 * Pointers need no alignment, sizes may be any number >= 0; in place (y == x) is fine for the row functions. Nothing is written
 * or (where it matters: page ends) read outside the given sizes. */
#ifndef RM_KERN_KERN_H
#define RM_KERN_KERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kern/form.h"
#include "util/error.h"

enum { RM_KV_BLOCK = 64 /* keys per block of an attention cache */, RM_PANEL = 64 /* columns of a panel of weights */, RM_BF16_ROWS = 16 };
/* Whole steps of 32 and one more, so that rows do not all fall onto the same lines of a cache. */
static inline size_t rm_bf16_stride(size_t n) { return (n + 31) / 32 * 32 + 32; }

/* Attention of n_q queries with one block of keys and values, all of one kv head; blocks are given in the order of their positions,
 * then attn_finish is called once. The caller sets m = -INFINITY, l = 0, o = 0 before the first block.
 * A block lies in memory as k[d][RM_KV_BLOCK] (transposed) and v[RM_KV_BLOCK][d]; key slots outside [from, to) are not seen (they may be uninitialised
 * if no query of the call sees them). A query's result depends on its own q, from, to and the block borders only. */
typedef struct {
    int d, n_q;
    float scale;
    bool half; /* k and v are IEEE half precision, else float */
    const void *k, *v;
    const void *next; /* the keys of the call after this, to be fetched meanwhile; k if not known */
    const float *q; /* [n_q] rows of d floats, ldq floats apart */
    size_t ldq;
    const int *from, *to; /* [n_q] the visible slots of the block; from >= to: none */
    float *o; /* [n_q] rows of d floats, ldo apart: sums of weighted values */
    size_t ldo;
    float *m, *l; /* [n_q] running maximum and sum of weights */
    float *scratch; /* RM_KV_BLOCK (2 d + n_q) floats, for many queries; may be NULL */
    bool prompt; /* queries of prompts, of which there are many: a table may compute these in another way, with other last bits */
} rm_attn;

/* Attention backward for n_q queries and one block of keys and values (layout as in rm_attn). With the weights p = exp(scale q k - lse) of a query's
 * visible slots [from, to): dv += p g, ds = p (g v - dot) scale, dk += ds q, dq += ds k. Sums over queries and slots are taken in their order. Slots
 * below `first` get no gradient of their own. */
typedef struct {
    int d, n_q, first;
    bool half; /* k and v are IEEE half precision, else float */
    float scale;
    const void *k, *v;
    const int *from, *to; /* [n_q] */
    const float *q, *g; /* [n_q, d] the queries, and the gradients of their outputs */
    const float *lse, *dot; /* [n_q] dot: g times the output of the query's attention */
    float *dq; /* [n_q, d] */
    float *dk, *dv; /* rows of d floats for the slots, ld apart */
    size_t ld;
    float *scratch; /* RM_KV_BLOCK (3 d + 2 n_q) floats */
} rm_attn_back;

/* The gated delta rule for one head over n_tok tokens; the state S [dk, dv] is read and updated:
 *   S *= decay_t; u = beta_t (v_t - S' k_t); S += k_t u'; o_t = S' q_t.
 * It lies in slices of RM_DELTA_SLICE columns (the last one may be narrower), one after the other, each row by row. */
enum { RM_DELTA_SLICE = 32 };
typedef struct {
    int dk, dv, n_tok;
    float *state;
    const float *q, *k, *v; /* rows of dk, dk, dv floats */
    size_t ldq, ldk, ldv;
    const float *decay, *beta; /* one per token, ldg floats apart */
    size_t ldg;
    float *o; /* rows of dv floats */
    size_t ldo;
    float *rest; /* NULL, or rows of dv floats, ldo apart: v_t - S' k_t, for the way back */
} rm_delta;

/* The gated delta rule backward for one head. n_tok tokens (at most RM_KV_BLOCK) follow on a state; gradients are wanted of those from `from` on, m of
 * them, d_state holds what comes from the tokens after them. With G_t the gradient of the state after a token:
 *   G_t = decay_t+1 (G_t+1 + k_t+1 du_t+1') + q_t d_o_t';   d_v_t = beta_t G_t' k_t;   du_t = -d_v_t
 *   d_q_t = S_t d_o_t;   d_k_t = G_t u_t + decay_t S_t-1 du_t;   d_beta_t = G_t' k_t rest_t
 * S_t is put together from the state before all tokens and from k u' of those in between, so it is never there. No number depends on how many tokens
 * are gone through at a time. */
typedef struct {
    int dk, dv, n_tok, from; /* from < n_tok */
    const float *state; /* as in rm_delta */
    const float *q, *k, *decay, *beta; /* of all tokens, as in rm_delta */
    size_t ldk, ldg; /* ldk: of q, too */
    const float *rest; /* of all tokens, rows of dv, ldr apart */
    size_t ldr;
    const float *d_o; /* [m, dv] */
    float *d_state; /* of the state after the last token; afterwards of the state before token `from` */
    float *d_q, *d_k; /* [m] rows of dk, ld_qk apart */
    size_t ld_qk;
    float *d_v; /* [m] rows of dv, ld_v apart */
    size_t ld_v;
    float *d_beta; /* [m], ldg apart */
    float *scratch; /* rm_delta_back_floats */
} rm_delta_rule_back;
/* The state turned, u and u turned, d_o over du and what both become, sums of rows. */
static inline size_t rm_delta_back_floats(size_t dk, size_t dv) {
    return (dk + 15) / 16 * 16 * (dv + 16) + RM_KV_BLOCK * (2 * dv + 2 * (dv + dk + RM_KV_BLOCK));
}

typedef enum { RM_W_F32, RM_W_F16, RM_W_BF16 } rm_wtype;

/* Products of a tile of 8-bit activations with one group of weights: y[i][0..RM_GROUP). */
typedef struct {
    const uint8_t *x; /* the tile (form.h), at the first block */
    int n_row; /* 1..RM_QROWS */
    int n_block;
    rm_form form;
    const uint8_t *q; /* q_tile: expanded quants at the first block; q_rows: the packed group at its beginning */
    const float *s; /* q_tile: expanded scales */
    float *y;
    size_t ldy;
    bool more; /* y holds the sum over the blocks before, else start from zero */
    const float *bias; /* [RM_GROUP], added at the end; or NULL */
    const uint8_t *ahead; /* what will be read next, to be fetched meanwhile: ahead_bytes (a multiple of 64) per block */
    int ahead_bytes;
} rm_qtile;

typedef struct rm_kern rm_kern;
struct rm_kern {
    const char *name;

    /* ---- rows of n floats ------------------------------------------------------------------------------------------ */
    float (*dot)(const float *a, const float *b, size_t n);
    void (*axpy)(float *y, float a, const float *x, size_t n); /* y += a x */
    void (*add)(float *y, const float *a, const float *b, size_t n); /* y = a + b */
    void (*mul)(float *y, const float *a, const float *b, size_t n); /* y = a b */
    void (*scale)(float *y, const float *x, float a, size_t n); /* y = a x */
    void (*rms_norm)(float *y, const float *x, const float *w, size_t n, float eps); /* x / sqrt(mean(x^2) + eps) * w; w may be NULL */
    /* dx += the gradient of rms_norm with respect to x, from that of y, dy */
    void (*rms_norm_back)(float *dx, const float *dy, const float *x, const float *w, size_t n, float eps);
    void (*layer_norm)(float *y, const float *x, const float *w, const float *b, size_t n, float eps); /* (x - mean) / sqrt(var + eps) * w + b */
    void (*l2_norm)(float *y, const float *x, size_t n, float eps, float scale); /* x / sqrt(sum(x^2) + eps) * scale */
    void (*exp)(float *y, const float *x, size_t n);
    void (*sigmoid)(float *y, const float *x, size_t n);
    void (*silu)(float *y, const float *x, size_t n); /* x sigmoid(x) */
    void (*gelu)(float *y, const float *x, size_t n); /* x/2 (1 + erf(x / sqrt 2)) */
    void (*silu_mul)(float *y, const float *gate, const float *up, size_t n); /* silu(gate) up */
    void (*gelu_tanh_mul)(float *y, const float *gate, const float *up, size_t n); /* gelu_tanh(gate) up */
    /* their gradients with respect to gate and up, from that of y; d_gate and d_up may stand where gate and up stand */
    void (*silu_mul_back)(float *d_gate, float *d_up, const float *dy, const float *gate, const float *up, size_t n);
    void (*gelu_tanh_mul_back)(float *d_gate, float *d_up, const float *dy, const float *gate, const float *up, size_t n);
    void (*sigmoid_mul)(float *y, const float *gate, const float *x, size_t n); /* sigmoid(gate) x */
    void (*softmax)(float *y, const float *x, size_t n);
    /* Rotates the pairs (j, j + half), or (2j, 2j + 1) if adjacent, of one head in place; cs: cos[half], then sin[half]. */
    void (*rope)(float *x, const float *cs, int half, bool adjacent);
    /* One output of the depthwise causal convolution of 4 taps, then silu: y[c] = silu(sum_i w[c * 4 + i] x[i][c]), x[3] the newest row. */
    void (*conv4_silu)(float *y, const float *const x[4], const float *w, size_t n);

    /* ---- attention, recurrence ---------------------------------------------------------------------------------------- */
    void (*attn_block)(const rm_attn *a);
    void (*attn_back)(const rm_attn_back *a);
    void (*attn_finish)(float *o, size_t ldo, const float *l, int n_q, int d); /* o /= l */
    void (*delta_rule)(const rm_delta *a);
    void (*delta_rule_back)(const rm_delta_rule_back *a);
    void (*to_half)(uint16_t *y, const float *x, size_t n); /* IEEE half, round to nearest even; for caches */
    void (*to_bf16)(uint16_t *y, const float *x, size_t n); /* round to nearest even; numbers below 2^-126 may become 0 */

    /* ---- pieces of matrix products, for src/tensor ---------------------------------------------------------------------- */
    /* y[i][o] = x[i] w[o] + bias[o], rows of n; weights row-major, ldw bytes apart, unaligned; products and sums in float32. */
    void (*mul_rows)(float *y, size_t ldy, const float *x, size_t ldx, int n_row, const void *w, size_t ldw, rm_wtype type, int n_out, size_t n,
                     const float *bias);
    void (*widen)(float *y, const void *w, rm_wtype type, size_t n); /* f16 or bf16 to float32; w need not be aligned */
    /* The same with both factors in bf16 and float32 sums. NULL where that is not faster than float32. x comes from bf16_rows, which takes RM_BF16_ROWS
     * rows at a time (the last time fewer) to RM_BF16_ROWS rm_bf16_stride(n) elements, 64-byte aligned, in an order of its own: pairs for mul_bf16,
     * else for q_mul_bf16. */
    void (*mul_bf16)(float *y, size_t ldy, const uint16_t *x, int n_row, const void *w, size_t ldw, int n_out, size_t n, const float *bias);
    void (*bf16_rows)(uint16_t *y, const float *x, size_t ldx, int n_row, size_t n, bool pairs);
    /* dx[i][0..n) += sum over o of dy[i][o] w[o][0..n), in the order of o */
    void (*mul_columns)(float *dx, size_t lddx, const float *dy, size_t lddy, int n_row, const float *w, size_t ldw, int n_out, size_t n);
    /* Weights of n_group packed groups for it, blocks b .. b + n_block <= b + 2 as float32 [RM_GROUP n_group][RM_PANEL], 64-byte aligned; may be NULL. */
    void (*q_columns)(float *panel, const uint8_t *group, size_t group_bytes, int n_group, rm_form form, int b, int n_block);
    /* mul_columns in bf16 with float32 sums; NULL if mul_bf16 is, or else at will. A panel holds weights of RM_PANEL columns as pairs
     * of outputs, 64-byte aligned: [n_pair][RM_PANEL][2], with zeros up to whole groups (16 pairs). bf16_pairs: from rows of n <= RM_PANEL columns.
     * q_pairs: from packed groups, 16 pairs each, blocks b .. b + n_block <= b + 2. mul_pairs: rows of dy are from to_bf16, with zeros up
     * to whole groups. */
    void (*bf16_pairs)(uint16_t *panel, const void *w, size_t ldw, int n_out, size_t n);
    void (*q_pairs)(uint16_t *panel, const uint8_t *group, size_t group_bytes, int n_group, rm_form form, int b, int n_block);
    void (*mul_pairs)(float *dx, size_t lddx, const uint16_t *dy, size_t lddy, int n_row, const uint16_t *panel, int n_pair, size_t n);
    /* The same in 8 bits: blocks b of n_group packed groups are turned, so that their columns become the outputs of one group, and quantised anew: as expanded
     * quants and scales of the form `turned`, for q_tile with rows of dy from q_quant_turned. May be NULL. */
    void (*q_turn)(uint8_t *q, float *s, const uint8_t *group, size_t group_bytes, int n_group, rm_form form, int b);
    void (*q_quant_turned)(uint8_t *tile, const float *x, size_t ldx, int n_row, size_t n); /* as q_quant */
    rm_form turned;
    /* Quantised forms (form.h). q_quant: rows to a tile; n a multiple of 32. q_expand: blocks b0 .. b0 + n_block of a packed group, b0 a
     * multiple of 8; q, s and group 64-byte aligned. q_tile: products with expanded weights. q_rows: products straight from the packed
     * group, the same bits. */
    void (*q_quant)(uint8_t *tile, const float *x, size_t ldx, int n_row, size_t n);
    void (*q_expand)(uint8_t *q, float *s, const uint8_t *group, rm_form form, int b0, int n_block);
    void (*q_tile)(const rm_qtile *t);
    void (*q_rows)(const rm_qtile *t);
    int q_rows_max; /* q_rows is the faster one for so many rows in all; 0: there is no q_rows */
    bool q_near; /* a single row fetches the weights of a block when it comes to the block, not ahead of it */
    /* Products with packed weights in bf16: n_group groups, y[i][0 .. RM_GROUP n_group). For many rows at a time only, for few it is slow; NULL where it
     * is no faster than q_tile for many. */
    void (*q_mul_bf16)(float *y, size_t ldy, const uint16_t *x, int n_row, const uint8_t *group, size_t group_bytes, int n_group, rm_form form,
                       size_t n, const float *bias);
};

/* name: NULL for the best table that this CPU and operating system can run (or the one that the environment variable RMAS_ISA
 * names), else "portable", "avx2", "avx-vnni", "avx512", "avx512-intel", "amx", "neon" or "neon-dot". Fails if the CPU cannot run it. */
rmas_status rm_kern_get(const rm_kern **out, const char *name, rmas_error *err);
/* All tables that this CPU can run, for tests: number i, NULL past the last. */
const rm_kern *rm_kern_at(int i);

#endif
