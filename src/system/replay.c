/* --replay: what agents write is read from a file instead of being sampled. */
#include <stdlib.h>
#include <string.h>

#include "system/engine.h"
#include "util/file.h"
#include "util/mem.h"

typedef struct {
    int index, round, call;
    bool retry;
    char role[64];
    rm_ids ids;
} line;

struct rm_replay {
    line *v;
    int n, cap;
};

enum { MAX_REPLAY = 256 << 20 };

static rmas_status read_line(line *l, const json_t *o, const rm_team *team, int last_round, rmas_error *err) {
    const json_t *ids = json_object_get(o, "ids"), *text = json_object_get(o, "text"), *v;
    const char *role = json_string_value(json_object_get(o, "role")), *kind = json_string_value(json_object_get(o, "kind"));
    size_t i;
    int a = role ? rm_system_agent(team->sys, role) : -1;
    if (!json_is_integer(json_object_get(o, "index"))) return rm_fail(err, RMAS_E_FORMAT, "'index' is missing");
    if (a < 0) return rm_fail(err, RMAS_E_FORMAT, "'role' must be one of the system's roles%s%.60s", role ? ", not " : "", role ? role : "");
    if (!json_is_array(ids) && !json_is_string(text)) return rm_fail(err, RMAS_E_FORMAT, "'ids' (a list) or 'text' is missing");
    *l = (line){.index = (int)json_integer_value(json_object_get(o, "index")), .round = last_round, .retry = kind && !strcmp(kind, "retry")};
    snprintf(l->role, sizeof l->role, "%s", role);
    if (json_object_get(o, "round")) l->round = (int)json_integer_value(json_object_get(o, "round"));
    l->call = (int)json_integer_value(json_object_get(o, "call"));
    if (text && !ids) return rm_tok_encode(team->agent[a].tok, json_string_value(text), json_string_length(text), false, &l->ids, err);
    json_array_foreach((json_t *)ids, i, v) {
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id >= team->agent[a].n_vocab)
            return rm_fail(err, RMAS_E_FORMAT, "'ids': element %zu is not a token of %s, which has %d", i + 1, role, team->agent[a].n_vocab);
        if (!rm_ids_push(&l->ids, (int32_t)id)) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    }
    return RMAS_OK;
}

static rmas_status read_all(rm_replay *p, char *text, size_t n, const rm_team *team, int last_round, const char *path, rmas_error *err) {
    int number = 0;
    for (char *s = text, *end; s < text + n; s = end + 1) {
        end = memchr(s, '\n', (size_t)(text + n - s));
        if (!end) end = text + n;
        number++;
        if (end == s) continue;
        if (p->n == p->cap) {
            int cap = p->cap ? 2 * p->cap : 64;
            line *v = rm_realloc_array(p->v, (size_t)cap, sizeof *v);
            if (!v) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
            p->v = v;
            p->cap = cap;
        }
        json_error_t je;
        json_t *o = json_loadb(s, (size_t)(end - s), JSON_ALLOW_NUL, &je);
        line *l = &p->v[p->n++];
        *l = (line){0};
        rmas_status st =
            json_is_object(o) ? read_line(l, o, team, last_round, err) : rm_fail(err, RMAS_E_FORMAT, "%s", o ? "not a JSON object" : je.text);
        json_decref(o);
        if (st != RMAS_OK) return rm_fail_prefix(err, st, "%s: line %d", path, number);
    }
    return RMAS_OK;
}

rmas_status rm_replay_open(rm_replay **out, const char *path, const rm_team *team, int last_round, rmas_error *err) {
    char *text;
    size_t n;
    *out = NULL;
    RM_TRY(rm_file_read(&text, &n, path, MAX_REPLAY, err));
    rm_replay *p = RM_NEW(rm_replay);
    rmas_status st = p ? read_all(p, text, n, team, last_round, path, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rm_free(text);
    if (st != RMAS_OK)
        rm_replay_close(p);
    else
        *out = p;
    return st;
}

void rm_replay_close(rm_replay *p) {
    if (!p) return;
    for (int i = 0; i < p->n; i++) rm_ids_free(&p->v[i].ids);
    rm_free(p->v);
    rm_free(p);
}

bool rm_replay_find(const rm_replay *p, int index, const char *role, int round, bool retry, int call, const rm_ids **ids) {
    bool any = false;
    *ids = NULL;
    for (int i = 0; p && i < p->n; i++) {
        const line *l = &p->v[i];
        if (l->index != index || l->round != round || l->retry != retry || strcmp(l->role, role)) continue;
        any = true;
        if (l->call == call) *ids = &l->ids;
    }
    return any;
}
