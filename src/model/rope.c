/* Rotary positions: the table of a pass, and the inverse rotation for gradients. */
#include <math.h>

#include "model/layer.h"

typedef struct {
    float *cs;
    const rm_rope *r;
    const int *pos;
} job;

static void table_rows(void *ctx, int from, int to) {
    const job *j = ctx;
    int half = j->r->n_rot / 2;
    for (int r = from; r < to; r++) {
        float *cs = j->cs + (size_t)r * (size_t)(2 * half);
        for (int i = 0; i < half; i++) {
            float angle = (float)j->pos[r] * j->r->inv_freq[i]; /* rounded to float, as the reference does */
            cs[i] = cosf(angle) * j->r->scale;
            cs[half + i] = sinf(angle) * j->r->scale;
        }
    }
}

void rm_rope_table(rm_exec *e, float *cs, const rm_rope *r, const int *pos, int n_row) {
    job j = {cs, r, pos};
    rm_rows_run(e, n_row, 16, table_rows, &j);
}

void rm_rope_back(float *dx, const float *cs, int half, bool adjacent) {
    for (int i = 0; i < half; i++) {
        float *a = adjacent ? dx + 2 * i : dx + i, *b = adjacent ? a + 1 : a + half;
        float da = *a, db = *b;
        *a = da * cs[i] + db * cs[half + i];
        *b = db * cs[i] - da * cs[half + i];
    }
}
