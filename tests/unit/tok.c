/* Tokenizers on small vocabularies made here; the real ones are compared with the reference elsewhere (tests/run.sh). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tok/pattern.h"
#include "tok/tok.h"
#include "tok/unicode.h"
#include "util/file.h"
#include "util/mem.h"

static char root[] = "/tmp/rmas-tok-XXXXXX";

static const char *put(const char *name, const char *text, size_t n) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(rm_file_write(path, text, n, NULL), RMAS_OK);
    return path;
}

static void drop(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    unlink(path);
}

static rm_tok *open_path(const char *path) {
    rm_tok *t;
    rmas_error err = {0};
    if (rm_tok_open(&t, path, &err) != RMAS_OK) fail_msg("%s", err.msg);
    return t;
}

static rm_tok *open_text(const char *text) { return open_path(put("tokenizer.json", text, strlen(text))); }

/* The ids of a text, separated by spaces. */
static const char *ids_of(const rm_tok *t, const char *text, bool special) {
    static char out[4096];
    rm_ids ids = {0};
    rmas_error err = {0};
    if (rm_tok_encode(t, text, strlen(text), special, &ids, &err) != RMAS_OK) fail_msg("%s", err.msg);
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < ids.n; i++) n += (size_t)snprintf(out + n, sizeof out - n, "%s%d", i ? " " : "", ids.id[i]);
    rm_ids_free(&ids);
    return out;
}

static const char *text_of(const rm_tok *t, const char *ids, bool skip) {
    static char out[4096];
    rm_ids v = {0};
    rm_strbuf b = {0};
    for (const char *s = ids; *s;) {
        char *end;
        assert_true(rm_ids_push(&v, (int32_t)strtol(s, &end, 10)));
        s = end + strspn(end, " ");
    }
    rmas_error err = {0};
    if (rm_tok_decode(t, v.id, v.n, skip, true, &b, &err) != RMAS_OK) fail_msg("%s", err.msg);
    snprintf(out, sizeof out, "%s", rm_str(&b));
    rm_ids_free(&v);
    rm_strbuf_free(&b);
    return out;
}

/* ---- byte-level ------------------------------------------------------------------------------------------------------------- */

/* Ids 0..255 are the bytes, then he=256 ll=257 hell=258 " w"=259 "é"=260 (of two bytes). */
static void byte_level_json(rm_strbuf *b, const char *normalizer, const char *pre, const char *more) {
    rm_strbuf_printf(b, "{\"version\": \"1.0\", \"truncation\": null, \"added_tokens\": [%s], \"normalizer\": %s, ", more, normalizer);
    rm_strbuf_printf(b, "\"pre_tokenizer\": %s, \"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\"}, ", pre);
    rm_strbuf_puts(
        b, "\"model\": {\"type\": \"BPE\", \"merges\": [\"h e\", [\"l\", \"l\"], \"he ll\", \"\xC4\xA0 w\", \"\xC3\x83 \xC2\xA9\"], \"vocab\": {");
    for (int i = 0; i < 256; i++) {
        char c = (char)i;
        rm_strbuf s = {0};
        rm_bytes_to_alphabet(&s, &c, 1);
        rm_strbuf_printf(b, "\"%s%s\": %d, ", c == '"' || c == '\\' ? "\\" : "", s.s, i);
        rm_strbuf_free(&s);
    }
    rm_strbuf_puts(b, "\"he\": 256, \"ll\": 257, \"hell\": 258, \"\xC4\xA0w\": 259, \"\xC3\x83\xC2\xA9\": 260}}}");
}

#define QWEN                                                                                                                                         \
    "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "                                                   \
    "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|"  \
    "\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "             \
    "\"use_regex\": false}]}"
#define ADDED(id, text, flags) "{\"id\": " #id ", \"content\": \"" text "\", \"normalized\": false" flags "}"
#define SPECIAL ", \"special\": true"

static rm_tok *byte_level(const char *more) {
    rm_strbuf b = {0};
    byte_level_json(&b, "{\"type\": \"NFC\"}", QWEN, more);
    rm_tok *t = open_text(rm_str(&b));
    rm_strbuf_free(&b);
    return t;
}

static void byte_level_text(void **state) {
    (void)state;
    rm_tok *t = byte_level("");
    assert_int_equal(rm_tok_n_vocab(t), 261);
    assert_string_equal(ids_of(t, "hello", false), "258 111");
    assert_string_equal(ids_of(t, "we w", false), "119 101 259");
    assert_string_equal(ids_of(t, "", true), "");
    assert_string_equal(ids_of(t, "\xC3\xA9", false), "260");
    assert_string_equal(ids_of(t, "e\xCC\x81", false), "260"); /* NFC */
    assert_string_equal(ids_of(t, "12", false), "49 50");
    assert_string_equal(ids_of(t, "hhellll", false), "104 258 257");
    assert_string_equal(text_of(t, "258 111 259 99999 260", false), "hello w\xC3\xA9");
    assert_string_equal(text_of(t, "195", false), "\xEF\xBF\xBD");
    rm_strbuf b = {0};
    rm_tok_piece(t, 195, &b);
    rm_tok_piece(t, 259, &b);
    rm_tok_piece(t, -1, &b);
    assert_string_equal(b.s, "\xC3 w");
    rm_strbuf_free(&b);
    rm_ids ids = {0};
    rmas_error err = {0};
    assert_int_equal(rm_tok_encode(t, "a\xC3", 2, false, &ids, &err), RMAS_E_ARG);
    assert_int_equal(rm_tok_encode(t, "\xED\xA0\x80", 3, false, &ids, &err), RMAS_E_ARG);
    assert_int_equal(ids.n, 0);
    rm_tok_close(t);
}

