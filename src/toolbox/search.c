/* Search: a folder of text files on this machine, or Tavily over HTTPS. Both give the same form of result. */
#include <curl/curl.h>
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "toolbox/toolbox.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/utf8.h"

enum { MAX_RESULTS = 4, MAX_CONTENT = 320, MAX_FOLDER = 256 << 20, MAX_REPLY = 4 << 20, MAX_WORDS = 32, MAX_WORD = 64 };

typedef struct {
    char *title, *file, *text; /* a paragraph; text NUL-terminated */
} passage;

struct rm_search {
    enum { OFF, FOLDER, TAVILY } kind;
    char *key, *url;
    passage *v;
    size_t n, cap;
};

void rm_search_free(rm_search *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) {
        rm_free(s->v[i].title);
        rm_free(s->v[i].file);
        rm_free(s->v[i].text);
    }
    rm_free(s->v);
    rm_free(s->key);
    rm_free(s->url);
    rm_free(s);
}

bool rm_search_is_on(const rm_search *s) { return s && s->kind != OFF; }

/* ---- the form of a result ------------------------------------------------------------------------------------------------ */

/* White space and control characters collapsed, at most MAX_CONTENT characters. */
static void add_content(const char *text, size_t n, rm_strbuf *out) {
    size_t count = 0;
    bool space = false, any = false;
    for (size_t i = 0; i < n;) {
        unsigned c;
        int len = rm_utf8_decode_lossy(text + i, n - i, &c);
        if (c <= ' ' || c == 0xA0 || c == 0x3000) {
            space = true;
        } else {
            if (count >= MAX_CONTENT) {
                rm_strbuf_puts(out, " ...");
                return;
            }
            if (space && any) rm_strbuf_putc(out, ' '), count++;
            rm_strbuf_utf8(out, c);
            count++;
            space = false;
            any = true;
        }
        i += (size_t)len;
    }
}

static void add_result(rm_strbuf *out, int i, const char *title, const char *url, const char *content, size_t n) {
    if (i == 1) rm_strbuf_puts(out, "\nResults:");
    rm_strbuf_printf(out, "\n[%d] %s", i, title);
    if (url && *url) rm_strbuf_printf(out, "\nURL: %s", url);
    rm_strbuf_putc(out, '\n');
    add_content(content, n, out);
}

/* ---- a folder --------------------------------------------------------------------------------------------------------------- */

