/* The tokenizer in the metadata of a GGUF file. "gpt2": byte-level BPE, the split named by `pre`. "llama": merging by scores.
 * Normal forms are not in the metadata; the Qwen models were trained on NFC, so their text is brought into it. */
#include <string.h>

#include "tok/internal.h"
#include "util/mem.h"

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

static const struct {
    const char *pre, *regex;
    bool digits, nfc, ignore_merges, bos;
} known[] = {
    {"qwen2", rm_regex_qwen2, false, true, false, false},       {"deepseek-r1-qwen", rm_regex_qwen2, false, true, false, false},
    {"qwen35", rm_regex_qwen35, false, true, false, false},     {"llama-bpe", rm_regex_llama3, false, false, true, true},
    {"llama3", rm_regex_llama3, false, false, true, true},      {"llama-v3", rm_regex_llama3, false, false, true, true},
    {"smaug-bpe", rm_regex_llama3, false, false, false, false}, {"smollm", rm_regex_gpt2, true, false, false, false},
    {"gpt-2", rm_regex_gpt2, false, false, false, false},
};

typedef struct {
    rm_tok *t;
    const rm_gguf *g;
    int n_token;
    rmas_error *err;
} reader;

static rmas_status malformed(const reader *r, const char *key, const char *what) {
    return rm_fail(r->err, RMAS_E_FORMAT, "%s: tokenizer.ggml.%s: %s", r->t->name, key, what);
}
static rmas_status no_memory(const reader *r) { return rm_fail(r->err, RMAS_E_NOMEM, "%s: out of memory for the tokenizer", r->t->name); }

static bool flag(const reader *r, const char *key, bool otherwise) {
    int64_t v;
    return rm_gguf_int(r->g, key, &v) ? v != 0 : otherwise;
}

static rmas_status read_tokens(reader *r) {
    static const char k_tokens[] = "tokenizer.ggml.tokens", k_type[] = "tokenizer.ggml.token_type";
    rm_tok *t = r->t;
    int64_t n = rm_gguf_array_len(r->g, k_tokens), n_type = rm_gguf_array_len(r->g, k_type);
    if (n <= 0 || n > INT32_MAX / 2) return malformed(r, "tokens", "no tokens in this file");
    if (n_type >= 0 && n_type != n) return malformed(r, "token_type", "not one type for each token");
    r->n_token = (int)n;
    const rm_gguf_array *tokens = rm_gguf_array_find(r->g, k_tokens), *types = rm_gguf_array_find(r->g, k_type);
    if (!rm_vocab_reserve(&t->vocab, (size_t)n * 8, (size_t)n)) return no_memory(r);
    for (int32_t i = 0; i < (int32_t)n; i++) {
        rm_span s;
        int64_t type = NORMAL;
        if (!rm_gguf_item_str(tokens, i, &s)) return malformed(r, "tokens", "not an array of strings");
        if (n_type >= 0 && !rm_gguf_item_int(types, i, &type)) return malformed(r, "token_type", "not an array of integers");
        if (type == UNUSED) continue; /* stands for an id that the model has and the tokenizer has not */
        if (type == UNKNOWN || type == CONTROL || type == USER_DEFINED) {
            rm_added_token *x = rm_tok_add_token(t, s.s, s.n, i);
            if (!x) return no_memory(r);
            x->special = type != USER_DEFINED;
            continue;
        }
        uint32_t off = rm_vocab_pool(&t->vocab, s.s, s.n);
        if (off == RM_NO_TEXT || !rm_vocab_add(&t->vocab, off, s.n, i)) return no_memory(r);
    }
    return rm_vocab_finish(&t->vocab, t->name, r->err);
}

static rmas_status read_id(reader *r, const char *key, const char *short_key, int32_t *out) {
    int64_t id;
    if (!rm_gguf_int(r->g, key, &id)) return RMAS_OK;
    if (id < 0 || id >= r->n_token) return malformed(r, short_key, "not the id of a token");
    *out = (int32_t)id;
    return RMAS_OK;
}

/* ---- gpt2 ----------------------------------------------------------------------------------------------------------------------- */

static rmas_status read_merges(reader *r) {
    static const char key[] = "tokenizer.ggml.merges";
    int64_t n = rm_gguf_array_len(r->g, key);
    if (n < 0) return malformed(r, "merges", "no merges in this file");
    const rm_gguf_array *merges = rm_gguf_array_find(r->g, key);
    rm_merge_reader m = {.vocab = &r->t->vocab, .name = r->t->name};
    rmas_status s = rm_merges_reserve(&m, (size_t)n + 64) ? RMAS_OK : no_memory(r);
    for (int64_t i = 0; i < n && s == RMAS_OK; i++) {
        rm_span x;
        s = rm_gguf_item_str(merges, i, &x) ? rm_merges_joined(&m, x.s, x.n, r->err) : malformed(r, "merges", "not an array of strings");
    }
    if (s == RMAS_OK) s = rm_merges_finish(&m, &r->t->bpe.merges, r->err);
    rm_merges_free(&m);
    return s;
}

static rmas_status read_gpt2(reader *r, bool *bos) {
    rm_span pre;
    if (!rm_gguf_str(r->g, "tokenizer.ggml.pre", &pre))
        return malformed(r, "pre", "missing: how to split text is not known; convert the model again with a newer llama.cpp");
    for (size_t i = 0; i < RM_COUNT(known); i++) {
        if (strlen(known[i].pre) != pre.n || memcmp(known[i].pre, pre.s, pre.n) != 0) continue;
        *bos = known[i].bos;
        r->t->bpe.ignore_merges = known[i].ignore_merges;
        RM_TRY(rm_tok_byte_level(r->t, known[i].regex, known[i].digits, known[i].nfc, r->err));
        return read_merges(r);
    }
    return rm_fail(r->err, RMAS_E_UNSUPPORTED,
                   "%s: tokenizer.ggml.pre: unsupported pre-tokenizer '%.*s' (qwen2, qwen35, llama-bpe, smollm and others are read)", r->t->name,
                   (int)(pre.n < 60 ? pre.n : 60), pre.s);
}