static void added_tokens(void **state) {
    (void)state;
    rm_tok *t = byte_level(ADDED(300, "<a>", SPECIAL) ", " ADDED(301, "<a><b>", "") ", " ADDED(
        302, "[x]", ", \"lstrip\": true, \"rstrip\": true") ", " ADDED(303, "wo", ", \"single_word\": true") ", " ADDED(304, "a>", ""));
    assert_string_equal(ids_of(t, "<a><a><b><a>", false), "300 301 300");
    assert_string_equal(ids_of(t, "<<a>a>", false), "60 300 304");
    assert_string_equal(ids_of(t, "h \t [x] \n h", false), "104 302 104");
    assert_string_equal(ids_of(t, "[x] [x]", false), "302 302");
    assert_string_equal(ids_of(t, "wo wow two wo", false), "303 259 111 119 32 116 119 111 32 303");
    assert_string_equal(text_of(t, "300 301 104", true), "<a><b>h");
    assert_string_equal(text_of(t, "300 104", false), "<a>h");
    assert_true(rm_tok_is_special(t, 300));
    assert_false(rm_tok_is_special(t, 301));
    assert_false(rm_tok_is_special(t, 299));
    assert_false(rm_tok_is_special(t, -5));
    rm_tok_close(t);
}

/* ---- byte fallback ---------------------------------------------------------------------------------------------------------- */

#define BLANK "\xE2\x96\x81"
#define SPM_MODEL                                                                                                                                    \
    "\"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"fuse_unk\": true, \"byte_fallback\": true, \"vocab\": {\"<unk>\": 0, \"<s>\": 1, "   \
    "\"" BLANK "\": 2, \"a\": 3, \"b\": 4, \"" BLANK "a\": 5, \"ab\": 6, \"<0xC3>\": 7, \"<0xA9>\": 8, \"<0x0A>\": 9, \"" BLANK BLANK "\": 10}, "    \
    "\"merges\": [\"" BLANK " " BLANK "\", \"" BLANK " a\", \"a b\"]}"
#define SPM_DECODER                                                                                                                                  \
    "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"" BLANK "\"}, \"content\": \" \"}, "   \
    "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}"
#define SPM_REST                                                                                                                                     \
    "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"" BLANK "\"}, {\"type\": \"Replace\", "       \
    "\"pattern\": {\"String\": \" \"}, \"content\": \"" BLANK "\"}]}, \"pre_tokenizer\": null, " SPM_DECODER ", \"post_processor\": {\"type\": "     \
    "\"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"<s>\": "   \
    "{\"id\": \"<s>\", \"ids\": [1]}}}, \"added_tokens\": [" ADDED(1, "<s>", SPECIAL) "]"

static void byte_fallback(void **state) {
    (void)state;
    rm_tok *t = open_text("{" SPM_REST ", " SPM_MODEL "}");
    assert_string_equal(ids_of(t, "ab", true), "1 5 4");
    assert_string_equal(ids_of(t, " ab", false), "10 6"); /* the prefix comes before a space, too */
    assert_string_equal(ids_of(t, "a<s>b", false), "5 1 2 4");
    assert_string_equal(ids_of(t, "\xC3\xA9", false), "2 7 8");
    assert_string_equal(ids_of(t,
                               "\xD0\xAF\xD0\xAF"
                               "b",
                               false),
                        "2 0 4"); /* fused */
    assert_string_equal(ids_of(t, "", true), "1");
    assert_string_equal(text_of(t, "1 5 4 7 8", true), "ab\xC3\xA9");
    assert_string_equal(text_of(t, "5 8 7 9 3", false), "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
                                                        "a"); /* one for each token of a bad run */
    rm_tok_close(t);
    t = open_text("{" SPM_MODEL ", " SPM_REST "}"); /* the order of the keys does not matter */
    assert_string_equal(ids_of(t, "ab", true), "1 5 4");
    rm_tok_close(t);
}

/* Cutting a text in front of U+2581 must not keep neighbours apart that merge. */
static void cuts(void **state) {
    (void)state;
    const struct {
        const char *unk, *token, *merge, *text, *ids;
    } row[] = {
        {"null", "", "", "a" BLANK "b" BLANK "b", "3 2 4"},
        {"null", "", "", "ax" BLANK "b", "3 2"}, /* x is dropped */
        {"\"<unk>\"", "", "", "bx" BLANK "b", "2 5 4"},
        {"\"<unk>\"", ", \"<unk>" BLANK "\": 6", ", \"<unk> " BLANK "\"", "bx" BLANK, "2 6"},
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        char text[1000];
        snprintf(text, sizeof text,
                 "{\"model\": {\"type\": \"BPE\", \"unk_token\": %s, \"fuse_unk\": true, \"vocab\": {\"a\": 0, \"" BLANK "\": 1, \"b\": 2, \"a" BLANK
                 "\": 3, \"" BLANK "b\": 4, \"<unk>\": 5%s}, \"merges\": [\"a " BLANK "\", \"" BLANK " b\"%s]}}",
                 row[i].unk, row[i].token, row[i].merge);
        rm_tok *t = open_text(text);
        assert_string_equal(ids_of(t, row[i].text, false), row[i].ids);
        rm_tok_close(t);
    }
}

