/* Sessions: bitwise invariance of results, clones, gradients and tapes. */
#include "model_fixture.h"
#include "session/seq.h"

/* ---- forward ------------------------------------------------------------------------------------------------------------ */

/* Hidden states of a sequence fed in pieces whose lengths are given (the last one takes the rest). */
static void forward_cut(const fixture *f, const int *piece, int n_piece, float *hidden) {
    rm_batch *b;
    rm_seq *s;
    OK(rm_batch_new(&b, f->model, err));
    OK(rm_seq_new(&s, f->model, err));
    for (int at = 0, i = 0; at < f->n; i++) {
        int n = i < n_piece && piece[i] < f->n - at ? piece[i] : f->n - at;
        rm_feed feed = {.seq = s, .n = n, .tokens = f->tokens + at};
        rm_tap tap = {.hidden = hidden + (size_t)at * (size_t)f->d};
        OK(rm_batch_forward_tap(b, &feed, 1, &tap, err));
        at += n;
    }
    rm_seq_free(s);
    rm_batch_free(b);
}

static void test_cuts_and_threads(void **state) {
    (void)state;
    for (int k = 0; k < N_FIXTURE; k++) {
        float *want = NULL, *got = NULL;
        for (int n_thread = 1; n_thread <= 3; n_thread++) {
            fixture f = fixture_open(fixture_names[k], fixture_names[k], n_thread, NULL);
            size_t n = (size_t)f.n * (size_t)f.d;
            int ones[128];
            for (int i = 0; i < 128; i++) ones[i] = 1;
            const int odd[] = {1, 6, 2, 31, 3};
            if (!want) {
                want = floats(n), got = floats(n);
                forward_cut(&f, NULL, 0, want);
            }
            forward_cut(&f, NULL, 0, got);
            assert_same(fixture_names[k], got, want, n);
            forward_cut(&f, odd, 5, got);
            assert_same(fixture_names[k], got, want, n);
            forward_cut(&f, ones, 128, got);
            assert_same(fixture_names[k], got, want, n);
            fixture_close(&f);
        }
        rm_free(want);
        rm_free(got);
    }
}

static void step(rm_batch *b, rm_seq *s, const int32_t *tokens, int n, float *hidden, size_t d) {
    rm_feed feed = {.seq = s, .n = n, .tokens = tokens};
    OK(rm_batch_forward(b, &feed, 1, err));
    memcpy(hidden, rm_batch_hidden(b, 0), d * sizeof *hidden);
}

/* Far more keys than attention sums at once: the last positions one by one, with threads that share the keys of a position. */
static void test_long(void **state) {
    (void)state;
    enum { N = 1150, LAST = 4 };
    for (int k = 0; k < N_FIXTURE; k++) {
        float want[LAST * 64], got[64];
        for (int n_thread = 1; n_thread <= 5; n_thread += 2) {
            fixture f = fixture_open(fixture_names[k], fixture_names[k], n_thread, NULL);
            size_t d = (size_t)f.d;
            int32_t *tokens = rm_array(N, sizeof *tokens);
            for (int i = 0; i < N; i++) tokens[i] = f.tokens[(i * 7 + i / f.n) % f.n];
            rm_batch *b;
            rm_seq *s;
            OK(rm_batch_new(&b, f.model, err));
            OK(rm_seq_new(&s, f.model, err));
            if (n_thread == 1) {
                float *hidden = floats(N * d);
                rm_feed feed = {.seq = s, .n = N, .tokens = tokens};
                OK(rm_batch_forward_tap(b, &feed, 1, &(rm_tap){.hidden = hidden}, err));
                memcpy(want, hidden + (N - LAST) * d, LAST * d * sizeof *want);
                rm_free(hidden);
            } else {
                rm_feed feed = {.seq = s, .n = N - LAST, .tokens = tokens};
                OK(rm_batch_forward(b, &feed, 1, err));
                for (int i = 0; i < LAST; i++) {
                    step(b, s, tokens + N - LAST + i, 1, got, d);
                    assert_same(fixture_names[k], got, want + (size_t)i * d, d);
                }
            }
            rm_seq_free(s);
            rm_batch_free(b);
            rm_free(tokens);
            fixture_close(&f);
        }
    }
}