static bool word_char(unsigned char c) { return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* The next word in lower case (ASCII); 0 at the end. */
static size_t next_word(const char *s, size_t *at, char out[MAX_WORD]) {
    size_t n = 0;
    while (s[*at] && !word_char((unsigned char)s[*at])) ++*at;
    for (; s[*at] && word_char((unsigned char)s[*at]); ++*at) {
        char c = s[*at];
        if (n < MAX_WORD - 1) out[n++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
    out[n] = 0;
    return n;
}

static rmas_status add_passage(rm_search *s, const char *title, const char *file, const char *text, size_t n, rmas_error *err) {
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 256;
        passage *v = rm_realloc_array(s->v, cap, sizeof *v);
        if (!v) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
        s->v = v;
        s->cap = cap;
    }
    passage p = {rm_strdup(title), rm_strdup(file), rm_strndup(text, n)};
    s->v[s->n++] = p;
    return p.title && p.file && p.text ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
}

/* Paragraphs are separated by empty lines; the title is the file's first line. */
static rmas_status add_file(rm_search *s, const char *path, const char *name, size_t *total, rmas_error *err) {
    char *text, title[200];
    size_t n;
    RM_TRY(rm_file_read(&text, &n, path, MAX_FOLDER, err));
    rmas_status st = RMAS_OK;
    *total += n;
    if (*total > MAX_FOLDER) st = rm_fail(err, RMAS_E_FULL, "%s: more than %d MiB of text in this folder", path, MAX_FOLDER >> 20);
    const char *from = text;
    while (*from == '#' || *from == ' ') from++;
    snprintf(title, sizeof title, "%.*s", (int)strcspn(from, "\r\n"), from);
    for (const char *p = text; !st && *p;) {
        const char *gap = strstr(p, "\n\n"), *end = gap ? gap : p + strlen(p);
        if (end > p && strspn(p, " \t\r\n") < (size_t)(end - p)) st = add_passage(s, *title ? title : name, name, p, (size_t)(end - p), err);
        p = gap ? gap + 2 : end;
    }
    rm_free(text);
    return st;
}

static int text_file(const struct dirent *d) {
    const char *dot = strrchr(d->d_name, '.');
    return d->d_name[0] != '.' && dot && (strcmp(dot, ".txt") == 0 || strcmp(dot, ".md") == 0);
}

static rmas_status open_folder(rm_search *s, const char *dir, rmas_error *err) {
    struct dirent **list = NULL;
    int n = scandir(dir, &list, text_file, alphasort);
    if (n < 0) return rm_fail(err, RMAS_E_IO, "%s: cannot read this folder of texts", dir);
    rmas_status st = n ? RMAS_OK : rm_fail(err, RMAS_E_FORMAT, "%s: no .txt or .md files to search", dir);
    size_t total = 0;
    for (int i = 0; i < n; i++) {
        char *path = rm_path_join(dir, list[i]->d_name);
        if (!st) st = path ? add_file(s, path, list[i]->d_name, &total, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
        rm_free(path);
        free(list[i]);
    }
    free(list);
    return st;
}

typedef struct {
    char w[MAX_WORDS][MAX_WORD];
    int n;
    double rarity[MAX_WORDS];
} query_words;

static void count_words(const query_words *q, const char *text, int count[MAX_WORDS]) {
    char w[MAX_WORD];
    memset(count, 0, sizeof(int) * MAX_WORDS);
    for (size_t at = 0; next_word(text, &at, w);) {
        for (int i = 0; i < q->n; i++) count[i] += strcmp(w, q->w[i]) == 0;
    }
}

static void search_folder(const rm_search *s, const char *query, rm_strbuf *out) {
    query_words q = {.n = 0};
    char w[MAX_WORD];
    int count[MAX_WORDS];
    for (size_t at = 0; q.n < MAX_WORDS && next_word(query, &at, w);) {
        bool seen = false;
        for (int i = 0; i < q.n; i++) seen |= strcmp(w, q.w[i]) == 0;
        if (!seen) memcpy(q.w[q.n++], w, MAX_WORD);
    }
    for (size_t p = 0; p < s->n; p++) { /* how many passages have each word */
        count_words(&q, s->v[p].text, count);
        for (int i = 0; i < q.n; i++) q.rarity[i] += count[i] > 0;
    }
    for (int i = 0; i < q.n; i++) q.rarity[i] = log(1 + (double)s->n / (1 + q.rarity[i]));
    size_t best[MAX_RESULTS];
    double score[MAX_RESULTS];
    int n = 0;
    for (size_t p = 0; p < s->n; p++) {
        double x = 0;
        count_words(&q, s->v[p].text, count);
        for (int i = 0; i < q.n; i++) x += q.rarity[i] * count[i] / (count[i] + 1.0);
        if (!(x > 0)) continue;
        int k = n < MAX_RESULTS ? n++ : MAX_RESULTS;
        while (k > 0 && score[k - 1] < x) {
            if (k < MAX_RESULTS) score[k] = score[k - 1], best[k] = best[k - 1];
            k--;
        }
        if (k < MAX_RESULTS) score[k] = x, best[k] = p;
    }
    for (int i = 0; i < n; i++) {
        const passage *v = &s->v[best[i]];
        add_result(out, i + 1, v->title, v->file, v->text, strlen(v->text));
    }
    if (!n) rm_strbuf_puts(out, "\n[no search results]");
}

/* ---- Tavily ----------------------------------------------------------------------------------------------------------------- */

static size_t receive(char *data, size_t size, size_t n, void *user) {
    rm_strbuf *b = user;
    if (b->n + size * n > MAX_REPLY) return 0;
    rm_strbuf_add(b, data, size * n);
    return b->failed ? 0 : size * n;
}

static void show_results(json_t *root, rm_strbuf *out) {
    json_t *list = json_object_get(root, "results");
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n && i < MAX_RESULTS; i++) {
        json_t *r = json_array_get(list, i);
        const char *title = json_string_value(json_object_get(r, "title")), *url = json_string_value(json_object_get(r, "url"));
        const json_t *content = json_object_get(r, "content"); /* texts of the net hold NULs, too */
        add_result(out, (int)i + 1, title ? title : "", url, json_string_value(content), json_string_length(content));
    }
    if (!n) rm_strbuf_puts(out, "\n[no search results]");
}

static int given_up(void *stop, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)a, (void)b, (void)c, (void)d;
    return atomic_load((const atomic_bool *)stop);
}

/* Appends the results, or replaces all by an error text. */
static void search_tavily(const rm_search *s, const char *query, const atomic_bool *stop, rm_strbuf *out) {
    rm_strbuf reply = {0}, auth = {0};
    CURL *c = curl_easy_init();
    json_t *ask = json_pack("{s:s, s:s, s:i}", "query", query, "search_depth", "advanced", "max_results", MAX_RESULTS);
    char *body = ask ? json_dumps(ask, JSON_COMPACT) : NULL;
    rm_strbuf_printf(&auth, "Authorization: Bearer %s", s->key);
    struct curl_slist *head = curl_slist_append(NULL, "Content-Type: application/json");
    struct curl_slist *more = head ? curl_slist_append(head, rm_str(&auth)) : NULL;
    if (!c || !body || !more || auth.failed) {
        rm_strbuf_puts(out, "\n[no search results]");
    } else {
        curl_easy_setopt(c, CURLOPT_URL, s->url);
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, more);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, receive);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, &reply);
        curl_easy_setopt(c, CURLOPT_TIMEOUT, 60L);
        curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, stop ? 0L : 1L);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, given_up);
        curl_easy_setopt(c, CURLOPT_XFERINFODATA, stop);
        CURLcode rc = curl_easy_perform(c);
        long status = 0;
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
        json_t *root = rc == CURLE_OK && status == 200 ? json_loadb(rm_str(&reply), reply.n, JSON_ALLOW_NUL, NULL) : NULL;
        if (root) {
            show_results(root, out);
        } else {
            rm_strbuf_clear(out);
            if (rc == CURLE_WRITE_ERROR)
                rm_strbuf_printf(out, "[search error] ConnectionError: the reply is longer than %d MiB", MAX_REPLY >> 20);
            else if (rc != CURLE_OK)
                rm_strbuf_printf(out, "[search error] ConnectionError: %s", curl_easy_strerror(rc));
            else if (status != 200)
                rm_strbuf_printf(out, "[search error] HTTPError: status %ld", status);
            else
                rm_strbuf_puts(out, "[search error] JSONDecodeError: the reply is no JSON");
        }
        json_decref(root);
    }
    void (*release)(void *);
    json_get_alloc_funcs(NULL, &release);
    if (body) release(body);
    json_decref(ask);
    curl_slist_free_all(head);
    if (c) curl_easy_cleanup(c);
    rm_strbuf_free(&reply);
    rm_strbuf_free(&auth);
}