static void folders(void **state) {
    (void)state;
    const char *config =
        "{\"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"b\", \"pad_token\": null, \"clean_up_tokenization_spaces\": true, "
        "\"added_tokens_decoder\": {\"0\": {\"content\": \"<unk>\"}}, \"chat_template\": [{\"name\": \"tool\", \"template\": \"T\"}, "
        "{\"template\": \"D\", \"name\": \"default\"}], \"tokenizer_class\": \"PreTrainedTokenizerFast\"}";
    const char *file = "{" SPM_REST ", " SPM_MODEL "}";
    put("tokenizer.json", file, strlen(file));
    put("tokenizer_config.json", config, strlen(config));
    rm_tok *t = open_path(root);
    assert_int_equal(rm_tok_bos(t), 1);
    assert_int_equal(rm_tok_eos(t), 4);
    assert_int_equal(rm_tok_pad(t), -1);
    assert_string_equal(rm_tok_bos_text(t), "<s>");
    assert_string_equal(rm_tok_chat_template(t), "D");
    assert_true(rm_tok_is_special(t, 4)); /* a token with a role is special */
    assert_string_equal(ids_of(t, "ab", false), "5 4");
    rm_tok_close(t);
    put("chat_template.jinja", "J", 1);
    t = open_path(root);
    assert_string_equal(rm_tok_chat_template(t), "J");
    rm_tok_close(t);
    /* a class that transformers rebuilds: the prefix only at the start of the text, and only before what has none */
    config = "{\"tokenizer_class\": \"LlamaTokenizerFast\"}";
    put("tokenizer_config.json", config, strlen(config));
    t = open_path(root);
    assert_string_equal(ids_of(t, "ab<s>b", false), "5 4 1 4");
    assert_string_equal(ids_of(t, " ab", false), "5 4");
    rm_tok_close(t);
    config = "{\"model_type\": \"mistral\"}"; /* its table names another class: the file counts */
    put("config.json", config, strlen(config));
    t = open_path(root);
    assert_string_equal(ids_of(t, " ab", false), "10 6");
    rm_tok_close(t);
    drop("config.json");
    drop("chat_template.jinja");
    drop("tokenizer_config.json");
}

/* What the configuration says of added tokens, and where their roles are written. */
static void folder_tokens(void **state) {
    (void)state;
    const char *file = "{" SPM_REST ", " SPM_MODEL "}";
    put("tokenizer.json", file, strlen(file));
    const char *map = "{\"eos_token\": \"b\", \"pad_token\": {\"content\": \"ab\"}}";
    put("special_tokens_map.json", map, strlen(map));
    const char *config = "{\"eos_token\": \"a\", \"added_tokens_decoder\": {\"1\": {\"content\": \"<s>\", \"lstrip\": true, \"rstrip\": false, "
                         "\"normalized\": false, \"single_word\": false, \"special\": true}, \"9\": {\"content\": \"nowhere\"}, "
                         "\"4\": {\"content\": \"b\", \"normalized\": false, \"special\": false}}}";
    put("tokenizer_config.json", config, strlen(config));
    rm_tok *t = open_path(root);
    assert_int_equal(rm_tok_eos(t), 3); /* beside an added_tokens_decoder the map does not count */
    assert_int_equal(rm_tok_pad(t), -1);
    assert_string_equal(ids_of(t, "b  <s>b", false), "4 1 4"); /* lstrip, and a token of the vocabulary that became an added one */
    assert_false(rm_tok_is_special(t, 4));
    rm_tok_close(t);
    config = "{\"eos_token\": \"a\", \"add_bos_token\": true, \"image_token\": \"ab\", \"extra_special_tokens\": {\"x_token\": \"" BLANK BLANK "\"}, "
             "\"additional_special_tokens\": [\"<unk>\"]}";
    put("tokenizer_config.json", config, strlen(config));
    t = open_path(root);
    assert_int_equal(rm_tok_eos(t), 4); /* without one it has the last word */
    assert_int_equal(rm_tok_pad(t), 6);
    assert_true(rm_tok_is_special(t, 6) && rm_tok_is_special(t, 10));
    assert_false(rm_tok_is_special(t, 0)); /* extra_special_tokens are there */
    assert_string_equal(ids_of(t, "aab", false), "5 6");
    rm_tok_close(t);
    drop("special_tokens_map.json");
    rm_strbuf b = {0};
    byte_level_json(&b, "null", QWEN, ADDED(300, "<a>", SPECIAL));
    put("tokenizer.json", b.s, b.n);
    rm_strbuf_free(&b);
    config = "{\"tokenizer_class\": \"Qwen2Tokenizer\", \"add_prefix_space\": true, \"added_tokens_decoder\": {\"300\": {\"content\": \"<a>\", "
             "\"normalized\": false, \"special\": false}}}";
    put("tokenizer_config.json", config, strlen(config));
    t = open_path(root);
    assert_string_equal(ids_of(t, "x,", false), "32 120 32 44"); /* before every word */
    assert_false(rm_tok_is_special(t, 300)); /* such a class does not see what tokenizer.json says of it */
    rm_tok_close(t);
    drop("tokenizer_config.json");
}