/* Sequences of other lengths beside it, in any order, change nothing; nor do rows beyond one pass. */
static void test_neighbours(void **state) {
    (void)state;
    enum { N = 11 };
    for (int k = 0; k < N_FIXTURE; k++) {
        fixture f = fixture_open(fixture_names[k], fixture_names[k], 2, NULL);
        size_t d = (size_t)f.d, v = (size_t)f.v;
        float *want = floats((size_t)f.n * d), *hidden = floats((size_t)(N * f.n) * d), *logits = floats(v);
        forward_cut(&f, NULL, 0, want);
        rm_batch *b;
        rm_seq *s[N];
        rm_feed feed[N];
        OK(rm_batch_new(&b, f.model, err));
        for (int turn = 0; turn < 2; turn++) {
            int total = 0;
            for (int i = 0; i < N; i++) {
                OK(rm_seq_new(&s[i], f.model, err));
                int n = !turn ? f.n : i % 4 == 1 ? 1 : 1 + (i * 29) % f.n; /* and steps between prompts: they go in passes of their own */
                feed[i] = (rm_feed){.seq = s[i], .n = n, .tokens = f.tokens, .want_logits = i % 2 == 0, .step = n == 1};
                total += feed[i].n;
            }
            rm_tap tap = {.hidden = hidden};
            OK(rm_batch_forward_tap(b, feed, N, &tap, err));
            for (int i = 0, at = 0; i < N; at += feed[i++].n) {
                assert_same(fixture_names[k], hidden + (size_t)at * d, want, (size_t)feed[i].n * d);
                assert_same(fixture_names[k], rm_batch_hidden(b, i), want + (size_t)(feed[i].n - 1) * d, d);
                assert_int_equal(rm_batch_logits(b, i) != NULL, i % 2 == 0);
            }
            if (turn == 0) {
                memcpy(logits, rm_batch_logits(b, 0), v * sizeof *logits);
                assert_same("logits of equal sequences", rm_batch_logits(b, 10), logits, v);
            }
            for (int i = 0; i < N; i++) rm_seq_free(s[i]);
        }
        rm_batch_free(b);
        rm_free(want);
        rm_free(hidden);
        rm_free(logits);
        fixture_close(&f);
    }
}

/* Clones go on as if each had computed the past itself, also when the original is gone. */
static void test_clones(void **state) {
    (void)state;
    for (int k = 0; k < N_FIXTURE; k++) {
        fixture f = fixture_open(fixture_names[k], fixture_names[k], 1, NULL);
        size_t d = (size_t)f.d;
        float a[64], c[64], want[64];
        for (int at = 1; at < f.n - 1; at += 21) {
            rm_batch *b;
            rm_seq *s, *t, *u;
            const int32_t other[] = {5, 6, 7};
            OK(rm_batch_new(&b, f.model, err));
            OK(rm_seq_new(&s, f.model, err));
            step(b, s, f.tokens, at, a, d);
            OK(rm_seq_clone(&t, s, err));
            OK(rm_seq_clone(&u, s, err));
            step(b, s, other, 3, a, d);
            step(b, t, f.tokens + at, f.n - at, c, d);
            rm_seq_free(s);
            rm_seq_free(t);
            OK(rm_seq_clone(&t, u, err));
            rm_seq_free(u);
            step(b, t, other, 3, want, d);
            assert_same("a clone after its original", want, a, d);
            OK(rm_seq_new(&s, f.model, err));
            step(b, s, f.tokens, f.n, want, d);
            assert_same("a clone", c, want, d);
            rm_seq_free(s);
            rm_seq_free(t);
            rm_batch_free(b);
        }
        fixture_close(&f);
    }
}

