#include "train/loop.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/file.h"
#include "util/mem.h"
#include "util/rng.h"
#include "weights/weights.h"

void rm_loop_say(const rm_train_options *o, bool transient, const char *fmt, ...) {
    if (!o->progress) return;
    char text[512];
    va_list a;
    va_start(a, fmt);
    vsnprintf(text, sizeof text, fmt, a);
    va_end(a);
    o->progress(o->progress_ctx, text, transient);
}

rmas_status rm_write_json(const char *dir, const char *name, json_t *object, rmas_error *err) {
    char *text = object ? json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL, *path = rm_path_join(dir, name);
    json_decref(object);
    rmas_status st = text && path ? rm_file_write(path, text, strlen(text), err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    free(text);
    rm_free(path);
    return st;
}

rmas_status rm_hold_out(size_t n, size_t held, uint64_t seed, size_t **train, size_t **out, rmas_error *err) {
    enum { HELD_STREAM = 0x68656c64 };
    *train = rm_array(n + 1, sizeof **train);
    *out = rm_array(held + 1, sizeof **out);
    unsigned char *is_held = rm_calloc(n + 1, 1);
    rmas_status st = *train && *out && is_held ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (st == RMAS_OK && held >= n && held > 0)
        st = rm_fail(err, RMAS_E_ARG, "%zu rows are to be held out of %zu that count: none is left to train on", held, n);
    rm_rng r = rm_rng_make(seed, HELD_STREAM);
    for (size_t left = held; st == RMAS_OK && left > 0;) {
        size_t i = rm_rng_below(&r, n);
        if (is_held[i]) continue;
        is_held[i] = 1;
        left--;
    }
    size_t a = 0, b = 0;
    for (size_t i = 0; i < n && st == RMAS_OK; i++)
        if (is_held[i])
            (*out)[b++] = i;
        else
            (*train)[a++] = i;
    rm_free(is_held);
    return st;
}

uint64_t rm_fingerprint(uint64_t h, const void *data, size_t n) {
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

/* Names, shapes and some bytes of all tensors of a file: training nearly always changes some of them. */
static rmas_status file_fingerprint(uint64_t *h, const char *path, rmas_error *err) {
    enum { PIECE = 64, PIECES = 16 };
    rm_weights *w;
    RM_TRY(rm_weights_open(&w, path, err));
    for (int i = 0; i < rm_weights_count(w); i++) {
        const rm_tensor *t = rm_weights_at(w, i);
        *h = rm_fingerprint(*h, t->name, strlen(t->name) + 1);
        *h = rm_fingerprint(*h, t->dim, (size_t)t->n_dim * sizeof *t->dim);
        for (size_t k = 0; k < PIECES; k++) {
            const size_t at = t->n_bytes > PIECE ? (t->n_bytes - PIECE) / (PIECES - 1) * k : 0;
            *h = rm_fingerprint(*h, (const char *)t->data + at, t->n_bytes < PIECE ? t->n_bytes : PIECE);
        }
    }
    rm_weights_close(w);
    return RMAS_OK;
}

static rmas_status frozen_fingerprint(uint64_t *h, const rm_crew *t, bool inner, rmas_error *err) {
    uint64_t model[RM_TRAIN_ROLES];
    *h = RM_FINGERPRINT;
    for (int r = 0; r < t->style.n_role; r++) {
        const rm_crew_agent *a = &t->agent[r];
        if (!a->path) continue;
        model[r] = a->same_as < r ? model[a->same_as] : RM_FINGERPRINT;
        if (a->same_as == r) RM_TRY(file_fingerprint(&model[r], a->path, err));
        *h = rm_fingerprint(*h, &model[r], sizeof model[r]);
        if (inner) continue;
        if (a->inner_path)
            RM_TRY(file_fingerprint(h, a->inner_path, err));
        else /* made from it */
            *h = rm_fingerprint(*h, &t->system->init_seed, sizeof t->system->init_seed);
        if (a->inner) *h = rm_fingerprint(*h, rm_link_type(a->inner), strlen(rm_link_type(a->inner)));
    }
    return RMAS_OK;
}

/* NULL: out of memory. */
static json_t *train_args(const rm_train_options *o, const rm_crew *t, bool inner, uint64_t samples, uint64_t frozen) {
    static const char *const init[] = {"checkpoint", "random", "aligned"};
    json_t *a = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s, s:b, s:I, s:I}", "loop",
                          inner ? "inner" : "outer", "system", t->system->name, "data", o->data, "mas_task", rm_task_name(t->prompts.task), "init",
                          init[o->init], "seed", (json_int_t)o->seed, "max_length", (json_int_t)o->max_length, "batch_size",
                          (json_int_t)o->batch_size, "max_steps", (json_int_t)o->max_steps, "num_train_epochs", (json_int_t)o->epochs, "warmup_steps",
                          (json_int_t)o->warmup, inner ? "adapter_lr" : "outer_lr", o->lr, "weight_decay", o->weight_decay, "max_grad_norm",
                          o->max_grad_norm, "lr_scheduler_type", o->schedule == RM_SCHEDULE_COSINE ? "cosine" : "constant", "shuffle", o->shuffle,
                          "num_samples", (json_int_t)o->num_samples, "held_out", (json_int_t)o->held_out);
    if (!a) return NULL;
    json_t *more = inner
                       ? json_pack("{s:s, s:f, s:f}", "role", o->role ? o->role : "none", "adapter_cos_weight", o->cos_weight, "adapter_mse_weight",
                                   o->mse_weight)
                       : json_pack("{s:i, s:b, s:f, s:I, s:s, s:s, s:I, s:I, s:f}", "num_recursive_rounds", o->rounds, "supervise_final_only",
                                   o->final_only, "non_last_loss_weight", o->non_last_weight, "max_latent_tokens", (json_int_t)o->max_latent,
                                   "latents", o->rollout ? "rollout" : "gold", "feedback", o->rollout_feedback ? "rollout" : "gold", "latent_length",
                                   (json_int_t)o->latent_length, "truncate", (json_int_t)o->truncate, "max_message_grad", o->max_message_grad);
    char print[2][20];
    snprintf(print[0], sizeof print[0], "%016llx", (unsigned long long)samples);
    snprintf(print[1], sizeof print[1], "%016llx", (unsigned long long)frozen);
    const rm_train_chat *chat = NULL; /* what prompts depend on: today's date by default */
    for (int r = 0; r < t->style.n_role && !chat; r++)
        if (t->agent[r].path) chat = &t->agent[r].chat;
    char date[32] = "";
    if (chat) snprintf(date, sizeof date, "%04d-%02d-%02d", chat->date.year, chat->date.month, chat->date.day);
    bool ok = more && json_object_update(a, more) == 0 && json_object_set_new(a, "date", json_string(date)) == 0 &&
              json_object_set_new(a, "samples", json_string(print[0])) == 0 && json_object_set_new(a, "frozen", json_string(print[1])) == 0 &&
              json_object_set_new(a, "enable_thinking", json_boolean(chat && chat->enable_thinking)) == 0 &&
              json_object_set_new(a, "dtype", json_string(t->precision == RM_EXACT ? "f32" : "native")) == 0 &&
              json_object_set_new(a, "type", o->type ? json_string(o->type) : json_null()) == 0 &&
              json_object_set_new(a, "grad_accum_steps", json_integer(o->grad_accum)) == 0;
    for (int i = 0; ok && i < o->n_edge_type; i++) {
        char field[80];
        snprintf(field, sizeof field, "%.70s_type", o->edge_type[i].key);
        ok = json_object_set_new(a, field, json_string(o->edge_type[i].type)) == 0;
    }
    json_decref(more);
    if (ok) return a;
    json_decref(a);
    return NULL;
}