static void clean_up(void **state) {
    (void)state;
    rm_strbuf b = {0};
    byte_level_json(&b, "null", QWEN, "");
    put("tokenizer.json", b.s, b.n);
    rm_strbuf_free(&b);
    put("tokenizer_config.json", "{\"clean_up_tokenization_spaces\": true}", 38);
    rm_tok *t = open_path(root);
    assert_string_equal(text_of(t, "104 32 46 32 33 32 32 44 105 32 39 115 32 110 39 116 32 39 32 120", false), "h.! ,i'sn't'x");
    rm_tok_close(t);
    drop("tokenizer_config.json");
}

/* ---- splitting -------------------------------------------------------------------------------------------------------------- */

static void expect_split(const char *regex, const char *text, const char *want) {
    rm_pattern *p;
    rm_pattern_work w = {0};
    rm_match_walk walk = {0};
    rm_strbuf got = {0};
    size_t n = strlen(text), a, b, done = 0;
    assert_int_equal(rm_pattern_regex(&p, regex, strlen(regex), "test", NULL), RMAS_OK);
    while (assert_int_equal(rm_pattern_walk(p, &w, &walk, text, n, &a, &b, NULL), RMAS_OK), a <= n) {
        if (a > done) rm_strbuf_printf(&got, "(%.*s)", (int)(a - done), text + done);
        rm_strbuf_printf(&got, "[%.*s]", (int)(b - a), text + a);
        done = b;
    }
    rm_strbuf_puts(&got, text + done);
    assert_string_equal(rm_str(&got), want);
    rm_strbuf_free(&got);
    rm_pattern_work_free(&w);
    rm_pattern_free(p);
}

static void known_expressions(void **state) {
    (void)state;
    expect_split(rm_regex_qwen2, "I'VE don't 12 x_1", "[I]['VE][ don]['t][ ][1][2][ x][_][1]");
    expect_split(rm_regex_qwen2, "a  b\n\n c \r\n \t", "[a][ ][ b][\n\n][ c][ \r\n][ \t]");
    expect_split(rm_regex_qwen2, "'\xC5\xBFt !?\n\nx", "['\xC5\xBF][t][ !?\n\n][x]");
    expect_split(rm_regex_qwen2,
                 "e\xCC\x81"
                 "a",
                 "[e][\xCC\x81"
                 "a]");
    expect_split(rm_regex_qwen35,
                 "e\xCC\x81"
                 "a",
                 "[e\xCC\x81"
                 "a]");
    expect_split(rm_regex_llama3, "1234567", "[123][456][7]");
    expect_split(rm_regex_gpt2, "I'VE I've 12 3\n\n x!", "[I]['][VE][ I]['ve][ 12][ 3][\n\n][ x][!]");
    expect_split(rm_regex_gpt2, "\xC2\x85\xE3\x80\x80 x", "[\xC2\x85\xE3\x80\x80][ x]");
    expect_split("a+|x*", "baax", "[](b)[aa][x]"); /* by PCRE2; empty matches as in the reference */
    expect_split("\\s?\\p{L}+", "ab cd1", "[ab][ cd]1"); /* a property may be repeated */
    /* marks are of a word, a circled 1 is not, one half is outside of sets */
    expect_split("\\w+|[^\\w\\s]+", "e\xCC\x81_\xC2\xBD \xE2\x91\xA0\xC2\xBD", "[e\xCC\x81_\xC2\xBD]( )[\xE2\x91\xA0\xC2\xBD]");
    expect_split("^.|.$", "ab\ncd\n", "[a][b](\n)[c][d]\n"); /* at every line */
    expect_split("\\s+", "a\xC2\x85\xE1\xA0\x8E b", "(a)[\xC2\x85](\xE1\xA0\x8E)[ ]b"); /* U+180E is no white space */
}

static void hostile_expressions(void **state) {
    (void)state;
    const char *refused[] = {"(", "\\h", "[a&&b]", "a{1,2}+", "(?R)", "(*SKIP)", "\\C", "[[a]b]", "\\bx", "[\\W]", "\\p{N}{1,3}+"};
    rm_pattern *p;
    rmas_error err = {0};
    for (size_t i = 0; i < RM_COUNT(refused); i++) {
        assert_int_equal(rm_pattern_regex(&p, refused[i], strlen(refused[i]), "test", &err), RMAS_E_UNSUPPORTED);
        assert_null(p);
    }
    static char text[3000];
    memset(text, 'a', sizeof text);
    size_t a, b;
    rm_pattern_work w = {0};
    assert_int_equal(rm_pattern_regex(&p, "(?:a|aa)+[bc]", 13, "test", NULL), RMAS_OK);
    assert_int_equal(rm_pattern_next(p, &w, text, sizeof text, 0, &a, &b, &err), RMAS_E_UNSUPPORTED);
    rm_pattern_work_free(&w);
    rm_pattern_free(p);
}

static void behaviours(void **state) {
    (void)state;
    const struct {
        const char *how, *want; /* "h  he h", split at " "; 32 is the space, 256 "he" */
    } row[] = {{"Isolated", "104 32 32 256 32 104"}, {"Removed", "104 256 104"}};
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        rm_strbuf b = {0};
        char pre[400];
        snprintf(pre, sizeof pre,
                 "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"%s\"}, "
                 "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}]}",
                 row[i].how);
        byte_level_json(&b, "null", pre, "");
        rm_tok *t = open_text(b.s);
        assert_string_equal(ids_of(t, "h  he h", false), row[i].want);
        rm_tok_close(t);
        rm_strbuf_free(&b);
    }
    /* "l w" has no merge of its own, " w" has: only where the space goes to the next word is it made */
    const char *how[] = {"MergedWithNext", "MergedWithPrevious"}, *want[] = {"108 259 259", "108 32 119 32 119"};
    for (size_t i = 0; i < 2; i++) {
        rm_strbuf b = {0};
        char pre[400];
        snprintf(pre, sizeof pre,
                 "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": \" \"}, \"behavior\": \"%s\"}, "
                 "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}]}",
                 how[i]);
        byte_level_json(&b, "null", pre, "");
        rm_tok *t = open_text(b.s);
        assert_string_equal(ids_of(t, "l w w", false), want[i]);
        rm_tok_close(t);
        rm_strbuf_free(&b);
    }
}

