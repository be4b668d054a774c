#include "train/inner.h"

#include <math.h>
#include <string.h>

#include "train/align.h"
#include "train/loop.h"
#include "util/file.h"
#include "util/mem.h"

/* ---- pairs and their loss ------------------------------------------------------------------------------------------------------ */

void rm_pairs_free(rm_pairs *p) {
    rm_free(p->x);
    rm_free(p->y);
    *p = (rm_pairs){0};
}

rmas_status rm_pairs_make(rm_pairs *out, rm_crew *t, int role, const rm_inner_sample *const *sample, int n_sample, rmas_error *err) {
    *out = (rm_pairs){0};
    RM_TRY(rm_crew_load_model(t, role, err));
    const rm_model *m = rm_crew_model(t, role);
    size_t d = (size_t)rm_model_config(m)->d_model, n_tok = 0;
    int n_feed = 0;
    for (int s = 0; s < n_sample; s++)
        for (int i = 1; i < sample[s]->ids.n; i++) out->n += sample[s]->mask[i];
    rm_feed *feed = rm_calloc((size_t)n_sample + 1, sizeof *feed);
    rmas_status st = feed ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    for (int s = 0; s < n_sample && st == RMAS_OK; s++) {
        if (sample[s]->ids.n < 2) continue;
        feed[n_feed] = (rm_feed){.n = sample[s]->ids.n - 1, .tokens = sample[s]->ids.id}; /* the last token is a target only */
        st = rm_seq_new(&feed[n_feed].seq, m, err);
        n_tok += (size_t)feed[n_feed].n;
        n_feed += st == RMAS_OK;
    }
    float *hidden = NULL;
    if (st == RMAS_OK) {
        hidden = rm_array(n_tok * d + 1, sizeof(float));
        out->x = rm_array((size_t)out->n * d + 1, sizeof(float));
        out->y = rm_array((size_t)out->n * d + 1, sizeof(float));
        if (!hidden || !out->x || !out->y) st = rm_fail(err, RMAS_E_NOMEM, "out of memory for the states of %zu tokens", n_tok);
    }
    if (st == RMAS_OK && n_feed) st = rm_batch_forward_tap(rm_crew_batch(t, role), feed, n_feed, &(rm_tap){.hidden = hidden}, err);
    size_t at = 0, row = 0;
    for (int s = 0; s < n_sample && st == RMAS_OK; s++) {
        const rm_inner_sample *q = sample[s];
        if (q->ids.n < 2) continue;
        for (int i = 1; i < q->ids.n && st == RMAS_OK; i++) {
            if (!q->mask[i]) continue;
            memcpy(out->x + row * d, hidden + (at + (size_t)i - 1) * d, d * sizeof(float));
            st = rm_model_embed(m, &q->ids.id[i], 1, out->y + row * d, err);
            row++;
        }
        at += (size_t)q->ids.n - 1;
    }
    for (int i = 0; i < n_feed; i++) rm_seq_free(feed[i].seq);
    rm_free(feed);
    rm_free(hidden);
    if (st != RMAS_OK) rm_pairs_free(out);
    return st;
}

void rm_pair_losses(const float *p, const float *y, int n, int d, double cos_weight, double mse_weight, double *cosine, double *mse, float *dp) {
    static const double eps = 1e-8;
    double total_cos = 0, total_mse = 0, count = n > 0 ? n : 1;
    for (int r = 0; r < n; r++) {
        const float *a = p + (size_t)r * (size_t)d, *b = y + (size_t)r * (size_t)d;
        double dot = 0, aa = 0, bb = 0, diff = 0;
        for (int i = 0; i < d; i++) {
            double u = (double)a[i], v = (double)b[i];
            dot += u * v;
            aa += u * u;
            bb += v * v;
            diff += (u - v) * (u - v);
        }
        double na = sqrt(aa) > eps ? sqrt(aa) : eps, nb = sqrt(bb) > eps ? sqrt(bb) : eps, c = dot / (na * nb);
        total_cos += 1 - c;
        total_mse += diff / d;
        if (!dp) continue;
        float *g = dp + (size_t)r * (size_t)d;
        double along = sqrt(aa) > eps ? c / (na * na) : 0; /* a clamped norm is a constant */
        for (int i = 0; i < d; i++) {
            double u = (double)a[i], v = (double)b[i];
            g[i] = (float)((cos_weight * (along * u - v / (na * nb)) + mse_weight * 2 * (u - v) / d) / count);
        }
    }
    *cosine = total_cos / count;
    *mse = total_mse / count;
}