rmas_status rm_train_args(json_t **out, const rm_train_options *o, const rm_crew *t, bool inner, uint64_t samples, rmas_error *err) {
    uint64_t frozen;
    RM_TRY(frozen_fingerprint(&frozen, t, inner, err));
    *out = train_args(o, t, inner, samples, frozen);
    return *out ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
}

/* ---- state on disk ------------------------------------------------------------------------------------------------------------- */

enum { N_COUNTER = 6 };
typedef struct {
    int64_t number, logged; /* batches seen; rows of the log */
    int64_t best_step, bad; /* bad: evaluations since the best one */
    double best; /* NAN: none yet */
    double loss_sum;
    int64_t loss_n; /* losses since the last line for people */
} progress;

static rmas_status state_arrays(const rm_loop *l, rm_arrays *a, int64_t *counter, int64_t *times, rmas_error *err) {
    const rm_trainer *t = l->trainer;
    for (int i = 0; i < t->n; i++) {
        const rm_trainee *v = &t->v[i];
        int64_t n = (int64_t)rm_link_n_value(v->link);
        times[i] = v->adam.t;
        RM_TRY(rm_arrays_add(a, rm_link_values(v->link), 1, &n, err, "value.%d", i));
        RM_TRY(rm_arrays_add(a, v->adam.m, 1, &n, err, "m.%d", i));
        RM_TRY(rm_arrays_add(a, v->adam.v, 1, &n, err, "v.%d", i));
    }
    RM_TRY(rm_arrays_add_i64(a, times, t->n, err, "times"));
    return rm_arrays_add_i64(a, counter, N_COUNTER, err, "counters");
}

