/* A run as data (--record): per question a JSON file with prompts, ids, generated ids and texts, and a safetensors file with
 * the states and messages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "system/engine.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/utf8.h"
#include "weights/weights.h"

struct rm_record {
    json_t *root, *stages; /* stages belongs to root */
    int index;
    rm_tensor *t;
    int n_t, cap_t;
};

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

json_t *rm_record_ids(const rm_ids *ids) {
    json_t *a = json_array();
    for (int i = 0; a && i < ids->n; i++)
        if (json_array_append_new(a, json_integer(ids->id[i])) != 0) {
            json_decref(a);
            return NULL;
        }
    return a;
}

json_t *rm_record_text(const char *s, size_t n) {
    if (rm_utf8_valid(s, n)) return json_stringn(s, n);
    rm_strbuf b = {0};
    for (size_t i = 0; i < n;) {
        unsigned cp;
        int k = rm_utf8_decode_lossy(s + i, n - i, &cp);
        rm_strbuf_utf8(&b, cp);
        i += (size_t)k;
    }
    json_t *o = b.failed ? NULL : json_stringn(rm_str(&b), b.n);
    rm_strbuf_free(&b);
    return o;
}

rmas_status rm_record_new(rm_record **out, const rm_job *j, rmas_error *err) {
    rm_record *rec = *out = RM_NEW(rm_record);
    if (!rec) return nomem(err);
    rec->index = j->index;
    rec->stages = json_array();
    rec->root = json_pack("{s:i, s:o?, s:o}", "index", j->index, "question", rm_record_text(j->item->question, strlen(j->item->question)), "stages",
                          rec->stages);
    if (rec->root) return RMAS_OK;
    rm_free(rec);
    *out = NULL;
    return nomem(err);
}

void rm_record_free(rm_record *rec) {
    if (!rec) return;
    json_decref(rec->root);
    for (int i = 0; i < rec->n_t; i++) {
        rm_free((char *)(uintptr_t)rec->t[i].name);
        rm_free((void *)(uintptr_t)rec->t[i].data);
    }
    rm_free(rec->t);
    rm_free(rec);
}

json_t *rm_record_stage(rm_runner *r, rm_job *j, const rm_stage *st, const char *kind, const rm_prompt *p) {
    if (!j->rec) return NULL;
    json_t *pieces = json_array(), *ids = json_array(), *slots = json_array();
    int at = 0;
    for (int i = 0; p && i < p->n_piece; i++) {
        json_array_append_new(pieces, rm_record_text(p->pieces.text[i], p->pieces.n_text[i]));
        json_array_append_new(ids, rm_record_ids(&p->ids[i]));
        at += p->ids[i].n;
        if (i == p->n_piece - 1) break;
        const rm_edge_spec *e = &r->sys->edge[p->edge[i]];
        json_array_append_new(
            slots, json_pack("{s:s, s:s, s:i, s:i}", "from", r->sys->agent[e->from].role, "link", e->key, "at", at, "rows", r->o->latent_steps));
        at += r->o->latent_steps;
    }
    json_t *o = json_pack("{s:i, s:s, s:s, s:o?, s:o?, s:o?}", "round", st->round, "role", r->sys->agent[st->agent].role, "kind", kind, "pieces",
                          pieces, "ids", ids, "slots", slots);
    if (o && strcmp(kind, "latent")) json_object_set_new(o, "calls", json_array());
    return json_array_append_new(j->rec->stages, o) == 0 ? o : NULL;
}

rmas_status rm_record_rows(rm_record *rec, int round, const char *role, const char *what, const float *x, int n, int d, rmas_error *err) {
    if (rec->n_t == rec->cap_t) {
        int cap = rec->cap_t ? 2 * rec->cap_t : 16;
        rm_tensor *t = rm_realloc_array(rec->t, (size_t)cap, sizeof *t);
        if (!t) return nomem(err);
        rec->t = t;
        rec->cap_t = cap;
    }
    char name[256];
    snprintf(name, sizeof name, "r%d.%s.%s", round, role, what);
    size_t n_bytes = (size_t)n * (size_t)d * sizeof(float);
    char *own = rm_strdup(name);
    void *data = rm_alloc(n_bytes);
    if (!own || !data) {
        rm_free(own);
        rm_free(data);
        return nomem(err);
    }
    memcpy(data, x, n_bytes);
    rec->t[rec->n_t++] = (rm_tensor){.name = own, .dtype = RM_F32, .n_dim = 2, .dim = {n, d}, .data = data, .n_bytes = n_bytes};
    return RMAS_OK;
}

json_t *rm_record_call(json_t *stage, const rm_row *row) {
    json_t *call = json_pack("{s:o?}", "ids", rm_record_ids(&row->out));
    if (call && !row->is_forced) {
        json_t *margins = json_array();
        for (int i = 0; i < row->out.n; i++) json_array_append_new(margins, json_real((double)row->margin[i]));
        json_object_set_new(call, "margins", margins);
    }
    return json_array_append_new(json_object_get(stage, "calls"), call) == 0 ? call : NULL;
}

rmas_status rm_record_write(rm_record *rec, const char *dir, rmas_error *err) {
    char name[32], *path;
    snprintf(name, sizeof name, "%06d.json", rec->index);
    path = rm_path_join(dir, name);
    char *text = json_dumps(rec->root, JSON_COMPACT);
    rmas_status st = path && text ? rm_file_write(path, text, strlen(text), err) : nomem(err);
    free(text);
    rm_free(path);
    RM_TRY(st);
    if (!rec->n_t) return RMAS_OK;
    snprintf(name, sizeof name, "%06d.safetensors", rec->index);
    path = rm_path_join(dir, name);
    st = path ? rm_safetensors_write(path, rec->t, rec->n_t, err) : nomem(err);
    rm_free(path);
    return st;
}