/* ---- Unicode ---------------------------------------------------------------------------------------------------------------- */

static void expect_form(rm_normal_form form, const char *text, const char *want) {
    rm_strbuf b = {0};
    rm_normalize(&b, text, strlen(text), form);
    assert_string_equal(rm_str(&b), want);
    rm_strbuf_free(&b);
}

static void normal_forms(void **state) {
    (void)state;
    expect_form(RM_NFC, "e\xCC\x81", "\xC3\xA9");
    expect_form(RM_NFD, "\xC3\xA9", "e\xCC\x81");
    expect_form(RM_NFC, "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"); /* Hangul */
    expect_form(RM_NFC, "\xE2\x84\xAB", "\xC3\x85"); /* Angstrom */
    expect_form(RM_NFKC, "\xEF\xAC\x81", "fi");
    expect_form(RM_NFC, "q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87"); /* marks are ordered */
    /* what came after Unicode 9 stays as and where it is: U+1DF7 below U+0323, U+08D0 between a letter and its accent, U+11935 with
     * U+11930, U+32FF, U+1FBF7 */
    expect_form(RM_NFC, "q\xE1\xB7\xB7\xCC\xA3\xCC\x87\xCC\xA3", "q\xE1\xB7\xB7\xCC\xA3\xCC\xA3\xCC\x87");
    expect_form(RM_NFC, "q\xCC\x87\xE1\xB7\xB7\xCC\xA3", "q\xCC\x87\xE1\xB7\xB7\xCC\xA3");
    expect_form(RM_NFC,
                "e\xE0\xA3\x90\xCC\x81"
                "e\xCC\x81",
                "e\xE0\xA3\x90\xCC\x81\xC3\xA9");
    expect_form(RM_NFC, "\xF0\x91\xA4\xB5\xF0\x91\xA4\xB0", "\xF0\x91\xA4\xB5\xF0\x91\xA4\xB0");
    expect_form(RM_NFKC, "\xE3\x8B\xBF\xF0\x9F\xAF\xB7\xEF\xAC\x81",
                "\xE3\x8B\xBF\xF0\x9F\xAF\xB7"
                "fi");
    rm_strbuf in = {0}, want = {0}, got = {0};
    rm_strbuf_putc(&in, 'q');
    rm_strbuf_putc(&want, 'q');
    for (int i = 0; i < 50000; i++) rm_strbuf_puts(&in, "\xCC\x87\xCC\xA3"); /* would take minutes if ordering were quadratic */
    for (int i = 0; i < 50000; i++) rm_strbuf_puts(&want, "\xCC\xA3");
    for (int i = 0; i < 50000; i++) rm_strbuf_puts(&want, "\xCC\x87");
    rm_normalize(&got, in.s, in.n, RM_NFC);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.s, want.s, want.n);
    rm_strbuf_free(&in);
    rm_strbuf_free(&want);
    rm_strbuf_free(&got);
    for (unsigned cp = 0x80; cp < 0x20000; cp++) { /* what counts as inert stays as it is where the long way is gone */
        if (cp >= 0xD800 && cp < 0xE000) continue;
        rm_strbuf b = {0};
        rm_strbuf_putc(&b, 'e');
        rm_strbuf_utf8(&b, cp);
        if (rm_nfc_is_inert(b.s, b.n)) {
            rm_strbuf_puts(&b, " \xCC\x81");
            rm_normalize(&got, b.s, b.n, RM_NFC);
            assert_string_equal(got.s, b.s);
            rm_strbuf_clear(&got);
        }
        rm_strbuf_free(&b);
    }
    rm_strbuf_free(&got);
}

static void alphabet(void **state) {
    (void)state;
    bool seen[0x200] = {false};
    for (unsigned i = 0; i < 256; i++) {
        unsigned c = rm_byte_to_char((unsigned char)i);
        assert_true(c < 0x200 && !seen[c]);
        seen[c] = true;
        assert_int_equal(rm_char_to_byte(c), (int)i);
    }
    assert_int_equal(rm_byte_to_char(' '), 0x120);
    assert_int_equal(rm_byte_to_char(0xAD), 0x143);
    assert_int_equal(rm_char_to_byte(0x20), -1);
    assert_int_equal(rm_char_class(0x13460), RM_CH_L); /* Unicode 16 */
    assert_int_equal(rm_char_class(0x85), RM_CH_S);
    assert_int_equal(rm_char_class(0xFEFF), 0);
}

/* ---- hostile files ---------------------------------------------------------------------------------------------------------- */

#define MODEL(more) "{\"model\": {\"type\": \"BPE\", " more "}}"
#define V "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}"