/* ---- the loop ------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    rm_crew *team;
    const rm_train_options *o;
    int role; /* < 0: data without a role */
    rm_rows rows;
    rm_inner_sample *sample; /* [rows.n] */
    size_t n_sample, *train, *held, n_train, n_held;
    size_t *valid, n_valid; /* rows that count */
    rm_trainer trainer;
    rm_batches batches;
    rm_pairs pairs, held_pairs;
} inner;

static rmas_status make_samples(inner *in, rmas_error *err) {
    const rm_train_options *o = in->o;
    rm_crew *t = in->team;
    in->sample = rm_calloc(in->rows.n, sizeof *in->sample);
    in->valid = rm_array(in->rows.n, sizeof *in->valid);
    if (!in->sample || !in->valid) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (in->role >= 0)
        for (int r = 0; r < t->style.n_role; r++) { /* of the role itself and of those whose texts stand in its prompt */
            bool sends = r == in->role;
            for (int e = 0; e < t->style.n_edge; e++)
                sends = sends || (t->style.edge[e].from == r && t->style.edge[e].to == in->role && !t->style.edge[e].feedback && !t->style.signal);
            if (sends && !rm_rows_has_any(&in->rows, t->style.role[r].inner))
                return rm_fail(err, RMAS_E_ARG, "%s: no row has the column '%s' (the text of the %s)", in->rows.path, t->style.role[r].inner[0],
                               t->style.role[r].name);
        }
    rm_lines lines = {0};
    if (o->probe) RM_TRY(rm_lines_open(&lines, o->probe, "samples.jsonl", false, err));
    rmas_status st = RMAS_OK;
    for (size_t i = 0; i < in->n_sample && st == RMAS_OK; i++) {
        rm_inner_sample *s = &in->sample[i];
        st = rm_inner_sample_make(s, &t->prompts, &t->agent[t->only].chat, in->role, &in->rows, i, (int)o->max_length, err);
        if (st == RMAS_OK && !s->skipped) in->valid[in->n_valid++] = i;
        if (st != RMAS_OK || !o->probe) continue;
        json_t *line = json_pack("{s:I}", "row", (json_int_t)i);
        if (s->skipped) {
            json_object_set_new(line, "skipped", json_string(s->skipped));
        } else {
            json_t *mask = json_array();
            for (int k = 0; k < s->ids.n; k++) json_array_append_new(mask, json_integer(s->mask[k]));
            json_object_set_new(line, "ids", rm_json_ids(s->ids.id, s->ids.n));
            json_object_set_new(line, "prompt_len", json_integer(s->prompt_len));
            json_object_set_new(line, "mask", mask);
        }
        st = rm_lines_add(&lines, line, err);
    }
    rmas_status end = rm_lines_close(&lines, st == RMAS_OK ? err : NULL);
    if (st == RMAS_OK) st = end;
    if (st == RMAS_OK && in->n_valid == 0) st = rm_fail(err, RMAS_E_ARG, "%s: no row counts: %s", in->rows.path, in->sample[0].skipped);
    return st;
}

