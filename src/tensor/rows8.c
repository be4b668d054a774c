#include "tensor/rows8.h"

#include <string.h>

#include "tensor/profile.h"

enum { SEGMENT = 1024 }; /* numbers of a row that are quantised in one piece, if there are several rows */

typedef struct {
    const rm_rows8 *r;
    rm_quant_fn quant;
    const float *x;
    size_t ldx;
    int n, n_segment;
} quantising;

static void quant_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    const quantising *j = ctx;
    const rm_rows8 *r = j->r;
    int tile = chunk / j->n_segment, segment = chunk % j->n_segment, whole = j->n / RM_QBLOCK;
    int i = rm_rows8_first(r, tile), n = rm_rows8_first(r, tile + 1) - i, b = whole * segment / j->n_segment,
        end = whole * (segment + 1) / j->n_segment;
    const float *x = j->x + (size_t)i * j->ldx;
    j->quant((uint8_t *)rm_rows8_at(r, tile, b), x + (size_t)b * RM_QBLOCK, j->ldx, n, (size_t)(end - b) * RM_QBLOCK);
    if (segment || whole == r->n_block) return;
    float rest[RM_QROWS][RM_QBLOCK] = {{0}};
    for (int k = 0; k < n; k++) memcpy(rest[k], x + (size_t)k * j->ldx + (size_t)whole * RM_QBLOCK, (size_t)(j->n % RM_QBLOCK) * sizeof(float));
    j->quant((uint8_t *)rm_rows8_at(r, tile, whole), rest[0], RM_QBLOCK, n, RM_QBLOCK);
}

bool rm_rows8_make(rm_rows8 *out, rm_exec *e, rm_quant_fn quant, const float *x, size_t ldx, int n_row, int n) {
    *out = (rm_rows8){.n_row = n_row, .n_block = (n + RM_QBLOCK - 1) / RM_QBLOCK};
    quantising j = {.r = out, .quant = quant, .x = x, .ldx = ldx, .n = n, .n_segment = n_row > 1 ? (n + SEGMENT - 1) / SEGMENT : 1};
    if (!(out->q = rm_exec_shared(e, (size_t)out->n_block * (size_t)n_row * RM_QX_ROW))) return false;
    rm_time was = rm_time_to(e, RM_TIME_QUANT);
    rm_pool_run(e->pool, rm_rows8_tiles(out) * j.n_segment, quant_chunk, &j);
    rm_time_back(e, was);
    return true;
}
