/* rmas plot LOG: the curves of a training log as one picture: losses above, gradient norms below. */
#define _GNU_SOURCE /* pipe2, environ */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/strbuf.h"

enum { MAX_CURVES = 24, WIDTH = 960, LEFT = 70, RIGHT = 20, TOP = 30, PANEL = 250, GAP = 60 };

typedef struct {
    char name[64];
    double *x, *y;
    int n, cap;
    bool dots, faint;
} curve;

typedef struct {
    const char *title;
    bool logarithmic;
    curve v[MAX_CURVES];
    int n;
} panel;

static bool add_point(panel *p, const char *name, bool dots, bool faint, double x, double y) {
    if (!isfinite(y) || y >= 1e29 || (p->logarithmic && y <= 0)) return true;
    int i = 0;
    while (i < p->n && strcmp(p->v[i].name, name) != 0) i++;
    if (i == p->n) {
        if (p->n == MAX_CURVES) return true;
        p->v[p->n++] = (curve){.dots = dots, .faint = faint};
        snprintf(p->v[i].name, sizeof p->v[i].name, "%s", name);
    }
    curve *c = &p->v[i];
    if (c->n == c->cap) {
        int cap = c->cap ? 2 * c->cap : 256;
        double *nx = rm_realloc_array(c->x, (size_t)cap, sizeof *nx);
        if (nx) c->x = nx;
        double *ny = rm_realloc_array(c->y, (size_t)cap, sizeof *ny);
        if (ny) c->y = ny;
        if (!nx || !ny) return false;
        c->cap = cap;
    }
    c->x[c->n] = x;
    c->y[c->n++] = y;
    return true;
}

static void panel_free(panel *p) {
    for (int i = 0; i < p->n; i++) {
        rm_free(p->v[i].x);
        rm_free(p->v[i].y);
    }
}

static bool add_line(panel *loss, panel *norms, json_t *line, double *smooth) {
    const json_t *step = json_object_get(line, "step"), *value = json_object_get(line, "loss");
    double x = (double)json_integer_value(step), y = json_number_value(value);
    bool trained = json_is_integer(step) && json_is_number(value), ok = true; /* not: the start, a batch without a step */
    if (trained) *smooth = isnan(*smooth) ? y : 0.95 * *smooth + 0.05 * y;
    if (trained) ok = add_point(loss, "loss", false, true, x, y) && add_point(loss, "loss, smoothed", false, false, x, *smooth);
    static const char *const held[][2] = {{"held_out_loss", "held-out loss"}, {"held_out_rollout_ce", "held-out, rollouts, last round"}};
    for (size_t i = 0; i < RM_COUNT(held); i++) {
        const json_t *h = json_object_get(line, held[i][0]);
        if (json_is_array(h)) h = json_array_get(h, json_array_size(h) - 1);
        if (json_is_number(h)) ok = ok && add_point(loss, held[i][1], true, false, x, json_number_value(h));
    }
    const char *key;
    json_t *v, *links = json_object_get(line, "link_norms");
    json_object_foreach(links, key, v) ok = ok && add_point(norms, key, false, false, x, json_number_value(v));
    if (!links && trained) ok = ok && add_point(norms, "norm", false, false, x, json_number_value(json_object_get(line, "norm")));
    return ok;
}

static rmas_status read_log(const char *path, panel *loss, panel *norms, rmas_error *err) {
    char *text, *file = rm_path_is_dir(path) ? rm_path_join(path, "log.jsonl") : rm_strdup(path);
    size_t n, number = 0;
    if (!file) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rmas_status st = rm_file_read(&text, &n, file, (size_t)1 << 31, err);
    if (st != RMAS_OK) {
        rm_free(file);
        return st;
    }
    double smooth = NAN;
    for (char *s = text, *end; st == RMAS_OK && (end = memchr(s, '\n', (size_t)(text + n - s))); s = end + 1) {
        number++;
        json_error_t je;
        json_t *line = json_loadb(s, (size_t)(end - s), 0, &je);
        if (!json_is_object(line))
            st = rm_fail(err, RMAS_E_FORMAT, "%s: line %zu: not an object of a training log", file, number);
        else if (!add_line(loss, norms, line, &smooth))
            st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
        json_decref(line);
    }
    if (st == RMAS_OK && loss->n == 0) st = rm_fail(err, RMAS_E_FORMAT, "%s: no step of a training run in it", file);
    rm_free(text);
    rm_free(file);
    return st;
}

/* ---- drawing ----------------------------------------------------------------------------------------------------------- */