/* Predictions, losses and, with a trainee, gradients of pairs. */
static rmas_status pairs_loss(inner *in, const rm_pairs *p, double *cosine, double *mse, bool gradients, rmas_error *err) {
    rm_trainee *v = &in->trainer.v[0];
    size_t d = (size_t)rm_link_d_in(v->link);
    float *out = rm_array((size_t)p->n * d + 1, sizeof(float));
    rmas_status st = out ? rm_link_apply(v->link, p->x, p->n, out, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory for %d pairs", p->n);
    if (st == RMAS_OK) {
        rm_pair_losses(out, p->y, p->n, (int)d, in->o->cos_weight, in->o->mse_weight, cosine, mse, gradients ? out : NULL);
        if (gradients) st = rm_link_backward(v->link, p->x, p->n, out, NULL, v->grad, err);
    }
    rm_free(out);
    return st;
}

/* Pairs of many rows, a few at a time. most: stop when there are so many; 0: never. */
static rmas_status batch_pairs(inner *in, const size_t *row, size_t n, size_t most, rm_pairs *out, rmas_error *err) {
    enum { AT_ONCE = 16 };
    const rm_inner_sample *s[AT_ONCE];
    *out = (rm_pairs){0};
    rmas_status st = RMAS_OK;
    for (size_t at = 0; at < n && st == RMAS_OK && (most == 0 || (size_t)out->n < most);) {
        int k = 0;
        while (at < n && k < AT_ONCE) s[k++] = &in->sample[row[at++]];
        rm_pairs more;
        st = rm_pairs_make(&more, in->team, in->team->only, s, k, err);
        if (st != RMAS_OK) break;
        if (!out->x) {
            *out = more;
            continue;
        }
        size_t d = (size_t)rm_crew_width(in->team, in->team->only), have = (size_t)out->n * d, add = (size_t)more.n * d;
        float *x = rm_realloc_array(out->x, have + add + 1, sizeof *x), *y = x ? rm_realloc_array(out->y, have + add + 1, sizeof *y) : NULL;
        if (x) out->x = x;
        if (y) out->y = y;
        if (y) {
            memcpy(x + have, more.x, add * sizeof *x);
            memcpy(y + have, more.y, add * sizeof *y);
            out->n += more.n;
        } else {
            st = rm_fail(err, RMAS_E_NOMEM, "out of memory for %d pairs of states", out->n + more.n);
        }
        rm_pairs_free(&more);
    }
    if (st != RMAS_OK) rm_pairs_free(out);
    return st;
}

static rmas_status do_batch(void *ctx, int64_t number, json_t *line, rm_arrays *arrays, bool *valid, double *loss, rmas_error *err) {
    inner *in = ctx;
    size_t n = in->batches.batch;
    double cosine = 0, mse = 0;
    int64_t pairs = 0, micro = in->o->grad_accum;
    size_t *row = rm_array(n, sizeof *row);
    json_t *rows = json_array();
    rmas_status st = row && rows ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    for (int64_t k = 0; k < micro && st == RMAS_OK; k++) {
        for (size_t i = 0; i < n; i++) {
            row[i] = in->train[rm_batches_at(&in->batches, number * micro + k, i)];
            json_array_append_new(rows, json_integer((json_int_t)row[i]));
        }
        rm_pairs_free(&in->pairs);
        st = batch_pairs(in, row, n, 0, &in->pairs, err);
        double c = 0, m = 0;
        if (st == RMAS_OK) st = pairs_loss(in, &in->pairs, &c, &m, true, err);
        cosine += c / (double)micro;
        mse += m / (double)micro;
        pairs += in->pairs.n;
    }
    rm_free(row);
    json_object_set_new(line, "rows", rows);
    if (st != RMAS_OK) return st;
    if (micro > 1) rm_scale(in->trainer.exec, in->trainer.v[0].grad, rm_link_n_value(in->trainer.v[0].link), 1.0 / (double)micro);
    *loss = in->o->cos_weight * cosine + in->o->mse_weight * mse;
    *valid = isfinite(*loss);
    in->trainer.v[0].used = *valid;
    json_object_set_new(line, "cosine", json_real(isfinite(cosine) ? cosine : 1e30));
    json_object_set_new(line, "mse", json_real(isfinite(mse) ? mse : 1e30));
    json_object_set_new(line, "pairs", json_integer(pairs));
    if (arrays) {
        int64_t dim[2] = {in->pairs.n, rm_link_d_in(in->trainer.v[0].link)};
        RM_TRY(rm_arrays_add(arrays, in->pairs.x, 2, dim, err, "pairs.hidden"));
        RM_TRY(rm_arrays_add(arrays, in->pairs.y, 2, dim, err, "pairs.target"));
    }
    return RMAS_OK;
}

static rmas_status held_out(void *ctx, json_t *line, double *loss, rmas_error *err) {
    inner *in = ctx;
    (void)line;
    if (!in->held_pairs.x) RM_TRY(batch_pairs(in, in->held, in->n_held, 0, &in->held_pairs, err));
    double cosine, mse;
    RM_TRY(pairs_loss(in, &in->held_pairs, &cosine, &mse, false, err));
    *loss = in->o->cos_weight * cosine + in->o->mse_weight * mse;
    return RMAS_OK;
}

/* adapter.pt and adapter_config.json as in a role folder of the releases, and the same as safetensors. */
static rmas_status save(void *ctx, const char *dir, rmas_error *err) {
    inner *in = ctx;
    const rm_link *l = in->trainer.v[0].link;
    static const char *const names[] = {"adapter.pt", "adapter.safetensors"};
    for (size_t i = 0; i < RM_COUNT(names); i++) {
        char *path = rm_path_join(dir, names[i]);
        rmas_status st = path ? rm_link_save_as(l, path, in->o->save_dtype, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
        rm_free(path);
        if (st != RMAS_OK) return st;
    }
    RM_TRY(rm_write_json(dir, "adapter_config.json", json_pack("{s:s}", "adapter_type", rm_link_type(l)), err));
    if (!in->o->in_place || strcmp(dir, in->o->save_dir) != 0) return RMAS_OK;
    char *path;
    RM_TRY(rm_crew_inner_place(in->team, in->team->only, &path, err));
    rmas_status st = rm_link_save_as(l, path, in->o->save_dtype, err);
    rm_free(path);
    return st;
}

static rmas_status write_init(const inner *in, rmas_error *err) {
    rm_arrays a = {0};
    char *path = rm_path_join(in->o->probe, "init.safetensors");
    rmas_status st = path ? rm_trainer_record(&in->trainer, &a, false, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (st == RMAS_OK) st = rm_arrays_write(&a, path, err);
    rm_arrays_free(&a);
    rm_free(path);
    return st;
}

static rmas_status prepare(inner *in, rmas_error *err) {
    const rm_train_options *o = in->o;
    RM_TRY(rm_rows_open(&in->rows, o->data, o->field, err));
    if (o->in_place) { /* before the work, not after it */
        char *place;
        RM_TRY(rm_crew_inner_place(in->team, in->team->only, &place, err));
        rm_free(place);
    }
    in->n_sample = o->num_samples >= 0 && (size_t)o->num_samples < in->rows.n ? (size_t)o->num_samples : in->rows.n;
    if (o->probe) RM_TRY(rm_mkdirs(o->probe, err));
    RM_TRY(make_samples(in, err));
    if (o->probe && o->max_steps == 0 && o->init != RM_INIT_ALIGNED && !in->team->agent[in->team->only].inner_path)
        return RMAS_OK; /* only the samples */
    size_t n_held = (size_t)o->held_out;
    RM_TRY(rm_hold_out(in->n_valid, n_held, (uint64_t)o->seed, &in->train, &in->held, err));
    in->n_held = n_held;
    in->n_train = in->n_valid - n_held;
    if (o->max_steps != 0) RM_TRY(rm_batches_init(&in->batches, in->n_train, (size_t)o->batch_size, o->shuffle, (uint64_t)o->seed, err));
    for (size_t i = 0; i < in->n_train; i++) in->train[i] = in->valid[in->train[i]];
    for (size_t i = 0; i < in->n_held; i++) in->held[i] = in->valid[in->held[i]];
    rm_link *l;
    RM_TRY(rm_crew_trained_inner(in->team, in->team->only, o->init, o->type, &l, err));
    RM_TRY(rm_trainer_add(&in->trainer, "", l, 1, err)); /* takes the link, also if it fails */
    if (o->init == RM_INIT_ALIGNED && !rm_loop_resumes(o)) {
        rm_loop_say(o, false, "fitting the first link by regression");
        rm_pairs p;
        RM_TRY(batch_pairs(in, in->train, in->n_train, 32 * (size_t)rm_link_d_in(l), &p, err)); /* several times the width is enough */
        rmas_status st = rm_align_inner(l, p.x, p.y, p.n, err);
        rm_pairs_free(&p);
        if (st != RMAS_OK) return st;
    }
    return o->probe ? write_init(in, err) : RMAS_OK;
}

/* States and caches of a batch of the longest samples; values, gradient and moments of the link. */
static rmas_status enough_memory(const inner *in, rmas_error *err) {
    const rm_model *m = rm_crew_model(in->team, in->team->only);
    size_t d = (size_t)rm_model_config(m)->d_model, longest = 0, held = 0;
    for (size_t i = 0; i < in->n_sample; i++)
        if ((size_t)in->sample[i].ids.n > longest) longest = (size_t)in->sample[i].ids.n;
    for (size_t i = 0; i < in->n_held; i++) held += (size_t)in->sample[in->held[i]].ids.n;
    size_t tokens = longest * (size_t)in->o->batch_size;
    size_t need = tokens * (rm_seq_bytes_per_token(m) + 6 * d * sizeof(float)) + held * 2 * d * sizeof(float) +
                  5 * rm_link_n_value(in->trainer.v[0].link) * sizeof(float);
    return rm_crew_memory(in->team, need, in->o->memory_limit, "less --batch_size, --max_length or --held_out", err);
}

static uint64_t fingerprint(const inner *in) {
    uint64_t h = RM_FINGERPRINT;
    for (size_t i = 0; i < in->n_sample; i++) {
        const rm_inner_sample *s = &in->sample[i];
        const int n = s->skipped ? -1 : s->ids.n;
        h = rm_fingerprint(h, &n, sizeof n);
        if (n <= 0) continue;
        h = rm_fingerprint(h, s->ids.id, (size_t)n * sizeof *s->ids.id);
        h = rm_fingerprint(h, s->mask, (size_t)n);
    }
    return h;
}

static rmas_status run(inner *in, rmas_error *err) {
    const rm_train_options *o = in->o;
    RM_TRY(prepare(in, err));
    if (o->max_steps == 0) return o->probe ? RMAS_OK : rm_fail(err, RMAS_E_ARG, "--max_steps 0 makes sense with --probe only");
    int64_t per_epoch = (int64_t)(in->batches.n / in->batches.batch);
    in->trainer.total = o->max_steps > 0 ? o->max_steps : o->epochs * per_epoch / o->grad_accum;
    rm_loop_say(o, false, "%zu rows to train on, %zu held out; %lld steps of %lld rows", in->n_train, in->n_held, (long long)in->trainer.total,
                (long long)(o->batch_size * o->grad_accum));
    RM_TRY(rm_crew_load_model(in->team, in->team->only, err));
    RM_TRY(enough_memory(in, err));
    rm_loop l = {.trainer = &in->trainer,
                 .options = o,
                 .batches = &in->batches,
                 .ctx = in,
                 .batch = do_batch,
                 .held_out = in->n_held ? held_out : NULL,
                 .save = save};
    RM_TRY(rm_train_args(&l.args, o, in->team, true, fingerprint(in), err));
    rmas_status st = rm_loop_run(&l, err);
    json_decref(l.args);
    return st;
}

rmas_status rm_train_inner(rm_crew *t, const rm_train_options *o, rmas_error *err) {
    inner in = {.team = t, .o = o, .role = o->role ? t->only : -1};
    in.trainer =
        (rm_trainer){.exec = t->exec, .adamw = RM_ADAMW_DEFAULT, .schedule = o->schedule, .warmup = o->warmup, .max_grad_norm = o->max_grad_norm};
    in.trainer.adamw.lr = o->lr;
    in.trainer.adamw.weight_decay = o->weight_decay;
    rmas_status st = run(&in, err);
    for (size_t i = 0; in.sample && i < in.n_sample; i++) rm_inner_sample_free(&in.sample[i]);
    rm_free(in.sample);
    rm_free(in.valid);
    rm_free(in.train);
    rm_free(in.held);
    rm_rows_close(&in.rows);
    rm_pairs_free(&in.pairs);
    rm_pairs_free(&in.held_pairs);
    rm_batches_free(&in.batches);
    rm_trainer_free(&in.trainer);
    return st;
}
