/* Hugging Face cache layout: CACHE/models--OWNER--NAME/refs/BRANCH holds a commit, snapshots/COMMIT/ the files (links into
 * blobs/). Names come from users and manifests, so nothing in them may leave the cache. */
#include "hub/hub.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/file.h"
#include "util/mem.h"
#include "util/strbuf.h"

/* One part of a repository name as the hub allows it: no empty part, nothing that could be a path or the separator. */
static bool good_part(const char *s, size_t n) {
    if (n == 0 || n > 96 || s[0] == '.' || s[0] == '-' || s[n - 1] == '.' || s[n - 1] == '-') return false;
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)s[i]) && !strchr("._-", s[i])) return false;
        if (i && s[i] == s[i - 1] && (s[i] == '.' || s[i] == '-')) return false;
    }
    return true;
}

/* A branch ("main", "refs/pr/1"), tag or commit: parts between slashes, none of them hidden or "..". */
static bool good_revision(const char *s) {
    for (;;) {
        size_t n = strcspn(s, "/");
        if (n == 0 || n > 96 || s[0] == '.') return false;
        for (size_t i = 0; i < n; i++)
            if (!isalnum((unsigned char)s[i]) && !strchr("._-+", s[i])) return false;
        if (!s[n]) return true;
        s += n + 1;
    }
}

int rm_hub_is_repo(const char *text) {
    size_t owner = strcspn(text, "/"), end = strcspn(text, "@");
    if (!text[owner] || end < owner) return 0;
    return good_part(text, owner) && good_part(text + owner + 1, end - owner - 1) && (!text[end] || good_revision(text + end + 1));
}

/* The cache folder by the hub's own rules. */
static bool cache_folder(rm_strbuf *b) {
    const char *v;
    if ((v = getenv("HF_HUB_CACHE")) && *v)
        rm_strbuf_puts(b, v);
    else if ((v = getenv("HF_HOME")) && *v)
        rm_strbuf_printf(b, "%s/hub", v);
    else if ((v = getenv("XDG_CACHE_HOME")) && *v)
        rm_strbuf_printf(b, "%s/huggingface/hub", v);
    else if ((v = getenv("HOME")) && *v)
        rm_strbuf_printf(b, "%s/.cache/huggingface/hub", v);
    else
        return false;
    if (b->n >= 2 && b->s[0] == '~' && b->s[1] == '/' && (v = getenv("HOME")) && *v) { /* an unexpanded "~" of a service's environment */
        rm_strbuf whole = {0};
        rm_strbuf_printf(&whole, "%s%s", v, b->s + 1);
        rm_strbuf_free(b);
        *b = whole;
    }
    return true;
}

/* refs/REVISION of the repository's folder, as a commit; empty if there is no such ref. */
static rmas_status read_ref(rm_strbuf *commit, const char *folder, const char *revision, rmas_error *err) {
    rm_strbuf path = {0};
    rm_strbuf_printf(&path, "%s/refs/%s", folder, revision);
    rmas_status s = RMAS_OK;
    char *text = NULL;
    size_t n;
    if (!path.failed && rm_path_exists(path.s)) s = rm_file_read(&text, &n, path.s, 4096, err);
    if (text) {
        n = strcspn(text, " \t\r\n");
        text[n] = 0;
        if (!good_revision(text) || strchr(text, '/'))
            s = rm_fail(err, RMAS_E_FORMAT, "%s: a commit was expected in this file", path.s);
        else
            rm_strbuf_add(commit, text, n);
    }
    rm_free(text);
    rm_strbuf_free(&path);
    return s;
}

/* The only snapshot there is, for caches whose refs are gone (copied by hand). Its name, or empty. */
static void only_snapshot(rm_strbuf *commit, const char *folder) {
    rm_strbuf path = {0};
    rm_strbuf_printf(&path, "%s/snapshots", folder);
    DIR *d = path.failed ? NULL : opendir(path.s);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        if (good_revision(e->d_name) && n++ == 0) rm_strbuf_puts(commit, e->d_name);
    if (d) closedir(d);
    if (n != 1) rm_strbuf_clear(commit);
    rm_strbuf_free(&path);
}

static rmas_status find(rm_strbuf *out, const char *repo, rm_strbuf *folder, rmas_error *err) {
    if (!rm_hub_is_repo(repo))
        return rm_fail(err, RMAS_E_ARG, "'%s' is not the name of a repository: owner/name or owner/name@revision was expected", repo);
    if (!cache_folder(folder))
        return rm_fail(err, RMAS_E_IO, "%s: no cache of the hub: none of HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HOME is set", repo);
    int owner = (int)strcspn(repo, "/"), end = (int)strcspn(repo, "@");
    const char *revision = repo[end] ? repo + end + 1 : "main";
    rm_strbuf_printf(folder, "/models--%.*s--%.*s", owner, repo, end - owner - 1, repo + owner + 1);
    if (folder->failed) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", repo);
    if (!rm_path_is_dir(folder->s))
        return rm_fail(err, RMAS_E_IO,
                       "%s: not in the cache of the hub: no folder %s; download it (for instance 'hf download %.*s') or set HF_HUB_CACHE", repo,
                       folder->s, end, repo);
    rm_strbuf commit = {0};
    rmas_status s = read_ref(&commit, folder->s, revision, err);
    if (s == RMAS_OK && commit.n == 0 && !repo[end]) only_snapshot(&commit, folder->s);
    if (s == RMAS_OK && commit.n == 0 && !strchr(revision, '/')) rm_strbuf_puts(&commit, revision); /* a commit, perhaps */
    if (s == RMAS_OK) {
        rm_strbuf_printf(out, "%s/snapshots/%s", folder->s, rm_str(&commit));
        if (out->failed || commit.failed)
            s = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", repo);
        else if (commit.n == 0 || !rm_path_is_dir(out->s))
            s = rm_fail(err, RMAS_E_IO, "%s: the cache has no snapshot of revision '%s': looked at %s/refs and %s/snapshots", repo, revision,
                        folder->s, folder->s);
    }
    rm_strbuf_free(&commit);
    return s;
}

rmas_status rm_hub_snapshot(char **out, const char *repo, rmas_error *err) {
    rm_strbuf path = {0}, folder = {0};
    *out = NULL;
    rmas_status s = find(&path, repo, &folder, err);
    if (s == RMAS_OK && !(*out = rm_strbuf_take(&path))) s = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", repo);
    rm_strbuf_free(&path);
    rm_strbuf_free(&folder);
    return s;
}
