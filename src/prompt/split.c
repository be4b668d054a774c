/* A rendered chat, cut at the places where latents go. */
#include <string.h>

#include "prompt.h"
#include "util/mem.h"

void rm_pieces_free(rm_pieces *p) {
    for (int i = 0; p->text && i <= p->n_slot; i++) rm_free(p->text[i]);
    for (int i = 0; p->slot && i < p->n_slot; i++) rm_free(p->slot[i]);
    rm_free(p->text);
    rm_free(p->n_text);
    rm_free(p->slot);
    *p = (rm_pieces){0};
}

/* Marker number i of a prompt, with a number that makes it occur nowhere else: no white space, nothing that a template trims. */
static void put_marker(rm_strbuf *b, const char *role, int i, unsigned salt) { rm_strbuf_printf(b, "<<slot-%s-%d-%u>>", role, i, salt); }

/* The user text with a marker in each slot. */
static void mark(const rm_parts *user, unsigned salt, rm_strbuf *out) {
    int slot = 0;
    for (int i = 0; i < user->n; i++) {
        if (user->v[i].is_slot)
            put_marker(out, user->v[i].text, slot++, salt);
        else
            rm_strbuf_add(out, user->v[i].text, user->v[i].n);
    }
}

static int count(const char *s, const char *what) { /* what is not empty */
    int n = 0;
    for (size_t len = strlen(what); len && (s = strstr(s, what)); s += len) n++; /* empty: out of memory made it so */
    return n;
}

/* The smallest number with which every marker is in the marked text once and in the system text not at all. */
static bool choose_salt(const rm_parts *user, const char *system, rm_strbuf *marked, unsigned *salt) {
    rm_strbuf marker = {0};
    bool found = false;
    for (*salt = 0; !found && *salt < 10000 && !marked->failed && !marker.failed; ++*salt) {
        int slot = 0;
        rm_strbuf_clear(marked);
        mark(user, *salt, marked);
        found = true;
        for (int i = 0; i < user->n && found; i++) {
            if (!user->v[i].is_slot) continue;
            rm_strbuf_clear(&marker);
            put_marker(&marker, user->v[i].text, slot++, *salt);
            found = !marker.failed && count(rm_str(marked), rm_str(&marker)) == 1 && !(system && strstr(system, rm_str(&marker)));
        }
        if (found) break;
    }
    rm_strbuf_free(&marker);
    return found && !marked->failed;
}

static bool set_piece(rm_pieces *p, int i, const char *s, size_t n) {
    p->n_text[i] = n;
    return (p->text[i] = rm_strndup(s, n)) != NULL;
}

/* Cuts the rendered text; the markers must be in it once each, in the order of the prompt. */
static rmas_status cut(const rm_parts *user, const rm_strbuf *chat, unsigned salt, rm_pieces *out, rmas_error *err) {
    rm_strbuf marker = {0};
    const char *from = rm_str(chat), *end = from + chat->n;
    rmas_status st = RMAS_OK;
    for (int i = 0; i < user->n && st == RMAS_OK; i++) {
        if (!user->v[i].is_slot) continue;
        const char *role = user->v[i].text;
        int slot = out->n_slot;
        rm_strbuf_clear(&marker);
        put_marker(&marker, role, slot, salt);
        const char *at = marker.failed ? NULL : strstr(from, marker.s);
        if (!at || count(rm_str(chat), marker.s) != 1) {
            st = marker.failed ? rm_fail(err, RMAS_E_NOMEM, "out of memory")
                               : rm_fail(err, RMAS_E_FORMAT,
                                         "the chat template does not keep the slot of '%s' where the prompt has it, or prints it twice", role);
        } else if (!set_piece(out, slot, from, (size_t)(at - from)) || !(out->slot[slot] = rm_strdup(role))) {
            st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
        } else {
            from = at + marker.n;
            out->n_slot++;
        }
    }
    if (st == RMAS_OK && !set_piece(out, out->n_slot, from, (size_t)(end - from))) st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rm_strbuf_free(&marker);
    return st;
}

rmas_status rm_prompt_split(const rm_parts *user, const char *system, rm_chat_fn render, void *ctx, rm_pieces *out, rmas_error *err) {
    size_t n_slot = 0;
    for (int i = 0; i < user->n; i++) n_slot += user->v[i].is_slot;
    *out = (rm_pieces){.text = rm_calloc(n_slot + 1, sizeof *out->text),
                       .n_text = rm_calloc(n_slot + 1, sizeof *out->n_text),
                       .slot = rm_calloc(n_slot + 1, sizeof *out->slot)};
    rm_strbuf marked = {0}, chat = {0};
    unsigned salt = 0;
    rmas_status st = RMAS_OK;
    if (!out->text || !out->n_text || !out->slot || !choose_salt(user, system, &marked, &salt))
        st = rm_fail(err, RMAS_E_NOMEM, "no memory for a prompt, or it is full of slot markers");
    if (st == RMAS_OK) st = render(ctx, system, rm_str(&marked), &chat, err);
    if (st == RMAS_OK && memchr(rm_str(&chat), 0, chat.n)) st = rm_fail(err, RMAS_E_FORMAT, "the chat template prints a NUL character");
    if (st == RMAS_OK) st = cut(user, &chat, salt, out, err);
    rm_strbuf_free(&marked);
    rm_strbuf_free(&chat);
    if (st != RMAS_OK) rm_pieces_free(out);
    return st;
}
