/* AdamW, learning-rate schedules and clipping by global norm, as the reference has them. All sums are taken
 * in fixed chunks: results do not depend on the number of threads. */
#ifndef RM_TRAIN_OPTIM_H
#define RM_TRAIN_OPTIM_H

#include <stdbool.h>
#include <stdint.h>

#include "link/link.h"

/* Moments of one link's parameters. A link without any gradient in a step is left alone: no decay, no count. */
typedef struct {
    size_t n;
    float *m, *v; /* [n]; one allocation, m first */
    int64_t t; /* steps that this link has had */
} rm_adamw;

typedef struct {
    double lr, beta1, beta2, eps, weight_decay;
    bool decay_all; /* outer loop: biases and norms too; inner loop: matrices only */
} rm_adamw_options;
#define RM_ADAMW_DEFAULT                                                                                                                             \
    { .lr = 5e-4, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8 }

rmas_status rm_adamw_init(rm_adamw *a, const rm_link *l, rmas_error *err);
void rm_adamw_free(rm_adamw *a); /* fine on a zeroed struct */
/* One step at lr * factor with grad * scale (clipping); grad [n] as in rm_link_backward. Changes the link's values and tells it so. */
rmas_status rm_adamw_step(rm_adamw *a, rm_exec *e, rm_link *l, const float *grad, double scale, const rm_adamw_options *o, double factor,
                          rmas_error *err);
/* min(1, limit / (norm + 1e-6)); 1 if limit <= 0 */
double rm_clip_scale(double norm, double limit);

typedef enum { RM_SCHEDULE_COSINE, RM_SCHEDULE_CONSTANT } rm_schedule;
bool rm_schedule_parse(const char *s, rm_schedule *out);
/* Factor of the rate of the step that follows `done` steps: the first one is 0 while there is a warm-up. */
double rm_schedule_factor(rm_schedule kind, int64_t done, int64_t warmup, int64_t total);

double rm_sum_squares(rm_exec *e, const float *x, size_t n);
void rm_scale(rm_exec *e, float *x, size_t n, double factor);

#endif