static void bad_files(void **state) {
    (void)state;
    const struct {
        const char *text, *says;
    } row[] = {
        {"", "ends too early"},
        {"{}", "no model"},
        {"[]", "an object was expected"},
        {MODEL(V), "no merges"},
        {MODEL("\"merges\": []"), "no vocab"},
        {MODEL(V ", \"merges\": [\"a c\"]"), "second part"},
        {MODEL(V ", \"merges\": [\"b a\"]"), "result"},
        {MODEL(V ", \"merges\": [\"ab\"]"), "one space"},
        {MODEL(V ", \"merges\": [\"a  b\"]"), "one space"},
        {MODEL(V ", \"merges\": [[\"a\"]]"), "second string"},
        {MODEL(V ", \"merges\": [[\"a\", \"b\", \"c\"]]"), "end of the pair"},
        {MODEL(V ", \"merges\": [3]"), "expected"},
        {MODEL("\"vocab\": {\"\": 5}, \"merges\": [\"a b\"]"), "first part"}, /* a pool without a byte in it */
        {MODEL(V ", " V ", \"merges\": []"), "two vocabularies"},
        {MODEL(V ", \"merges\": [], \"merges\": []"), "two lists"},
        {MODEL("\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []"), "id 0"},
        {MODEL("\"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []"), "two ids"},
        {MODEL("\"vocab\": {\"a\": 2000000000}, \"merges\": []"), "id 2000000000"},
        {MODEL("\"vocab\": {\"a\": -1}, \"merges\": []"), "an id"},
        {MODEL("\"vocab\": {\"a\": 1.5}, \"merges\": []"), "an id"},
        {MODEL("\"vocab\": {\"a\": 99999999999}, \"merges\": []"), "an id"},
        {MODEL("\"vocab\": [[\"a\", -1.0]], \"merges\": []"), "unsupported model"},
        {MODEL(V ", \"merges\": [], \"dropout\": 0.1"), "dropout"},
        {MODEL(V ", \"merges\": [], \"end_of_word_suffix\": \"</w>\""), "end_of_word_suffix"},
        {"{\"model\": {\"type\": \"Unigram\"}}", "'Unigram'"},
        {"{\"normalizer\": {\"type\": \"BertNormalizer\"}}", "'BertNormalizer'"},
        {"{\"normalizer\": {\"type\": \"Sequence\"}}", "list of parts"},
        {"{\"normalizer\": 5}", "a type"},
        {"{\"pre_tokenizer\": {\"type\": \"Whitespace\"}}", "'Whitespace'"},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}}}", "regular expression"},
        {"{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"ab\"}}", "one character"},
        {"{\"decoder\": {\"type\": \"WordPiece\"}}", "'WordPiece'"},
        {"{\"post_processor\": {\"type\": \"BertProcessing\"}}", "'BertProcessing'"},
        {"{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"x\"}}]}}", "ids"},
        {"{\"added_tokens\": [{\"id\": 0}]}", "content"},
        {"{\"added_tokens\": [{\"content\": \"x\"}]}", "id"},
        {"{\"added_tokens\": [{\"id\": 2, \"content\": \"x\"}], "
         "\"model\": {" V ", \"merges\": []}}",
         "belongs to 'ab'"},
        {"{\"added_tokens\": [{\"id\": 1000000000, \"content\": \"x\"}], "
         "\"model\": {" V ", \"merges\": []}}",
         "id 1000000000"},
        {"{\"added_tokens\": [{\"id\": 7, \"content\": \"x\"}, {\"id\": 7, \"content\": \"y\"}], "
         "\"model\": {" V ", \"merges\": []}}",
         "belongs to 'x'"},
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        rm_tok *t;
        rmas_error err = {0};
        const char *path = put("tokenizer.json", row[i].text, strlen(row[i].text));
        if (rm_tok_open(&t, path, &err) == RMAS_OK) fail_msg("accepted: %s", row[i].text);
        assert_null(t);
        if (!strstr(err.msg, row[i].says)) fail_msg("'%s' does not say '%s' (%s)", err.msg, row[i].says, row[i].text);
        if (!strstr(err.msg, path)) fail_msg("'%s' does not name the file", err.msg);
    }
}

/* Cut and damaged files must be refused or read, never crash; the sanitizers look on. */
static void damaged_files(void **state) {
    (void)state;
    rm_strbuf b = {0};
    byte_level_json(&b, "{\"type\": \"NFC\"}", QWEN, ADDED(300, "<a>", SPECIAL));
    uint64_t seed = 1;
    for (int round = 0; round < 300; round++) {
        char *copy = rm_strndup(b.s, b.n);
        size_t n = b.n;
        seed = rm_mix64(seed);
        if (round % 3 == 0) n = seed % b.n;
        for (int k = 0; round % 3 && k < 1 + round % 4; k++) {
            seed = rm_mix64(seed);
            copy[seed % n] = "{}[]\",:0a\\\xC3\x01"[(seed >> 32) % 12];
        }
        rm_tok *t;
        if (rm_tok_open(&t, put("tokenizer.json", copy, n), NULL) == RMAS_OK) {
            rm_ids ids = {0};
            if (rm_tok_encode(t, "hello w <a> 12\n", 15, true, &ids, NULL) == RMAS_OK) {
                rm_strbuf out = {0};
                rm_tok_decode(t, ids.id, ids.n, false, true, &out, NULL);
                rm_strbuf_free(&out);
            }
            rm_ids_free(&ids);
            rm_tok_close(t);
        }
        rm_free(copy);
    }
    rm_strbuf_free(&b);
}