static void test_batch_errors(void **state) {
    (void)state;
    fixture f = fixture_open("qwen3", "qwen3", 1, NULL);
    rm_batch *b;
    rm_seq *s;
    rmas_error e = {0};
    OK(rm_batch_new(&b, f.model, err));
    OK(rm_seq_new(&s, f.model, err));
    rm_feed feed = {.seq = s, .n = 2, .tokens = (int32_t[]){4, f.v}};
    assert_int_equal(rm_batch_forward(b, &feed, 1, &e), RMAS_E_ARG);
    feed.tokens = (int32_t[]){4, -1};
    assert_int_equal(rm_batch_forward(b, &feed, 1, &e), RMAS_E_ARG);
    feed.n = 0;
    assert_int_equal(rm_batch_forward(b, &feed, 1, &e), RMAS_E_ARG);
    rm_feed twice[] = {{.seq = s, .n = 1, .tokens = f.tokens}, {.seq = s, .n = 1, .tokens = f.tokens}};
    assert_int_equal(rm_batch_forward(b, twice, 2, &e), RMAS_E_ARG);
    OK(rm_batch_forward(b, twice, 1, err)); /* refused calls do no harm */
    assert_int_equal(rm_seq_len(s), 1);
    feed = (rm_feed){.seq = s, .n = f.n, .tokens = f.tokens};
    volatile sig_atomic_t cancel = 0;
    rm_batch_watch(b, &cancel);
    OK(rm_batch_forward(b, twice, 1, err));
    cancel = 1;
    assert_int_equal(rm_batch_forward(b, twice, 1, &e), RMAS_E_CANCELLED);
    cancel = 0;
    assert_int_equal(rm_batch_forward(b, twice, 1, &e), RMAS_E_ARG); /* the sequence is broken, the batch is not */
    rm_seq_free(s);
    OK(rm_seq_new(&s, f.model, err));
    twice[0].seq = s;
    OK(rm_batch_forward(b, twice, 1, err));
    bool done = false; /* every allocation fails in turn: an error, and the sequence is refused afterwards */
    for (long i = 1; !done && i < 10000; i++) {
        rm_batch *fresh;
        rm_seq *t;
        OK(rm_seq_new(&t, f.model, err));
        OK(rm_batch_new(&fresh, f.model, err));
        feed.seq = t;
        rm_mem_fail_after(i);
        done = rm_batch_forward(fresh, &feed, 1, &e) == RMAS_OK;
        rm_mem_fail_after(0);
        rm_batch_free(fresh);
        rm_seq_free(t);
    }
    assert_true(done);
    rm_seq_free(s);
    rm_batch_free(b);
    fixture_close(&f);
}

/* ---- gradients ----------------------------------------------------------------------------------------------------------- */

/* Pushes the tokens and pops them, both in pieces. */
static void gradient(const fixture *f, const int *push, const int *pop, const float *d_hidden, float *hidden, float *d_embeds) {
    rm_tape *t;
    size_t d = (size_t)f->d;
    OK(rm_tape_new(&t, f->model, false, err));
    OK(rm_tape_begin(t, 1, NULL, err));
    for (int at = 0, n; at < f->n; at += n) {
        n = *push && *push < f->n - at ? *push++ : f->n - at;
        rm_tape_rows rows = {.n = n, .tokens = f->tokens + at, .hidden = hidden + (size_t)at * d};
        OK(rm_tape_push(t, &rows, 1, err));
    }
    for (int at = f->n, n; at > 0; at -= n) {
        n = *pop && *pop < at ? *pop++ : at;
        rm_tape_grads g = {.n = n, .d_hidden = d_hidden + (size_t)(at - n) * d, .d_embeds = d_embeds + (size_t)(at - n) * d};
        OK(rm_tape_pop(t, &g, 1, err));
    }
    rm_tape_free(t);
}