static rmas_status write_state(const rm_loop *l, const progress *p, rmas_error *err) {
    int64_t counter[N_COUNTER] = {l->trainer->step, p->number, p->best_step, p->bad, 0, p->logged}, times[RM_TRAIN_EDGES];
    memcpy(&counter[4], &p->best, sizeof(double));
    rm_arrays a = {0};
    char *path = rm_path_join(l->options->save_dir, "state.safetensors");
    rmas_status st = path ? state_arrays(l, &a, counter, times, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (st == RMAS_OK) st = rm_arrays_write(&a, path, err);
    rm_arrays_free(&a);
    rm_free(path);
    return st;
}

static rmas_status take(const rm_weights *w, const char *path, const char *name, rm_dtype dtype, void *out, size_t n, rmas_error *err) {
    const rm_tensor *t = rm_weights_find(w, name);
    if (!t || t->dtype != dtype || (size_t)rm_tensor_count(t) != n)
        return rm_fail(err, RMAS_E_FORMAT, "%s: tensor '%s' is not what this run needs: it is the state of another run", path, name);
    memcpy(out, t->data, t->n_bytes);
    return RMAS_OK;
}

/* Every step had a batch, every batch a line in the log; the best links were seen at a step, and a link has no more updates than there were steps. */
static bool possible(const rm_loop *l, const int64_t *counter, const int64_t *times) {
    const int64_t step = counter[0], number = counter[1], best_step = counter[2], bad = counter[3], logged = counter[5];
    bool ok = step >= 0 && step <= l->trainer->total && number >= step && number < INT64_MAX / (l->options->grad_accum + 1) && logged >= number &&
              best_step >= 0 && best_step <= step && bad >= 0;
    for (int i = 0; i < l->trainer->n; i++) ok = ok && times[i] >= 0 && times[i] <= step;
    return ok;
}

static rmas_status read_state(rm_loop *l, progress *p, const char *path, rmas_error *err) {
    rm_weights *w;
    RM_TRY(rm_weights_open(&w, path, err));
    rm_trainer *t = l->trainer;
    int64_t counter[N_COUNTER], times[RM_TRAIN_EDGES];
    rmas_status st = take(w, path, "counters", RM_I64, counter, N_COUNTER, err);
    if (st == RMAS_OK) st = take(w, path, "times", RM_I64, times, (size_t)t->n, err);
    for (int i = 0; i < t->n && st == RMAS_OK; i++) {
        rm_trainee *v = &t->v[i];
        size_t n = rm_link_n_value(v->link);
        char name[32];
        snprintf(name, sizeof name, "value.%d", i);
        st = take(w, path, name, RM_F32, rm_link_values(v->link), n, err);
        snprintf(name, sizeof name, "m.%d", i);
        if (st == RMAS_OK) st = take(w, path, name, RM_F32, v->adam.m, n, err);
        snprintf(name, sizeof name, "v.%d", i);
        if (st == RMAS_OK) st = take(w, path, name, RM_F32, v->adam.v, n, err);
        v->adam.t = times[i];
        if (st == RMAS_OK) st = rm_link_changed(v->link, err);
    }
    rm_weights_close(w);
    if (st != RMAS_OK) return st;
    if (!possible(l, counter, times))
        return rm_fail(err, RMAS_E_FORMAT, "%s: its counters are those of no run: the file is damaged; begin again in another --save_dir", path);
    t->step = counter[0];
    p->number = counter[1];
    p->best_step = counter[2];
    p->bad = counter[3];
    memcpy(&p->best, &counter[4], sizeof(double));
    p->logged = counter[5];
    return RMAS_OK;
}

/* The settings of the run that is to go on must be those it began with. */
static rmas_status same_args(const rm_loop *l, rmas_error *err) {
    char *path = rm_path_join(l->options->save_dir, "train_args.json"), *text = NULL;
    size_t n;
    if (!path) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rmas_status st = rm_file_read(&text, &n, path, 1 << 20, err);
    json_t *old = st == RMAS_OK ? json_loadb(text, n, 0, NULL) : NULL;
    if (st == RMAS_OK && !json_is_object(old)) st = rm_fail(err, RMAS_E_FORMAT, "%s: not a JSON object", path);
    const char *key;
    json_t *value;
    json_object_foreach(l->args, key, value) {
        const bool samples = !strcmp(key, "samples"), frozen = !strcmp(key, "frozen");
        if (st != RMAS_OK || json_equal(value, json_object_get(old, key)) || !strcmp(key, "date"))
            continue; /* another day may give the same prompts */
        const bool unknown = samples || frozen || (!strcmp(key, "max_message_grad") && json_real_value(value) == 0);
        if (unknown && !json_object_get(old, key)) continue; /* of an earlier version, which did not write it */
        if (frozen) {
            st = rm_fail(err, RMAS_E_ARG, "--resume: a model or a frozen inner link is not the one of the run of %s", path);
            continue;
        }
        if (samples) {
            st = rm_fail(
                err, RMAS_E_ARG,
                "--resume: the samples are not those of the run of %s: rows of %s, prompts, tokenizers or (if a chat template prints it) the date "
                "have changed",
                path, l->options->data);
            continue;
        }
        char *a = json_dumps(json_object_get(old, key), JSON_ENCODE_ANY), *b = json_dumps(value, JSON_ENCODE_ANY);
        st = rm_fail(err, RMAS_E_ARG, "--resume: %s was %s in the run of %s and is %s now", key, a ? a : "absent", path, b ? b : "?");
        free(a);
        free(b);
    }
    json_decref(old);
    rm_free(text);
    rm_free(path);
    return st;
}

/* Keeps the first `lines` lines of the log: what came after the state was written is done again. */
static rmas_status cut_log(const char *dir, int64_t lines, rmas_error *err) {
    char *path = rm_path_join(dir, "log.jsonl"), *text = NULL;
    size_t n = 0, end = 0;
    if (!path) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rmas_status st = rm_path_exists(path) ? rm_file_read(&text, &n, path, (size_t)1 << 32, err) : RMAS_OK;
    while (text && end < n && lines > 0)
        if (text[end++] == '\n') lines--;
    if (st == RMAS_OK) st = rm_file_write(path, text ? text : "", end, err);
    rm_free(text);
    rm_free(path);
    return st;
}

/* ---- the run ------------------------------------------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static rmas_status save_links(const rm_loop *l, const char *sub, rmas_error *err) {
    char *dir = sub ? rm_path_join(l->options->save_dir, sub) : rm_strdup(l->options->save_dir);
    rmas_status st = dir ? rm_mkdirs(dir, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (st == RMAS_OK) st = l->save(l->ctx, dir, err);
    rm_free(dir);
    return st;
}

/* Held-out loss; the best links so far are kept in the folder itself. */
static rmas_status evaluate(rm_loop *l, progress *p, json_t *line, bool *stop, rmas_error *err) {
    const rm_train_options *o = l->options;
    double loss;
    RM_TRY(l->held_out(l->ctx, line, &loss, err));
    json_object_set_new(line, "held_out_loss", json_real(isfinite(loss) ? loss : 1e30));
    bool better = isfinite(loss) && !(p->best <= loss);
    if (better) {
        p->best = loss;
        p->best_step = l->trainer->step;
        p->bad = 0;
        if (o->save_dir) RM_TRY(save_links(l, NULL, err));
    } else {
        p->bad++;
    }
    *stop = o->patience > 0 && p->bad >= o->patience;
    rm_loop_say(o, false, "step %lld: held-out loss %.4f%s", (long long)l->trainer->step, loss, better ? " (best)" : "");
    return RMAS_OK;
}

static void say_step(rm_loop *l, progress *p, double loss, double seconds, int64_t done_here) {
    const rm_train_options *o = l->options;
    const rm_trainer *t = l->trainer;
    p->loss_sum += loss;
    p->loss_n++;
    bool line = o->log_every > 0 && (t->step % o->log_every == 0 || t->step == t->total);
    double each = done_here ? seconds / (double)done_here : 0, left = each * (double)(t->total - t->step);
    rm_loop_say(o, !line, "step %lld/%lld  loss %.4f  norm %.3g  rate %.3g  %.2f s/step  %d:%02d:%02d left", (long long)t->step, (long long)t->total,
                p->loss_sum / (double)p->loss_n, t->norm, t->adamw.lr * t->factor, each, (int)(left / 3600), (int)(left / 60) % 60, (int)left % 60);
    if (line) p->loss_sum = 0, p->loss_n = 0;
}

static rmas_status record_step(rm_loop *l, rm_arrays *a, rmas_error *err) {
    char name[40];
    snprintf(name, sizeof name, "step%06lld.safetensors", (long long)l->trainer->step);
    char *path = rm_path_join(l->options->probe, name);
    rmas_status st = path ? rm_trainer_record(l->trainer, a, true, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (st == RMAS_OK) st = rm_arrays_write(a, path, err);
    rm_free(path);
    return st;
}

/* One batch and, if it counts, one step. */
static rmas_status do_batch(rm_loop *l, progress *p, json_t *line, bool *stepped, double *loss, rmas_error *err) {
    rm_trainer *t = l->trainer;
    rm_arrays arrays = {0};
    *stepped = false;
    rm_trainer_zero(t);
    json_object_set_new(line, "step", json_integer(t->step + 1));
    rmas_status st = l->batch(l->ctx, p->number, line, l->options->probe ? &arrays : NULL, stepped, loss, err);
    if (st == RMAS_OK) p->number++;
    if (st == RMAS_OK && *stepped) {
        st = rm_trainer_step(t, stepped, err);
        if (!*stepped) json_object_set_new(line, "no_step", json_string("the gradient is not finite"));
        json_object_set_new(line, "loss", json_real(*loss));
        json_object_set_new(line, "norm", json_real(isfinite(t->norm) ? t->norm : 1e30));
        json_object_set_new(line, "factor", json_real(t->factor));
        if (t->n > 1 || *t->v[0].key) {
            json_t *norms = json_object();
            for (int i = 0; i < t->n; i++) json_object_set_new(norms, t->v[i].key, json_real(t->v[i].norm));
            json_object_set_new(line, "link_norms", norms);
        }
        if (st == RMAS_OK && *stepped && l->options->probe) st = record_step(l, &arrays, err);
    }
    rm_arrays_free(&arrays);
    if (l->recorded) l->recorded(l->ctx);
    return st;
}

/* Where the run begins: what every later loss is compared with, and the links to keep if none is better. */
static rmas_status evaluate_start(rm_loop *l, progress *p, rm_lines *log, rmas_error *err) {
    json_t *line = json_pack("{s:i}", "step", 0);
    bool stop;
    rmas_status st = line ? evaluate(l, p, line, &stop, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (st != RMAS_OK) {
        json_decref(line);
        return st;
    }
    p->logged++;
    return rm_lines_add(log, line, err);
}

static rmas_status steps(rm_loop *l, progress *p, rm_lines *log, rmas_error *err) {
    const rm_train_options *o = l->options;
    rm_trainer *t = l->trainer;
    double begin = now(), written = begin;
    int64_t first = t->step, empty = 0;
    bool stop = o->patience > 0 && p->bad >= o->patience;
    while (t->step < t->total && !stop) {
        RM_TRY(rm_train_going_on(o, err));
        json_t *line = json_object();
        bool stepped;
        double loss = 0;
        rmas_status st = line ? do_batch(l, p, line, &stepped, &loss, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
        if (st == RMAS_OK && stepped && l->held_out && o->eval_every > 0 && (t->step % o->eval_every == 0 || t->step == t->total))
            st = evaluate(l, p, line, &stop, err);
        if (st != RMAS_OK) {
            json_decref(line);
            return st;
        }
        RM_TRY(rm_lines_add(log, line, err));
        p->logged++;
        empty = stepped ? 0 : empty + 1;
        if (empty > (int64_t)(l->batches->n / l->batches->batch))
            return rm_fail(err, RMAS_E_ARG, "%s: no row counted in a whole epoch; the log says why each was skipped", o->data);
        if (!stepped) continue;
        say_step(l, p, loss, now() - begin, t->step - first);
        const bool checkpoint = o->save_dir && o->save_steps > 0 && t->step % o->save_steps == 0;
        if (checkpoint) {
            char name[40];
            snprintf(name, sizeof name, "checkpoint-%lld", (long long)t->step);
            RM_TRY(save_links(l, name, err));
        }
        if (checkpoint || (o->save_dir && o->save_minutes > 0 && now() - written >= 60 * o->save_minutes)) {
            RM_TRY(write_state(l, p, err));
            written = now();
        }
    }
    return RMAS_OK;
}

bool rm_loop_resumes(const rm_train_options *o) {
    char *state = o->resume && o->save_dir && !o->probe ? rm_path_join(o->save_dir, "state.safetensors") : NULL;
    bool there = state && rm_path_exists(state);
    rm_free(state);
    return there;
}

/* A run that writes into its folder, which nobody else does meanwhile. */
static rmas_status run_in_folder(rm_loop *l, rmas_error *err) {
    const rm_train_options *o = l->options;
    progress p = {.best = NAN};
    rm_lines log = {0};
    char *state = rm_path_join(o->save_dir, "state.safetensors");
    if (!state) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    bool there = rm_path_exists(state);
    rmas_status st = RMAS_OK;
    if (there && !o->resume)
        st = rm_fail(err, RMAS_E_ARG, "%s: holds the state of a run already: go on with --resume, or take another --save_dir", o->save_dir);
    if (there && st == RMAS_OK) st = same_args(l, err);
    if (there && st == RMAS_OK) st = read_state(l, &p, state, err);
    if (st == RMAS_OK) st = cut_log(o->save_dir, p.logged, err);
    if (st == RMAS_OK && !there) st = rm_write_json(o->save_dir, "train_args.json", json_incref(l->args), err);
    if (st == RMAS_OK && there) rm_loop_say(o, false, "going on after step %lld", (long long)l->trainer->step);
    rm_free(state);
    if (st == RMAS_OK) st = rm_lines_open(&log, o->save_dir, "log.jsonl", true, err);
    if (st == RMAS_OK) st = rm_train_going_on(o, err);
    if (st == RMAS_OK && l->held_out && p.logged == 0) st = evaluate_start(l, &p, &log, err);
    if (st == RMAS_OK) st = steps(l, &p, &log, err);
    const bool cancelled = st == RMAS_E_CANCELLED;
    if (cancelled) st = RMAS_OK;
    const rmas_status end = rm_lines_close(&log, st == RMAS_OK ? err : NULL);
    if (st == RMAS_OK) st = end;
    if (st == RMAS_OK) st = write_state(l, &p, err);
    if (st == RMAS_OK) st = save_links(l, l->held_out ? "last" : NULL, err);
    if (st == RMAS_OK && cancelled)
        return rm_fail(err, RMAS_E_CANCELLED, "interrupted after step %lld of %lld; --resume goes on", (long long)l->trainer->step,
                       (long long)l->trainer->total);
    if (st == RMAS_OK && l->held_out && !isnan(p.best)) rm_loop_say(o, false, "best held-out loss %.4f at step %lld", p.best, (long long)p.best_step);
    return st;
}

rmas_status rm_loop_run(rm_loop *l, rmas_error *err) {
    const rm_train_options *o = l->options;
    progress p = {.best = NAN};
    rm_lines log = {0};
    if (o->probe) {
        if (l->trainer->total == 0) return RMAS_OK;
        RM_TRY(rm_lines_open(&log, o->probe, "steps.jsonl", false, err));
        rmas_status st = steps(l, &p, &log, err), end = rm_lines_close(&log, err);
        return st != RMAS_OK ? st : end;
    }
    if (l->trainer->total < 1)
        return rm_fail(err, RMAS_E_ARG, "%zu rows in %lld epochs make no step of %lld rows: less --batch_size or --grad_accum_steps, or more epochs",
                       l->batches->n, (long long)o->epochs, (long long)(o->batch_size * o->grad_accum));
    if (!o->save_dir) return rm_fail(err, RMAS_E_ARG, "--save_dir DIR is needed: where the trained links go");
    RM_TRY(rm_mkdirs(o->save_dir, err));
    int lock;
    RM_TRY(rm_dir_lock(&lock, o->save_dir, err));
    rmas_status st = run_in_folder(l, err);
    if (lock >= 0) close(lock);
    return st;
}
