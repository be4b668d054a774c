/* Functions that every template may call. */
#include <stdio.h>
#include <string.h>

#include "tmpl/builtin.h"
#include "util/mem.h"

#define GLOBAL(name) static bool name(rm_run *r, rm_val *a, const rm_args *all, rm_val *out)
#define UNUSED (void)r, (void)all

GLOBAL(g_range) { /* (stop), (start, stop), (start, stop, step) */
    int64_t v[3] = {0, 0, 1};
    if (all->n > 3 || all->n_kw) return rm_tmpl_fail(r, "range takes one to three numbers");
    for (int i = 0; i < all->n; i++)
        if (!rm_tmpl_arg_int(r, &a[i], "a bound of range", &v[i])) return false;
    if (all->n == 1) {
        v[1] = v[0];
        v[0] = 0;
    }
    if (!v[2]) return rm_tmpl_fail(r, "range() arg 3 must not be zero");
    __int128 span = v[2] > 0 ? (__int128)v[1] - v[0] : (__int128)v[0] - v[1], step = v[2] > 0 ? v[2] : -(__int128)v[2];
    __int128 n = span > 0 ? (span + step - 1) / step : 0;
    if (n > RM_MAX_RANGE) return rm_tmpl_fail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", RM_MAX_RANGE);
    rm_val *items = rm_tmpl_charge(r, (size_t)n / 8) ? rm_tmpl_get(r, (size_t)n * sizeof *items) : NULL;
    if (!items) return false;
    for (int64_t i = 0; i < (int64_t)n; i++) items[i] = rm_val_int(v[0] + i * v[2]);
    *out = rm_val_seq(V_RANGE, items, (size_t)n);
    return true;
}

/* Positional dicts, then keywords, as dict() and namespace() take them. */
static bool gather(rm_run *r, const rm_args *all, rm_pair **out, uint32_t *n) {
    size_t room = (size_t)all->n_kw;
    if (all->n > 1) return rm_tmpl_fail(r, "more than one plain argument");
    if (all->n && all->v[0].kind != V_DICT) return rm_tmpl_fail(r, "expected a dict, not %s", rm_val_type(&all->v[0]));
    if (all->n) room += all->v[0].n;
    if (!(*out = rm_tmpl_get(r, room * sizeof **out))) return false;
    *n = 0;
    if (all->n && all->v[0].n) {
        memcpy(*out, all->v[0].dict, all->v[0].n * sizeof **out);
        *n = all->v[0].n;
    }
    for (int i = 0; i < all->n_kw; i++)
        if (!rm_tmpl_dict_put(r, *out, n, &all->kw[i].key, &all->kw[i].val)) return false;
    return true;
}

GLOBAL(g_dict) {
    rm_pair *v = NULL;
    uint32_t n = 0;
    (void)a;
    if (!gather(r, all, &v, &n)) return false;
    *out = (rm_val){.kind = V_DICT, .n = n, .dict = v};
    return true;
}

GLOBAL(g_namespace) {
    (void)a;
    rm_ns *ns = rm_tmpl_get(r, sizeof *ns);
    if (!ns || !gather(r, all, &ns->v, &ns->n)) return false;
    for (uint32_t i = 0; i < ns->n; i++)
        if (ns->v[i].key.kind != V_STR) return rm_tmpl_fail(r, "names in a namespace must be text");
    ns->cap = ns->n;
    *out = (rm_val){.kind = V_NS, .ns = ns};
    return true;
}

GLOBAL(g_cycler) {
    rm_cycler *c = rm_tmpl_get(r, sizeof *c);
    if (!c) return false;
    *c = (rm_cycler){.v = a, .n = (uint32_t)all->n};
    *out = (rm_val){.kind = V_CYCLER, .cycler = c};
    return true;
}

GLOBAL(g_joiner) {
    UNUSED;
    rm_cycler *c = rm_tmpl_get(r, sizeof *c);
    rm_val *sep = c ? rm_tmpl_get(r, sizeof *sep) : NULL;
    if (!sep) return false;
    *sep = a[0].kind != V_ABSENT ? a[0] : rm_val_str(", ", 2);
    *c = (rm_cycler){.v = sep, .n = 1};
    *out = (rm_val){.kind = V_JOINER, .cycler = c};
    return true;
}