static void test_gradients(void **state) {
    (void)state;
    const int whole[] = {0}, odd[] = {3, 40, 1, 1, 0}, ones[] = {1, 1, 1, 1, 1, 1, 1, 1, 9, 0};
    static const char *const isa[] = {NULL, "portable"};
    for (int k = 0; k < 2 * N_FIXTURE; k++) {
        const char *name = fixture_names[k % N_FIXTURE];
        fixture f = fixture_open(name, name, 2, isa[k / N_FIXTURE]);
        size_t n = (size_t)f.n * (size_t)f.d;
        float *hidden = floats(n), *again = floats(n), *got = floats(n), *want = floats(n), *d_hidden = floats(n);
        const float *proj = golden_f32(&f, "proj");
        gradient(&f, whole, whole, proj, hidden, want);
        assert_near(name, "hidden", hidden, golden_f32(&f, "hidden"), n);
        assert_near(name, "grad_proj", want, golden_f32(&f, "grad_proj"), n);
        const int *cut[][2] = {{odd, whole}, {whole, odd}, {ones, ones}, {odd, ones}};
        for (size_t i = 0; i < RM_COUNT(cut); i++) {
            gradient(&f, cut[i][0], cut[i][1], proj, again, got);
            assert_same("hidden of a cut tape", again, hidden, n);
            assert_same("gradient of a cut tape", got, want, n);
        }
        int32_t label[256];
        int count = 0, n_loss;
        double loss;
        for (int i = 0; i < f.n; i++) count += (label[i] = (int32_t)golden_i64(&f, "labels", i)) >= 0;
        OK(rm_cross_entropy(f.model, hidden, label, f.n, 1 / (float)count, &loss, &n_loss, d_hidden, err));
        assert_int_equal(n_loss, count);
        assert_near(name, "ce", (float[]){(float)(loss / count)}, golden_f32(&f, "ce"), 1);
        gradient(&f, whole, whole, d_hidden, again, got);
        assert_near(name, "grad_ce", got, golden_f32(&f, "grad_ce"), n);
        float *all[] = {hidden, again, got, want, d_hidden};
        for (size_t i = 0; i < RM_COUNT(all); i++) rm_free(all[i]);
        fixture_close(&f);
    }
}

/* Tokens left out of the head's gradient: states so large that most of the vocabulary has next to no probability. */
static void test_small_gradients(void **state) {
    (void)state;
    const float sharp[] = {1, 20, 400};
    for (int k = 0; k < N_FIXTURE; k++) {
        fixture f[2];
        float *d_hidden[2];
        for (size_t i = 0; i < RM_COUNT(sharp); i++) {
            double loss[2];
            for (int native = 0; native < 2; native++) {
                f[native] = fixture_open_as(fixture_names[k], fixture_names[k], 2, NULL, native ? RM_NATIVE : RM_EXACT);
                const size_t n = (size_t)f[native].n * (size_t)f[native].d;
                float *hidden = floats(n);
                d_hidden[native] = floats(n);
                for (size_t j = 0; j < n; j++) hidden[j] = sharp[i] * golden_f32(&f[native], "hidden")[j];
                int n_loss;
                OK(rm_cross_entropy(f[native].model, hidden, f[native].tokens, f[native].n, 1, &loss[native], &n_loss, d_hidden[native], err));
                rm_free(hidden);
            }
            const size_t n = (size_t)f[0].n * (size_t)f[0].d;
            assert_near(fixture_names[k], "loss", (float[]){(float)loss[1]}, (float[]){(float)loss[0]}, 1);
            assert_near(fixture_names[k], "d_hidden", d_hidden[1], d_hidden[0], n);
            for (int native = 0; native < 2; native++) {
                rm_free(d_hidden[native]);
                fixture_close(&f[native]);
            }
        }
    }
}

