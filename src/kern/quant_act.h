/* Activations in 8 bits (form.h): what every table does alike, and all of it in plain C. */

typedef struct {
    float d, inv; /* the step of a block's numbers, and 1 / d */
} act_step;

/* amax: the largest magnitude of the block, which becomes `limit`. */
static inline act_step act_step_of(float amax, float limit) {
    act_step s = {amax / limit, amax > 0.0f && amax < INFINITY ? limit / amax : 0.0f};
    return s.inv < INFINITY ? s : (act_step){0.0f, 0.0f}; /* below 1e-36: nothing */
}

/* What stands behind the numbers of a block, for row r. sum: of all of them; neg: 4 bytes each for minus the sums of the block and of its halves. */
static inline void act_put(uint8_t *tile, int n_row, int r, float d, int32_t sum, const void *neg) {
    uint8_t *meta = tile + n_row * RM_QBLOCK + r * 4;
    float dsum = d * (float)sum;
    memcpy(meta, &d, 4);
    memcpy(meta + n_row * 4, &dsum, 4);
    for (int k = 0; k < 3; k++) memcpy(meta + (2 + k) * n_row * 4, (const uint8_t *)neg + 4 * k, 4);
}
/* sum: of the two halves */
static inline void act_meta(uint8_t *tile, int n_row, int r, float d, const int32_t sum[2]) {
    int32_t neg[3] = {-(sum[0] + sum[1]), -sum[0], -sum[1]};
    act_put(tile, n_row, r, d, sum[0] + sum[1], neg);
}

static inline void op_q_quant(uint8_t *tile, const float *x, size_t ldx, int n_row, size_t n) {
    for (size_t b = 0; b < n / RM_QBLOCK; b++, tile += n_row * RM_QX_ROW) {
        for (int r = 0; r < n_row; r++) {
            const float *p = x + (size_t)r * ldx + b * RM_QBLOCK;
            int8_t *q = (int8_t *)tile + r * RM_QBLOCK;
            uint32_t top = 0; /* the largest magnitude, as bits: NaN is larger than anything and makes the row NaN */
            for (int i = 0; i < RM_QBLOCK; i++) {
                uint32_t u;
                memcpy(&u, p + i, 4);
                u &= 0x7FFFFFFF;
                if (u > top) top = u;
            }
            float amax;
            memcpy(&amax, &top, 4);
            const act_step step = act_step_of(amax, 127.0f);
            int32_t sum[2] = {0, 0};
            for (int i = 0; i < RM_QBLOCK; i++) {
                float v = amax < INFINITY ? p[i] * step.inv : 0.0f;
                q[i] = (int8_t)(int32_t)((v + 12582912.0f) - 12582912.0f);
                sum[i / 16] += q[i];
            }
            act_meta(tile, n_row, r, step.d, sum);
        }
    }
}