static const char *const colours[] = {"#1f5fa8", "#c0392b", "#2e8b57", "#8e44ad", "#b9770e", "#16808a", "#555555", "#d4579c"};

typedef struct {
    double x0, x1, y0, y1; /* ranges; y of a logarithmic panel in decades */
    double top;
    bool logarithmic;
} frame;

static double at_x(const frame *f, double x) { return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT); }
static double at_y(const frame *f, double y) { return f->top + PANEL - ((f->logarithmic ? log10(y) : y) - f->y0) / (f->y1 - f->y0) * PANEL; }

/* A round distance of about a fifth of the range. */
static double tick(double range) {
    double base = pow(10, floor(log10(range / 5)));
    return range / 5 / base < 1.5 ? base : range / 5 / base < 3.5 ? 2 * base : range / 5 / base < 7.5 ? 5 * base : 10 * base;
}

static frame measure(const panel *p, double top) {
    frame f = {INFINITY, -INFINITY, INFINITY, -INFINITY, top, p->logarithmic};
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < p->v[i].n; k++) {
            double x = p->v[i].x[k], y = p->logarithmic ? log10(p->v[i].y[k]) : p->v[i].y[k];
            if (x < f.x0) f.x0 = x;
            if (x > f.x1) f.x1 = x;
            if (y < f.y0) f.y0 = y;
            if (y > f.y1) f.y1 = y;
        }
    if (!(f.x1 > f.x0)) f.x1 = f.x0 + 1;
    double pad = f.y1 > f.y0 ? 0.05 * (f.y1 - f.y0) : 0.5;
    f.y0 -= pad;
    f.y1 += pad;
    return f;
}