/* Through a rollout: h_t comes back, e_t = 0.8 tanh(h_t) + 0.1 goes in; loss: rows of proj times h_1 .. h_4. */
static void test_rollout(void **state) {
    (void)state;
    enum { STEPS = 4 };
    for (int k = 0; k < N_FIXTURE; k++) {
        fixture f = fixture_open(fixture_names[k], fixture_names[k], 2, NULL);
        size_t d = (size_t)f.d, n = (size_t)f.n;
        float *hidden = floats(n * d), *h = floats(STEPS * d), *e = floats(d), *grad = floats(n * d), *dh = floats(d);
        const float *proj = golden_f32(&f, "proj");
        rm_tape *t;
        OK(rm_tape_new(&t, f.model, false, err));
        OK(rm_tape_begin(t, 1, NULL, err));
        OK(rm_tape_push(t, &(rm_tape_rows){.n = f.n, .tokens = f.tokens, .hidden = hidden}, 1, err));
        memcpy(h, hidden + (n - 1) * d, d * sizeof *h);
        for (size_t s = 1; s < STEPS; s++) {
            for (size_t i = 0; i < d; i++) e[i] = 0.8f * tanhf(h[(s - 1) * d + i]) + 0.1f;
            OK(rm_tape_push(t, &(rm_tape_rows){.n = 1, .embeds = e, .hidden = h + s * d}, 1, err));
        }
        assert_near(fixture_names[k], "rollout", h, golden_f32(&f, "rollout"), d); /* a random network amplifies rounding from step to step */
        assert_within(5e-4f, fixture_names[k], "rollout", h, golden_f32(&f, "rollout"), STEPS * d);
        memcpy(dh, proj + (STEPS - 1) * d, d * sizeof *dh);
        for (size_t s = STEPS - 1; s > 0; s--) { /* d h_{s+1} is complete: d e_s, then d h_s */
            OK(rm_tape_pop(t, &(rm_tape_grads){.n = 1, .d_hidden = dh, .d_embeds = e}, 1, err));
            for (size_t i = 0; i < d; i++) {
                float y = tanhf(h[(s - 1) * d + i]);
                dh[i] = proj[(s - 1) * d + i] + e[i] * 0.8f * (1 - y * y);
            }
        }
        memcpy(grad + (n - 1) * d, dh, d * sizeof *dh);
        OK(rm_tape_pop(t, &(rm_tape_grads){.n = f.n, .d_hidden = grad, .d_embeds = grad}, 1, err));
        assert_within(5e-4f, fixture_names[k], "grad_rollout", grad, golden_f32(&f, "grad_rollout"), n * d);
        rm_tape_free(t);
        float *all[] = {hidden, h, e, grad, dh};
        for (size_t i = 0; i < RM_COUNT(all); i++) rm_free(all[i]);
        fixture_close(&f);
    }
}

/* The products of gate and up, kept or computed again: the same bits, for prompts, steps, and both in one pop. */
static void test_kept_products(void **state) {
    (void)state;
    for (int k = 0; k < N_FIXTURE; k++) {
        fixture f = fixture_open_as(fixture_names[k], fixture_names[k], 2, NULL, RM_NATIVE);
        const int steps = 3, prompt = f.n - steps;
        size_t d = (size_t)f.d, n = (size_t)f.n * d;
        const float *proj = golden_f32(&f, "proj");
        float *want = floats(n), *got = floats(n);
        for (int turn = 0; turn < 4; turn++) {
            const bool keep = turn & 1, together = turn & 2;
            rm_tape *t;
            OK(rm_tape_new(&t, f.model, keep, err));
            OK(rm_tape_begin(t, 1, NULL, err));
            OK(rm_tape_push(t, &(rm_tape_rows){.n = prompt, .tokens = f.tokens}, 1, err));
            for (int i = prompt; i < f.n; i++) OK(rm_tape_push(t, &(rm_tape_rows){.n = 1, .tokens = f.tokens + i, .step = true}, 1, err));
            float *to = keep ? got : want;
            int left = f.n;
            for (int i = 0; i < steps && !together; i++) {
                size_t at = (size_t)--left * d;
                OK(rm_tape_pop(t, &(rm_tape_grads){.n = 1, .d_hidden = proj + at, .d_embeds = to + at}, 1, err));
            }
            OK(rm_tape_pop(t, &(rm_tape_grads){.n = left, .d_hidden = proj, .d_embeds = to}, 1, err));
            rm_tape_free(t);
            if (!keep) continue;
            assert_same(fixture_names[k], got, want, n);
        }
        rm_free(want);
        rm_free(got);
        fixture_close(&f);
    }
}