/* ---- llama ---------------------------------------------------------------------------------------------------------------------- */

static rmas_status read_scores(reader *r) {
    static const char key[] = "tokenizer.ggml.scores";
    rm_tok *t = r->t;
    if (rm_gguf_array_len(r->g, key) != r->n_token) return malformed(r, "scores", "not one score for each token");
    const rm_gguf_array *scores = rm_gguf_array_find(r->g, key);
    t->bpe.score_rank = rm_array((size_t)r->n_token, sizeof *t->bpe.score_rank);
    if (!t->bpe.score_rank) return no_memory(r);
    for (int i = 0; i < r->n_token; i++) {
        double score;
        if (!rm_gguf_item_float(scores, i, &score)) return malformed(r, "scores", "not an array of numbers");
        t->bpe.score_rank[i] = rm_bpe_score_rank((float)score);
    }
    return RMAS_OK;
}

/* Byte tokens by their type and text <0xHH>; merging must not make one, so they leave the table of strings. */
static rmas_status read_bytes(reader *r) {
    rm_tok *t = r->t;
    t->bpe.byte_fallback = true;
    for (unsigned i = 0; i < 256; i++) {
        char text[8] = "<0x00>";
        text[3] = "0123456789ABCDEF"[i >> 4];
        text[4] = "0123456789ABCDEF"[i & 15];
        int32_t id = rm_vocab_find(&t->vocab, text, 6);
        int64_t type;
        if (id < 0 || (rm_gguf_array_int(r->g, "tokenizer.ggml.token_type", id, &type) && type != BYTE)) continue;
        t->bpe.byte_id[i] = id;
        t->bpe.score_rank[id] = RM_NO_RANK;
    }
    return RMAS_OK;
}

static rmas_status read_llama(reader *r, bool *bos) {
    rm_tok *t = r->t;
    bool prefix = flag(r, "tokenizer.ggml.add_space_prefix", true);
    *bos = true;
    RM_TRY(read_id(r, "tokenizer.ggml.unknown_token_id", "unknown_token_id", &t->bpe.unk)); /* gpt2 drops what it cannot say */
    RM_TRY(read_scores(r));
    RM_TRY(read_bytes(r));
    rm_step *x;
    if (prefix) {
        if (!(x = rm_steps_add(&t->norm, RM_STEP_PREPEND)) || !(x->text = rm_strdup("\xE2\x96\x81"))) return no_memory(r);
        x->n = 3;
    }
    if (!(x = rm_steps_add(&t->norm, RM_STEP_REPLACE)) || !(x->text = rm_strdup("\xE2\x96\x81"))) return no_memory(r);
    x->n = 3;
    RM_TRY(rm_pattern_literal(&x->pattern, " ", 1, t->name, r->err));
    return rm_tok_spm_decoder(t, prefix, r->err);
}

/* ---- both ----------------------------------------------------------------------------------------------------------------------- */

static rmas_status copy_text(reader *r, int32_t id, char **out) {
    rm_text x = {"", 0};
    for (int i = 0; i < r->t->n_added; i++)
        if (r->t->added[i].id == id) x = (rm_text){r->t->vocab.pool + r->t->added[i].off, r->t->added[i].len};
    if (!x.n && id >= 0 && rm_vocab_text(&r->t->vocab, id).s) x = rm_vocab_text(&r->t->vocab, id);
    *out = rm_strndup(x.s, x.n);
    return *out ? RMAS_OK : no_memory(r);
}

rmas_status rm_tok_read_gguf(rm_tok *t, const rm_gguf *g, rmas_error *err) {
    reader r = {t, g, 0, err};
    rm_span model, template;
    bool bos = false;
    if (!rm_gguf_str(g, "tokenizer.ggml.model", &model)) return rm_fail(err, RMAS_E_FORMAT, "%s: no tokenizer in this file", t->name);
    RM_TRY(read_tokens(&r));
    if (model.n == 4 && memcmp(model.s, "gpt2", 4) == 0)
        RM_TRY(read_gpt2(&r, &bos));
    else if (model.n == 5 && memcmp(model.s, "llama", 5) == 0)
        RM_TRY(read_llama(&r, &bos));
    else
        return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: tokenizer.ggml.model: unsupported type '%.*s': gpt2 and llama are read", t->name,
                       (int)(model.n < 60 ? model.n : 60), model.s);
    RM_TRY(read_id(&r, "tokenizer.ggml.bos_token_id", "bos_token_id", &t->bos));
    RM_TRY(read_id(&r, "tokenizer.ggml.eos_token_id", "eos_token_id", &t->eos));
    RM_TRY(read_id(&r, "tokenizer.ggml.padding_token_id", "padding_token_id", &t->pad));
    RM_TRY(copy_text(&r, t->bos, &t->bos_text));
    RM_TRY(copy_text(&r, t->eos, &t->eos_text));
    if (flag(&r, "tokenizer.ggml.add_bos_token", bos) && t->bos >= 0 && !rm_ids_push(&t->before, t->bos)) return no_memory(&r);
    if (flag(&r, "tokenizer.ggml.add_eos_token", false) && t->eos >= 0 && !rm_ids_push(&t->after, t->eos)) return no_memory(&r);
    if (rm_gguf_str(g, "tokenizer.chat_template", &template)) {
        t->chat_template = rm_strndup(template.s, template.n);
        if (!t->chat_template) return no_memory(&r);
    }
    return RMAS_OK;
}
