#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"
#include "util/rng.h"

rmas_status rm_train_going_on(const rm_train_options *o, rmas_error *err) {
    return o->cancel && *o->cancel ? rm_fail(err, RMAS_E_CANCELLED, "interrupted") : RMAS_OK;
}

rmas_status rm_trainer_add(rm_trainer *t, const char *key, rm_link *l, int n_part, rmas_error *err) {
    rm_trainee *v = &t->v[t->n++];
    *v = (rm_trainee){.key = key, .link = l};
    RM_TRY(rm_adamw_init(&v->adam, l, err));
    for (int i = 0; i < n_part; i++)
        if (!(v->part[i] = rm_calloc(rm_link_n_value(l), sizeof(float))))
            return rm_fail(err, RMAS_E_NOMEM, "out of memory for the gradients of %s (%zu parameters)", *key ? key : "the link", rm_link_n_value(l));
    v->grad = v->part[0];
    return RMAS_OK;
}

void rm_trainer_free(rm_trainer *t) {
    for (int i = 0; i < t->n; i++) {
        rm_adamw_free(&t->v[i].adam);
        for (int p = 0; p < RM_TRAIN_MAX_ROUNDS; p++) rm_free(t->v[i].part[p]);
        rm_link_close(t->v[i].link);
    }
    *t = (rm_trainer){0};
}

void rm_trainer_zero(rm_trainer *t) {
    for (int i = 0; i < t->n; i++) {
        rm_trainee *v = &t->v[i];
        v->used = false;
        for (int p = 0; p < RM_TRAIN_MAX_ROUNDS && v->part[p]; p++) memset(v->part[p], 0, rm_link_n_value(v->link) * sizeof(float));
    }
}

rmas_status rm_trainer_step(rm_trainer *t, bool *stepped, rmas_error *err) {
    double sum = 0;
    for (int i = 0; i < t->n; i++) {
        rm_trainee *v = &t->v[i];
        double s = v->used ? rm_sum_squares(t->exec, v->grad, rm_link_n_value(v->link)) : 0;
        v->norm = sqrt(s);
        sum += s;
    }
    t->norm = sqrt(sum);
    *stepped = isfinite(t->norm);
    if (!*stepped) return RMAS_OK;
    t->factor = rm_schedule_factor(t->schedule, t->step, t->warmup, t->total);
    double scale = rm_clip_scale(t->norm, t->max_grad_norm);
    for (int i = 0; i < t->n; i++)
        if (t->v[i].used) RM_TRY(rm_adamw_step(&t->v[i].adam, t->exec, t->v[i].link, t->v[i].grad, scale, &t->adamw, t->factor, err));
    t->step++;
    return RMAS_OK;
}

rmas_status rm_trainer_record(const rm_trainer *t, rm_arrays *a, bool state, rmas_error *err) {
    for (int i = 0; i < t->n; i++) {
        const rm_trainee *v = &t->v[i];
        const char *dot = *v->key ? "." : "";
        for (int k = 0; k < rm_link_n_param(v->link); k++) {
            const rm_link_param *p = rm_link_param_at(v->link, k);
            RM_TRY(rm_arrays_add(a, p->value, p->n_dim, p->dim, err, "param.%s%s%s", v->key, dot, p->name));
            if (!state) continue;
            if (v->used) RM_TRY(rm_arrays_add(a, v->grad + p->at, p->n_dim, p->dim, err, "grad.%s%s%s", v->key, dot, p->name));
            RM_TRY(rm_arrays_add(a, v->adam.m + p->at, p->n_dim, p->dim, err, "m.%s%s%s", v->key, dot, p->name));
            RM_TRY(rm_arrays_add(a, v->adam.v + p->at, p->n_dim, p->dim, err, "v.%s%s%s", v->key, dot, p->name));
        }
    }
    return RMAS_OK;
}

/* ---- order of the rows ------------------------------------------------------------------------------------------------------- */

rmas_status rm_batches_init(rm_batches *b, size_t n, size_t batch, bool shuffle, uint64_t seed, rmas_error *err) {
    *b = (rm_batches){.n = n, .batch = batch, .shuffle = shuffle, .seed = seed, .epoch = -1};
    if (n < batch) return rm_fail(err, RMAS_E_ARG, "%zu rows that count are fewer than a batch of %zu", n, batch);
    b->order = rm_array(n, sizeof *b->order);
    return b->order ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
}

void rm_batches_free(rm_batches *b) {
    rm_free(b->order);
    *b = (rm_batches){0};
}

size_t rm_batches_at(rm_batches *b, int64_t step, size_t i) {
    int64_t per_epoch = (int64_t)(b->n / b->batch), epoch = step / per_epoch;
    if (epoch != b->epoch) {
        for (size_t k = 0; k < b->n; k++) b->order[k] = k;
        rm_rng r = rm_rng_make(b->seed, (uint64_t)epoch);
        for (size_t k = b->n - 1; b->shuffle && k > 0; k--) {
            size_t j = rm_rng_below(&r, k + 1), x = b->order[k];
            b->order[k] = b->order[j];
            b->order[j] = x;
        }
        b->epoch = epoch;
    }
    return b->order[(size_t)(step % per_epoch) * b->batch + i];
}