/* tokenizer_config.json cut at every byte: an error each time, and nothing is left behind. */
static void cut_config(void **state) {
    (void)state;
    static const char config[] =
        "{\"bos_token\": {\"content\": \"<a>\", \"special\": true}, \"additional_special_tokens\": [\"h\", {\"content\": \"e\"}],"
        "\"added_tokens_decoder\": {\"300\": {\"content\": \"<a>\", \"lstrip\": true}}, \"x_token\": \"h\", "
        "\"extra_special_tokens\": {\"y\": \"h\"}, \"tokenizer_class\": \"Qwen2Tokenizer\", \"chat_template\": [{\"name\": \"default\", "
        "\"template\": \"x\"}]}";
    rm_strbuf b = {0};
    byte_level_json(&b, "{\"type\": \"NFC\"}", QWEN, ADDED(300, "<a>", SPECIAL));
    put("tokenizer.json", b.s, b.n);
    rm_strbuf_free(&b);
    for (size_t n = 0; n < sizeof config; n++) {
        rm_tok *t;
        rmas_error err = {0};
        put("tokenizer_config.json", config, n);
        rmas_status s = rm_tok_open(&t, root, &err);
        assert_int_equal(s, n == sizeof config - 1 ? RMAS_OK : RMAS_E_FORMAT);
        if (s != RMAS_OK && !strstr(err.msg, "tokenizer_config.json")) fail_msg("'%s' does not name the file", err.msg);
        rm_tok_close(t);
    }
    drop("tokenizer_config.json");
}

static void long_texts(void **state) {
    (void)state;
    rm_tok *a = byte_level(ADDED(300, "<|im_start|>", SPECIAL) ", " ADDED(301, "\\n\\n\\n", ""));
    rm_tok *b = open_text("{" SPM_REST ", " SPM_MODEL "}");
    const char *unit[] = {"a", "l", " ", "\n", "\xCC\x81", "7", "'s", "<|im_", "h e", "\xC3\xA9", " a"};
    for (size_t i = 0; i < RM_COUNT(unit); i++) {
        rm_strbuf text = {0}, out = {0};
        while (text.n < 300000) rm_strbuf_puts(&text, unit[i]);
        for (int k = 0; k < 2; k++) {
            rm_ids ids = {0};
            assert_int_equal(rm_tok_encode(k ? b : a, text.s, text.n, false, &ids, NULL), RMAS_OK);
            if (!k) {
                rm_strbuf_clear(&out);
                assert_int_equal(rm_tok_decode(a, ids.id, ids.n, false, false, &out, NULL), RMAS_OK);
                assert_int_equal(out.n, text.n);
                assert_memory_equal(out.s, text.s, text.n);
            }
            rm_ids_free(&ids);
        }
        rm_strbuf_free(&text);
        rm_strbuf_free(&out);
    }
    rm_tok_close(a);
    rm_tok_close(b);
}

/* Every allocation fails once: an error comes back, nothing leaks. */
static void out_of_memory(void **state) {
    (void)state;
    rm_strbuf b = {0};
    byte_level_json(&b, "{\"type\": \"NFC\"}", QWEN, ADDED(300, "<a>", SPECIAL));
    put("tokenizer.json", b.s, b.n);
    rm_strbuf_free(&b);
    static const char config[] = "{\"eos_token\": \"<a>\", \"chat_template\": \"x\", \"extra_special_tokens\": [\"h\"], \"x_token\": \"l\", "
                                 "\"added_tokens_decoder\": {\"300\": {\"content\": \"<a>\"}, \"301\": {\"content\": \"o\"}}}";
    put("tokenizer_config.json", config, sizeof config - 1);
    bool done = false;
    for (long k = 1; !done && k < 2000; k++) {
        rm_tok *t = NULL;
        rm_ids ids = {0};
        rm_strbuf out = {0};
        rm_mem_fail_after(k);
        done = rm_tok_open(&t, root, NULL) == RMAS_OK && rm_tok_encode(t, "e\xCC\x81hello<a> w", 14, true, &ids, NULL) == RMAS_OK &&
               rm_tok_decode(t, ids.id, ids.n, false, true, &out, NULL) == RMAS_OK;
        rm_mem_fail_after(0);
        if (done) assert_string_equal(out.s, "\xC3\xA9hello<a> w");
        rm_tok_close(t);
        rm_ids_free(&ids);
        rm_strbuf_free(&out);
    }
    assert_true(done);
    drop("tokenizer_config.json");
}

/* ---- GGUF ------------------------------------------------------------------------------------------------------------------- */

static void le(rm_strbuf *b, uint64_t v, int n) {
    for (int i = 0; i < n; i++) rm_strbuf_putc(b, (char)(v >> (8 * i)));
}
static void string(rm_strbuf *b, const char *s) {
    le(b, strlen(s), 8);
    rm_strbuf_puts(b, s);
}
static void kv_string(rm_strbuf *b, const char *key, const char *v) {
    string(b, key);
    le(b, 8, 4);
    string(b, v);
}
static void kv_u32(rm_strbuf *b, const char *key, unsigned v) {
    string(b, key);
    le(b, 4, 4);
    le(b, v, 4);
}
static void kv_bool(rm_strbuf *b, const char *key, bool v) {
    string(b, key);
    le(b, 7, 4);
    le(b, v, 1);
}
static void kv_strings(rm_strbuf *b, const char *key, const char *const *v, int n) {
    string(b, key);
    le(b, 9, 4);
    le(b, 8, 4);
    le(b, (uint64_t)n, 8);
    for (int i = 0; i < n; i++) string(b, v[i]);
}
static void kv_words(rm_strbuf *b, const char *key, int type, const void *v, int n) { /* i32 or f32 */
    string(b, key);
    le(b, 9, 4);
    le(b, (uint64_t)type, 4);
    le(b, (uint64_t)n, 8);
    rm_strbuf_add(b, v, (size_t)n * 4);
}
static void head(rm_strbuf *b, int n_kv) {
    rm_strbuf_clear(b);
    rm_strbuf_puts(b, "GGUF");
    le(b, 3, 4);
    le(b, 0, 8);
    le(b, (uint64_t)n_kv, 8);
}