/* Long sequences that are popped together, so that the passes break somewhere else in each of them, in both precisions: the same bits as alone. */
static void test_long_tape(void **state) {
    (void)state;
    enum { LONG = 300, TOGETHER = 3 };
    for (int k = 0; k < 2 * N_FIXTURE; k++) {
        const char *name = fixture_names[k / 2];
        fixture f = fixture_open_as(name, name, 2, NULL, k % 2 ? RM_NATIVE : RM_EXACT);
        const size_t d = (size_t)f.d, n = LONG * d;
        int32_t token[LONG];
        float *proj = floats(n), *want = floats(n), *got = floats(TOGETHER * n);
        for (int i = 0; i < LONG; i++) {
            token[i] = f.tokens[i % f.n];
            memcpy(proj + (size_t)i * d, golden_f32(&f, "proj") + (size_t)(i * 7 % f.n) * d, d * sizeof *proj);
        }
        rm_tape *t;
        OK(rm_tape_new(&t, f.model, false, err));
        for (int together = 1; together <= TOGETHER; together += TOGETHER - 1) {
            rm_tape_rows rows[TOGETHER];
            rm_tape_grads g[TOGETHER];
            for (int i = 0; i < together; i++) {
                rows[i] = (rm_tape_rows){.seq = i, .n = LONG, .tokens = token};
                g[i] = (rm_tape_grads){.seq = i, .n = LONG, .d_hidden = proj, .d_embeds = together == 1 ? want : got + (size_t)i * n};
            }
            OK(rm_tape_begin(t, together, NULL, err));
            OK(rm_tape_push(t, rows, together, err));
            OK(rm_tape_pop(t, g, together, err));
        }
        for (int i = 0; i < TOGETHER; i++) assert_same(name, got + (size_t)i * n, want, n);
        rm_tape_free(t);
        float *all[] = {proj, want, got};
        for (size_t i = 0; i < RM_COUNT(all); i++) rm_free(all[i]);
        fixture_close(&f);
    }
}