/* ------------------------------------------------------------------------------------------------------------------------------ */

rmas_status rm_search_new(rm_search **out, const char *provider, rmas_error *err) {
    rm_search *s = RM_NEW(rm_search);
    rmas_status st = s ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    *out = NULL;
    if (!st && provider && strncmp(provider, "file:", 5) == 0) {
        s->kind = FOLDER;
        st = open_folder(s, provider + 5, err);
    } else if (!st && provider && strncmp(provider, "tavily", 6) == 0 && (provider[6] == 0 || provider[6] == ':')) {
        const char *key = getenv("TAVILY_API_KEY");
        if (key && *key && strcmp(key, "xxx") != 0) {
            s->kind = TAVILY;
            s->key = rm_strdup(key);
            s->url = rm_strdup(provider[6] ? provider + 7 : "https://api.tavily.com/search");
            if (!s->key || !s->url) st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
            if (!st && curl_global_init(CURL_GLOBAL_DEFAULT) != 0) st = rm_fail(err, RMAS_E_IO, "libcurl cannot be started");
        }
    } else if (!st && provider && strcmp(provider, "off") != 0) {
        st = rm_fail(err, RMAS_E_ARG, "search provider '%s': expected off, file:FOLDER or tavily", provider);
    }
    if (st) {
        rm_search_free(s);
        return st;
    }
    *out = s;
    return RMAS_OK;
}

rmas_status rm_search_run(const rm_search *s, const char *query, size_t n, const atomic_bool *stop, rm_strbuf *out, rmas_error *err) {
    if (!rm_search_is_on(s)) return rm_fail(err, RMAS_E_TOOL, "search is off");
    char *q = rm_strndup(query, n);
    if (!q) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rm_strbuf text = {0};
    rm_strbuf_printf(&text, "Query: %s", q);
    if (s->kind == FOLDER)
        search_folder(s, q, &text);
    else
        search_tavily(s, q, stop, &text);
    rm_strbuf_add(out, rm_str(&text), text.n);
    bool failed = text.failed || out->failed;
    rm_strbuf_free(&text);
    rm_free(q);
    return failed ? rm_fail(err, RMAS_E_NOMEM, "out of memory") : RMAS_OK;
}