GLOBAL(g_raise_exception) {
    UNUSED;
    rm_val text;
    (void)out;
    return rm_tmpl_to_str(r, &a[0], &text) && rm_tmpl_fail(r, "%.*s", (int)(text.n > 380 ? 380 : text.n), text.s);
}

static int day_of_year(const rm_date *d) {
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    bool leap = (d->year % 4 == 0 && d->year % 100 != 0) || d->year % 400 == 0;
    return before[d->month - 1] + d->day + (leap && d->month > 2);
}

static int weekday(const rm_date *d) { /* 0: Sunday */
    static const int shift[] = {0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4};
    int y = d->year - (d->month < 3);
    return (y + y / 4 - y / 100 + y / 400 + shift[d->month - 1] + d->day) % 7;
}

/* strftime in the C locale, whatever the locale of the process; the time of day is midnight. */
GLOBAL(g_strftime_now) {
    static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                         "July",    "August",   "September", "October", "November", "December"};
    static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
    const rm_date *d = &r->date;
    const char *s;
    size_t n;
    rm_strbuf b = {0};
    UNUSED;
    if (!rm_tmpl_arg_str(r, &a[0], "format", &s, &n) || !rm_tmpl_charge(r, n)) return false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] != '%' || i + 1 == n) {
            rm_strbuf_putc(&b, s[i]);
            continue;
        }
        bool bare = s[i + 1] == '-' && i + 2 < n;
        char c = s[i += 1 + bare];
        switch (c) {
        case 'Y': rm_strbuf_printf(&b, "%d", d->year); break;
        case 'y': rm_strbuf_printf(&b, bare ? "%d" : "%02d", d->year % 100); break;
        case 'm': rm_strbuf_printf(&b, bare ? "%d" : "%02d", d->month); break;
        case 'd': rm_strbuf_printf(&b, bare ? "%d" : "%02d", d->day); break;
        case 'e': rm_strbuf_printf(&b, bare ? "%d" : "%2d", d->day); break;
        case 'j': rm_strbuf_printf(&b, bare ? "%d" : "%03d", day_of_year(d)); break;
        case 'B': rm_strbuf_puts(&b, months[d->month - 1]); break;
        case 'b':
        case 'h': rm_strbuf_add(&b, months[d->month - 1], 3); break;
        case 'A': rm_strbuf_puts(&b, days[weekday(d)]); break;
        case 'a': rm_strbuf_add(&b, days[weekday(d)], 3); break;
        case 'F': rm_strbuf_printf(&b, "%d-%02d-%02d", d->year, d->month, d->day); break;
        case 'D': rm_strbuf_printf(&b, "%02d/%02d/%02d", d->month, d->day, d->year % 100); break;
        case 'H':
        case 'M':
        case 'S': rm_strbuf_puts(&b, bare ? "0" : "00"); break;
        case 'I': rm_strbuf_puts(&b, "12"); break;
        case 'p': rm_strbuf_puts(&b, "AM"); break;
        case 'T': rm_strbuf_puts(&b, "00:00:00"); break;
        case 'u': rm_strbuf_printf(&b, "%d", weekday(d) ? weekday(d) : 7); break;
        case 'w': rm_strbuf_printf(&b, "%d", weekday(d)); break;
        case 'f': rm_strbuf_puts(&b, "000000"); break;
        case 'Z':
        case 'z': break;
        case '%': rm_strbuf_putc(&b, '%'); break;
        case 'n': rm_strbuf_putc(&b, '\n'); break;
        case 't': rm_strbuf_putc(&b, '\t'); break;
        default: rm_strbuf_free(&b); return rm_tmpl_fail(r, "strftime_now: '%%%c' is not supported", c);
        }
    }
    return rm_tmpl_take(r, &b, out);
}

static const rm_entry globals[] = {
    {"cycler", NULL, 1, g_cycler},
    {"dict", NULL, 0, g_dict},
    {"joiner", "sep", 0, g_joiner},
    {"namespace", NULL, 0, g_namespace},
    {"raise_exception", "message", 1, g_raise_exception},
    {"range", NULL, 1, g_range},
    {"strftime_now", "format", 1, g_strftime_now},
};

const rm_entry *rm_tmpl_global_find(const char *s, size_t n) { return rm_tmpl_entry_find(globals, RM_COUNT(globals), s, n); }