/* Several sequences in one tape, one of them behind a prefix that others share: the same bits as alone (with the delta rule, behind a prefix: nearly). */
static void test_ragged_tape(void **state) {
    (void)state;
    for (int k = 0; k < N_FIXTURE; k++) {
        fixture f = fixture_open(fixture_names[k], fixture_names[k], 2, NULL);
        size_t d = (size_t)f.d, n = (size_t)f.n;
        const float *proj = golden_f32(&f, "proj");
        float *hidden = floats(n * d), *want = floats(n * d), *grad = floats(3 * n * d);
        gradient(&f, (int[]){0}, (int[]){0}, proj, hidden, want);
        rm_batch *b;
        rm_seq *prefix;
        float last[64];
        OK(rm_batch_new(&b, f.model, err));
        OK(rm_seq_new(&prefix, f.model, err));
        step(b, prefix, f.tokens, 5, last, d);
        rm_tape *t;
        OK(rm_tape_new(&t, f.model, false, err));
        for (int turn = 0; turn < 2; turn++) { /* a tape can begin again */
            OK(rm_tape_begin(t, 3, (const rm_seq *[]){NULL, prefix, NULL}, err));
            assert_int_equal(rm_tape_len(t, 1), 5);
            const rm_tape_rows rows[] = {
                {.seq = 2, .n = 17, .tokens = f.tokens}, {.seq = 1, .n = f.n - 5, .tokens = f.tokens + 5}, {.seq = 0, .n = f.n, .tokens = f.tokens}};
            OK(rm_tape_push(t, rows, 3, err));
            assert_true(rm_tape_bytes(t) > 0);
            const rm_tape_grads g[] = {{.seq = 0, .n = f.n, .d_hidden = proj, .d_embeds = grad},
                                       {.seq = 1, .n = f.n - 5, .d_hidden = proj + 5 * d, .d_embeds = grad + (n + 5) * d},
                                       {.seq = 2, .n = 17, .d_hidden = NULL, .d_embeds = grad + 2 * n * d}};
            OK(rm_tape_pop(t, g, 3, err));
            assert_same("beside others", grad, want, n * d);
            if (rm_model_count_layers(f.model, RM_LAYER_LINEAR)) /* states are put together from the one where the sequence begins */
                assert_within(1e-5f, fixture_names[k], "behind a prefix", grad + (n + 5) * d, want + 5 * d, (n - 5) * d);
            else
                assert_same("behind a prefix", grad + (n + 5) * d, want + 5 * d, (n - 5) * d);
            for (size_t i = 0; i < 17 * d; i++) assert_true(grad[2 * n * d + i] == 0);
        }
        rmas_error e = {0};
        assert_int_equal(rm_tape_push(t, &(rm_tape_rows){.n = 1, .tokens = f.tokens}, 1, &e), RMAS_E_ARG); /* after a pop */
        assert_int_equal(rm_tape_pop(t, &(rm_tape_grads){.seq = 1, .n = 1}, 1, &e), RMAS_E_ARG); /* the prefix */
        assert_int_equal(rm_tape_pop(t, &(rm_tape_grads){.seq = 3, .n = 1}, 1, &e), RMAS_E_ARG);
        rm_tape_free(t);
        rm_seq_free(prefix);
        rm_batch_free(b);
        float *all[] = {hidden, want, grad};
        for (size_t i = 0; i < RM_COUNT(all); i++) rm_free(all[i]);
        fixture_close(&f);
    }
}

/* States that are unseen, and gradients that are not there: the same bits as when everything is kept and zeros go back, in any cut; and what is unseen
 * has no gradient. */
