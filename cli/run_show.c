#include "run_show.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void rm_show_start(rm_show *s, rm_results *results, bool quiet, bool full_text) {
    *s = (rm_show){.results = results, .terminal = isatty(STDERR_FILENO), .quiet = quiet, .full_text = full_text, .started = now()};
    pthread_mutex_init(&s->screen, NULL);
}

static void clear_line(rm_show *s) {
    if (s->line_open) fprintf(stderr, "\r\033[K");
    s->line_open = false;
}

void rm_show_note(rm_show *s, const char *fmt, ...) {
    va_list ap;
    pthread_mutex_lock(&s->screen);
    clear_line(s);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    pthread_mutex_unlock(&s->screen);
}

/* Plain lines: one per stage and group; on a terminal every change, at most ten a second. */
static void show_progress(rm_show *s, const rm_event *e) {
    double t = now();
    bool write = e->kind == RM_EVENT_WRITE,
         fresh = strcmp(s->last_role, e->role) || s->last_round != e->round || (!write && e->step <= s->last_step && e->step == 0);
    if (fresh) {
        snprintf(s->last_role, sizeof s->last_role, "%s", e->role);
        s->last_round = e->round;
        if (write) s->text_started = t, s->text_tokens = e->step;
    }
    s->last_step = e->step;
    if (!s->terminal) {
        if (!fresh) return;
        fprintf(stderr, "[%7.1fs] round %d/%d %s: %s, %d question%s (%d of %d done)\n", t - s->started, e->round, e->n_round, e->role,
                write || e->text ? "writing" : "thinking", e->n_question, e->n_question == 1 ? "" : "s", e->n_done, e->n_total);
        return;
    }
    if (!fresh && t - s->shown < 0.1) return;
    s->shown = t;
    clear_line(s);
    if (write) {
        double spent = t - s->text_started;
        fprintf(stderr, "%d/%d done · round %d/%d · %s writes %d answer%s · %d tokens", e->n_done, e->n_total, e->round, e->n_round, e->role,
                e->n_question, e->n_question == 1 ? "" : "s", e->step);
        if (spent > 1) fprintf(stderr, " · %.0f tok/s", (e->step - s->text_tokens) / spent);
    } else {
        fprintf(stderr, "%d/%d done · round %d/%d · %s %s · %s %d/%d · %d question%s", e->n_done, e->n_total, e->round, e->n_round, e->role,
                e->text ? "writes" : "thinks", e->text ? "token" : "latent step", e->step, e->n_step, e->n_question, e->n_question == 1 ? "" : "s");
    }
    fflush(stderr);
    s->line_open = true;
}

void rm_show_event(void *show, const rm_event *e) {
    rm_show *s = show;
    if (e->kind == RM_EVENT_NOTE) {
        rm_show_note(s, "note: %s", e->note);
    } else if (!s->quiet) {
        pthread_mutex_lock(&s->screen);
        show_progress(s, e);
        pthread_mutex_unlock(&s->screen);
    }
}

/* The beginning of a text on one line. */
static void print_short(const char *text, int max) {
    int n = 0;
    for (const char *p = text; *p; p++) {
        bool first = ((unsigned char)*p & 0xC0) != 0x80;
        if (first && ++n > max) {
            printf("...");
            return;
        }
        bool c1 = (unsigned char)*p == 0xC2 && (unsigned char)p[1] >= 0x80 && (unsigned char)p[1] < 0xA0; /* control characters too */
        p += c1;
        putchar(c1 || (unsigned char)*p < 32 || *p == 127 ? ' ' : *p);
    }
}

/* What a model writes must not steer the terminal: of the control characters only line breaks and tabs are shown. */
static void print_text(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == 0xC2 && i + 1 < n && (unsigned char)text[i + 1] < 0xA0)
            i++;
        else if (c == '\n' || c == '\t' || (c >= 32 && c != 127))
            putchar(c);
    }
}

static void print_answer(rm_show *s, const rm_answer *a, const rm_verdict *v) {
    clear_line(s);
    if (s->full_text) {
        printf("--- question %d: ", a->index);
        print_short(a->item->question, 200);
        for (int k = 0; k < a->n_rollout; k++) {
            printf("\n%s", a->n_rollout > 1 ? "* " : "");
            print_text(a->text[k], a->n_text[k]);
        }
        printf("\n");
        if (v->graded) printf("(%s)\n", v->correct ? "correct" : "wrong");
    } else if (!s->quiet) {
        const char *verdict = !v->graded ? "done   " : v->correct ? "correct" : "wrong  ";
        printf("question %d: %s%s  answer ", a->index, verdict,
               v->graded && v->correct != v->strict ? v->strict ? " (strict: correct)" : " (strict: wrong)" : "");
        print_short(v->pred ? v->pred : "(none)", 60);
        if (v->gold) {
            printf("  expected ");
            print_short(v->gold, 60);
        }
        int n = 0;
        for (int k = 0; k < a->n_rollout; k++) n += a->n_token[k];
        printf("  [%d tokens%s]\n", n, a->retried[0] ? ", asked again" : "");
    }
    fflush(stdout);
}

rmas_status rm_show_grade(void *show, const rm_answer *a, rmas_error *err) {
    rm_show *s = show;
    rm_verdict v;
    RM_TRY(rm_results_add(s->results, a, &v, err));
    pthread_mutex_lock(&s->screen);
    print_answer(s, a, &v);
    pthread_mutex_unlock(&s->screen);
    rm_verdict_free(&v);
    return RMAS_OK;
}

rmas_status rm_show_answer(void *show, const rm_answer *a, rmas_error *err) {
    rm_show *s = show;
    return s->grading ? rm_grading_add(s->grading, a, err) : rm_show_grade(s, a, err);
}

bool rm_show_skip(void *show, int index) { return rm_results_has(((rm_show *)show)->results, index); }

void rm_show_end(rm_show *s, bool whole, int n_question) {
    rm_score r = rm_results_score(s->results);
    double n = r.n_graded ? r.n_graded : 1;
    clear_line(s);
    if (!s->quiet) fprintf(stderr, "%d of %d questions in %.1f s%s\n", r.n, n_question, now() - s->started, whole ? "" : " (stopped early)");
    if (r.n_unrun) fprintf(stderr, "%d programs were not run: %s\n", r.n_unrun, r.why_unrun);
    if (!r.n_graded) return;
    if (r.n_rollout > 1) {
        for (int k = 0; k < r.n_rollout; k++)
            printf("[rollout %d/%d] accuracy=%.2f%% (%d/%d)\n", k + 1, r.n_rollout, 100 * r.rollout_correct[k] / n, r.rollout_correct[k], r.n_graded);
        printf("pass@%d=%.2f%% (%d/%d)", r.n_rollout, 100 * r.correct / n, r.correct, r.n_graded);
    } else {
        printf("accuracy=%.2f%% (%d/%d)", 100 * r.correct / n, r.correct, r.n_graded);
    }
    rm_interval ci = rm_wilson(r.strict, r.n_graded, 1.96);
    printf("  strict=%.2f%% (%d/%d), 95%% interval %.1f to %.1f\n", 100 * r.strict / n, r.strict, r.n_graded, 100 * ci.lo, 100 * ci.hi);
}