static void gguf_spm(void **state) {
    (void)state;
    const char *token[] = {"<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", BLANK, "a", "b", BLANK "a", "ab", "<t>", "[PAD11]"};
    const int32_t type[] = {2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 4, 5};
    const float score[] = {0, 0, 0, 0, 0, -9, -9, -9, -1, -2, -1000, 0};
    rm_strbuf b = {0};
    for (int prefix = 0; prefix < 2; prefix++) {
        head(&b, 8);
        kv_string(&b, "tokenizer.ggml.model", "llama");
        kv_strings(&b, "tokenizer.ggml.tokens", token, RM_COUNT(token));
        kv_words(&b, "tokenizer.ggml.token_type", 5, type, RM_COUNT(type));
        kv_words(&b, "tokenizer.ggml.scores", 6, score, RM_COUNT(score));
        kv_u32(&b, "tokenizer.ggml.bos_token_id", 1);
        kv_u32(&b, "tokenizer.ggml.eos_token_id", 2);
        kv_bool(&b, "tokenizer.ggml.add_space_prefix", prefix);
        kv_string(&b, "tokenizer.chat_template", "T");
        rm_tok *t = open_path(put("a.gguf", b.s, b.n));
        assert_string_equal(ids_of(t, "ab", true), prefix ? "1 8 7" : "1 9");
        assert_string_equal(ids_of(t, " ab<t>\xC3\xA9", false), prefix ? "5 8 7 10 5 3 4" : "8 7 10 3 4");
        assert_string_equal(text_of(t, "1 8 7 3 4 11", true), prefix ? "ab\xC3\xA9" : " ab\xC3\xA9");
        assert_string_equal(rm_tok_bos_text(t), "<s>");
        assert_string_equal(rm_tok_chat_template(t), "T");
        assert_int_equal(rm_tok_eos(t), 2);
        rm_tok_close(t);
    }
    rm_strbuf_free(&b);
}

static void gguf_gpt2(void **state) {
    (void)state;
    const char *token[] = {"a", "b", "\xC4\xA0", "ab", "<s>", "1", "ba"}, *merge[] = {"a b", "b a"};
    const int32_t type[] = {1, 1, 1, 1, 3, 1, 1};
    rm_strbuf b = {0};
    const char *pre[] = {"qwen2", "llama-bpe", "smollm"};
    for (int i = 0; i < 3; i++) {
        head(&b, 6);
        kv_string(&b, "tokenizer.ggml.model", "gpt2");
        kv_string(&b, "tokenizer.ggml.pre", pre[i]);
        kv_strings(&b, "tokenizer.ggml.tokens", token, RM_COUNT(token));
        kv_words(&b, "tokenizer.ggml.token_type", 5, type, RM_COUNT(type));
        kv_strings(&b, "tokenizer.ggml.merges", merge, RM_COUNT(merge));
        kv_u32(&b, "tokenizer.ggml.bos_token_id", 4);
        rm_tok *t = open_path(put("b.gguf", b.s, b.n));
        assert_string_equal(ids_of(t, "ab ba 11<s>x", true), i == 1 ? "4 3 2 6 2 5 5 4" : "3 2 6 2 5 5 4"); /* x has no byte token: dropped */
        assert_string_equal(text_of(t, "3 2 4 0", true), "ab a");
        rm_tok_close(t);
    }
    head(&b, 3);
    kv_string(&b, "tokenizer.ggml.model", "gpt2");
    kv_strings(&b, "tokenizer.ggml.tokens", token, RM_COUNT(token));
    kv_string(&b, "tokenizer.ggml.pre", "nobody");
    rm_tok *t;
    rmas_error err = {0};
    assert_int_equal(rm_tok_open(&t, put("b.gguf", b.s, b.n), &err), RMAS_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "'nobody'"));
    rm_strbuf_free(&b);
}

static int setup(void **state) {
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    const char *file[] = {"tokenizer.json", "a.gguf", "b.gguf"};
    for (size_t i = 0; i < RM_COUNT(file); i++) drop(file[i]);
    return rmdir(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_text), cmocka_unit_test(added_tokens),
        cmocka_unit_test(byte_fallback),   cmocka_unit_test(cuts),
        cmocka_unit_test(folders),         cmocka_unit_test(folder_tokens),
        cmocka_unit_test(clean_up),        cmocka_unit_test(known_expressions),
        cmocka_unit_test(behaviours),      cmocka_unit_test(hostile_expressions),
        cmocka_unit_test(normal_forms),    cmocka_unit_test(alphabet),
        cmocka_unit_test(bad_files),       cmocka_unit_test(damaged_files),
        cmocka_unit_test(cut_config),      cmocka_unit_test(long_texts),
        cmocka_unit_test(out_of_memory),   cmocka_unit_test(gguf_spm),
        cmocka_unit_test(gguf_gpt2),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