static void test_unseen(void **state) {
    (void)state;
    enum { UNSEEN = 13, UNSENT = 7, CUT = 9 };
    for (int k = 0; k < 2 * N_FIXTURE; k++) {
        const char *name = fixture_names[k / 2];
        fixture f = fixture_open_as(name, name, 2, NULL, k % 2 ? RM_NATIVE : RM_EXACT);
        const size_t d = (size_t)f.d, n = (size_t)f.n * d;
        assert_true(f.n > UNSEEN + UNSENT + CUT);
        float *hidden = floats(n), *again = floats(n), *g = floats(n), *want = floats(n), *got = floats(n);
        memcpy(g, golden_f32(&f, "proj"), n * sizeof *g);
        memset(g, 0, UNSEEN * d * sizeof *g);
        memset(g + n - UNSENT * d, 0, UNSENT * d * sizeof *g);
        memset(g + (UNSEEN + 2) * d, 0, d * sizeof *g); /* a zero between others */
        g[(UNSEEN + 3) * d] = NAN; /* is not nothing */
        for (int turn = 0; turn < 2; turn++) {
            if (turn) g[(UNSEEN + 3) * d] = 1;
            rm_tape *t;
            OK(rm_tape_new(&t, f.model, false, err));
            OK(rm_tape_begin(t, 1, NULL, err));
            OK(rm_tape_push(t, &(rm_tape_rows){.n = f.n, .tokens = f.tokens, .hidden = hidden}, 1, err));
            /* a first pop that has something in its last row: nothing is left out there */
            float *keep = floats(n);
            memcpy(keep, g, n * sizeof *g);
            const float tiny = 0x1p-140f; /* lost in any sum */
            keep[n - 1] = tiny;
            OK(rm_tape_pop(t, &(rm_tape_grads){.n = f.n, .d_hidden = keep, .d_embeds = want}, 1, err));
            rm_free(keep);

            OK(rm_tape_begin(t, 1, NULL, err));
            const rm_tape_rows rows[] = {{.n = CUT, .tokens = f.tokens, .n_unseen = CUT},
                                         {.n = f.n - CUT, .tokens = f.tokens + CUT, .n_unseen = UNSEEN - CUT, .hidden = again + CUT * d}};
            for (int i = 0; i < 2; i++) OK(rm_tape_push(t, &rows[i], 1, err));
            assert_same(name, again + UNSEEN * d, hidden + UNSEEN * d, n - UNSEEN * d);
            OK(rm_tape_pop(t, &(rm_tape_grads){.n = f.n, .d_hidden = g, .d_embeds = got}, 1, err));
            rm_tape_free(t);
            if (!turn) {
                assert_true(isnan(got[0]) && isnan(want[0]));
                continue;
            }
            for (size_t i = n - UNSENT * d; i < n; i++) assert_true(got[i] == 0);
            assert_same(name, got, want, n - UNSENT * d);
        }
        rmas_error e = {0};
        rm_tape *t;
        OK(rm_tape_new(&t, f.model, false, err));
        OK(rm_tape_begin(t, 1, NULL, err));
        OK(rm_tape_push(t, &(rm_tape_rows){.n = CUT, .tokens = f.tokens, .n_unseen = UNSEEN}, 1, err));
        OK(rm_tape_push(t, &(rm_tape_rows){.n = CUT, .tokens = f.tokens, .n_unseen = 0}, 1, err));
        assert_int_equal(rm_tape_push(t, &(rm_tape_rows){.n = CUT, .tokens = f.tokens, .n_unseen = 1}, 1, &e), RMAS_E_ARG); /* behind seen ones */
        OK(rm_tape_begin(t, 1, NULL, err));
        OK(rm_tape_push(t, &(rm_tape_rows){.n = CUT, .tokens = f.tokens, .n_unseen = 1}, 1, err));
        g[0] = 1;
        assert_int_equal(rm_tape_pop(t, &(rm_tape_grads){.n = CUT, .d_hidden = g, .d_embeds = got}, 1, &e), RMAS_E_ARG);
        rm_tape_free(t);
        float *all[] = {hidden, again, g, want, got};
        for (size_t i = 0; i < RM_COUNT(all); i++) rm_free(all[i]);
        fixture_close(&f);
    }
}

static void test_tape_without_memory(void **state) {
    (void)state;
    fixture f = fixture_open("qwen3_5", "qwen3_5", 1, NULL);
    float *grad = floats((size_t)f.n * (size_t)f.d);
    bool done = false;
    for (long i = 1; !done && i < 10000; i++) {
        rmas_error e = {0};
        rm_tape *t = NULL;
        rm_mem_fail_after(i);
        done = rm_tape_new(&t, f.model, true, &e) == RMAS_OK && rm_tape_begin(t, 2, NULL, &e) == RMAS_OK &&
               rm_tape_push(t, &(rm_tape_rows){.n = f.n, .tokens = f.tokens, .hidden = grad}, 1, &e) == RMAS_OK &&
               rm_tape_pop(t, &(rm_tape_grads){.n = f.n, .d_hidden = grad, .d_embeds = grad}, 1, &e) == RMAS_OK;
        rm_mem_fail_after(0);
        rm_tape_free(t);
    }
    assert_true(done);
    rm_free(grad);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts_and_threads),
        cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_clones),
        cmocka_unit_test(test_batch_errors),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_small_gradients),
        cmocka_unit_test(test_kept_products),
        cmocka_unit_test(test_rollout),
        cmocka_unit_test(test_long_tape),
        cmocka_unit_test(test_ragged_tape),
        cmocka_unit_test(test_unseen),
        cmocka_unit_test(test_tape_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