static void draw_axes(rm_strbuf *o, const panel *p, const frame *f) {
    rm_strbuf_printf(o, "<text x=\"%d\" y=\"%.0f\" font-weight=\"bold\">%s</text>\n", LEFT, f->top - 10, p->title);
    double dy = p->logarithmic && f->y1 - f->y0 > 1.5 ? ceil((f->y1 - f->y0) / 6) : tick(f->y1 - f->y0), dx = tick(f->x1 - f->x0);
    for (double y = ceil(f->y0 / dy) * dy; y <= f->y1; y += dy) {
        double py = f->top + PANEL - (y - f->y0) / (f->y1 - f->y0) * PANEL;
        rm_strbuf_printf(o, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", LEFT, WIDTH - RIGHT, py, py);
        rm_strbuf_printf(o, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n", LEFT - 6, py + 4,
                         p->logarithmic        ? pow(10, y)
                         : fabs(y) < 1e-9 * dy ? 0
                                               : y);
    }
    for (double x = ceil(f->x0 / dx) * dx; x <= f->x1; x += dx)
        rm_strbuf_printf(o, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n", at_x(f, x), f->top + PANEL + 16, x);
    rm_strbuf_printf(o, "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#999\"/>\n", LEFT, f->top, WIDTH - LEFT - RIGHT,
                     PANEL);
}

/* Long curves are thinned to the extremes of each pixel column. */
static void draw_curve(rm_strbuf *o, const curve *c, const frame *f, const char *colour) {
    if (c->dots) {
        for (int k = 0; k < c->n; k++)
            rm_strbuf_printf(o, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", at_x(f, c->x[k]), at_y(f, c->y[k]), colour);
        return;
    }
    rm_strbuf_printf(o, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%s\" stroke-opacity=\"%s\" points=\"", colour, c->faint ? "1" : "1.6",
                     c->faint ? "0.3" : "1");
    for (int k = 0; k < c->n;) {
        int pixel = (int)at_x(f, c->x[k]), low = k, high = k, end = k;
        for (; end < c->n && (int)at_x(f, c->x[end]) == pixel; end++) {
            if (c->y[end] < c->y[low]) low = end;
            if (c->y[end] > c->y[high]) high = end;
        }
        int first = low < high ? low : high, second = low < high ? high : low;
        rm_strbuf_printf(o, "%.1f,%.1f ", at_x(f, c->x[first]), at_y(f, c->y[first]));
        if (second != first) rm_strbuf_printf(o, "%.1f,%.1f ", at_x(f, c->x[second]), at_y(f, c->y[second]));
        k = end;
    }
    rm_strbuf_puts(o, "\"/>\n");
}

static void draw_panel(rm_strbuf *o, const panel *p, double top) {
    frame f = measure(p, top);
    draw_axes(o, p, &f);
    for (int i = 0; i < p->n; i++) {
        const char *colour = colours[(size_t)i % RM_COUNT(colours)];
        draw_curve(o, &p->v[i], &f, colour);
        rm_strbuf_printf(o, "<text x=\"%d\" y=\"%.0f\" text-anchor=\"end\" fill=\"%s\">", WIDTH - RIGHT - 8, top + 16 + 15 * i, colour);
        for (const char *s = p->v[i].name; *s; s++) /* a key of a log is any text */
            if (strchr("<>&", *s))
                rm_strbuf_printf(o, "&#%d;", *s);
            else
                rm_strbuf_putc(o, *s);
        rm_strbuf_puts(o, "</text>\n");
    }
}

/* SVG -> PNG by librsvg's program, which writes beside the file; that takes its place when it is whole. */
static rmas_status write_png(const char *path, const rm_strbuf *svg, rmas_error *err) {
    char tmp[4096], *argv[] = {"rsvg-convert", "--output", tmp, NULL};
    int ends[2], ended = -1;
    pid_t child;
    if (snprintf(tmp, sizeof tmp, "%s.tmp.%d", path, (int)getpid()) >= (int)sizeof tmp) return rm_fail(err, RMAS_E_ARG, "%s: too long a path", path);
    if (pipe2(ends, O_CLOEXEC) != 0) return rm_fail(err, RMAS_E_IO, "no pipe: %s", strerror(errno));
    posix_spawn_file_actions_t files;
    int failed = posix_spawn_file_actions_init(&files);
    if (!failed) failed = posix_spawn_file_actions_adddup2(&files, ends[0], STDIN_FILENO);
    if (!failed) failed = posix_spawnp(&child, argv[0], &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    close(ends[0]);
    if (failed) {
        close(ends[1]);
        return rm_fail(err, RMAS_E_UNSUPPORTED,
                       "%s: a PNG needs the program %s (Debian: librsvg2-bin), which can't be run: %s; a name in .svg needs nothing", path, argv[0],
                       strerror(failed));
    }
    signal(SIGPIPE, SIG_IGN); /* it may end early */
    for (size_t at = 0; at < svg->n;) {
        ssize_t n = write(ends[1], svg->s + at, svg->n - at);
        if (n <= 0) break;
        at += (size_t)n;
    }
    close(ends[1]);
    if (waitpid(child, &ended, 0) == child && WIFEXITED(ended) && WEXITSTATUS(ended) == 0 && rename(tmp, path) == 0) return RMAS_OK;
    unlink(tmp);
    return rm_fail(err, RMAS_E_IO, "%s: %s could not write it", path, argv[0]);
}

static rmas_status write_picture(const char *path, const rm_strbuf *svg, rmas_error *err) {
    const char *ending = strrchr(path, '.');
    return ending && !strcasecmp(ending, ".png") ? write_png(path, svg, err) : rm_file_write(path, svg->s, svg->n, err);
}

int cmd_plot(int argc, char **argv) {
    const char *out = NULL;
    const rm_opt opts[] = {{"o", RM_OPT_STRING, &out, NULL, "FILE", "the picture, .svg or .png (default: SVG on standard output)"}, {0}};
    int n_word, r = rm_opt_parse(argc, argv, opts, "rmas plot LOG [-o FILE.svg|FILE.png]", &n_word);
    if (r) return r == 2 ? 0 : 1;
    rmas_error err = {0};
    static panel loss, norms;
    loss = (panel){.title = "loss"};
    norms = (panel){.title = "norm of the gradient", .logarithmic = true};
    rmas_status st = n_word == 1 ? read_log(argv[1], &loss, &norms, &err)
                                 : rm_fail(&err, RMAS_E_ARG, "needs a training log (log.jsonl, or the folder that has it)");
    rm_strbuf o = {0};
    if (st == RMAS_OK) {
        int height = TOP + 2 * PANEL + GAP + 40;
        rm_strbuf_printf(&o, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n",
                         WIDTH, height);
        rm_strbuf_puts(&o, "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n");
        draw_panel(&o, &loss, TOP);
        if (norms.n) draw_panel(&o, &norms, TOP + PANEL + GAP);
        rm_strbuf_puts(&o, "</svg>\n");
        if (o.failed)
            st = rm_fail(&err, RMAS_E_NOMEM, "out of memory");
        else if (out)
            st = write_picture(out, &o, &err);
        else if (fwrite(o.s, 1, o.n, stdout) != o.n)
            st = rm_fail(&err, RMAS_E_IO, "standard output cannot be written");
    }
    panel_free(&loss);
    panel_free(&norms);
    rm_strbuf_free(&o);
    return st == RMAS_OK ? 0 : rm_cli_fail(argv[0], &err);
}
