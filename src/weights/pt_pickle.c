/* The restricted pickle machine. It knows the opcodes that PyTorch's own weights_only loader knows and a
 * short list of symbols; it builds plain values in an arena and never calls anything. All loops are bounded by the length of
 * the program: an opcode makes at most one value, and there is no recursion. */
#include <math.h>
#include <string.h>

#include "util/mem.h"
#include "util/strbuf.h"
#include "util/utf8.h"
#include "weights/pt.h"

enum {
    MAX_PROGRAM = 16 << 20, /* bytes; a state dict takes about 150 per tensor */
    MAX_NESTED = 16, /* tables inside tables */
    MAX_VISITS = 1 << 20, /* table entries looked at in all */
    MAX_NAME = 1 << 12
};

typedef enum { V_NONE, V_BOOL, V_INT, V_FLOAT, V_TEXT, V_TUPLE, V_LIST, V_DICT, V_SYMBOL, V_STORAGE, V_TENSOR, V_OTHER } value_kind;
typedef enum { S_ORDERED_DICT, S_TENSOR, S_PARAMETER, S_STORAGE, S_SIZE, S_DEVICE, S_DTYPE } symbol_kind;

typedef struct {
    rm_tensor t; /* data: the first element; all others are known to lie in the storage */
    int64_t stride[RM_MAX_DIM]; /* in elements */
} strided;

typedef struct {
    value_kind kind;
    symbol_kind symbol;
    rm_dtype dtype; /* of a storage, its class, or a tensor's elements */
    union {
        int64_t i;
        struct {
            const char *s;
            size_t n;
        } text;
        struct {
            uint32_t *v; /* values; of a table: key, value, key, value ... */
            uint32_t n, cap;
        } items;
        struct {
            const uint8_t *data;
            int64_t n; /* elements */
        } storage;
        const strided *tensor;
    } u;
} value;

typedef struct {
    rm_weights *w;
    const char *path;
    const rm_zip *zip;
    rm_span root;
    const uint8_t *begin, *p, *end;
    rm_arena arena;
    value *v; /* all values; they refer to one another by number */
    uint32_t n_v, cap_v;
    uint32_t *stack, n_stack, cap_stack;
    uint32_t *mark, n_mark, cap_mark; /* heights of the stack */
    uint32_t *memo, n_memo; /* number + 1, 0: empty */
    uint64_t budget; /* bytes that strided tensors may still take when made contiguous */
    rmas_error *err;
} machine;

static rmas_status bad(machine *k, const char *what) {
    return rm_fail(k->err, RMAS_E_FORMAT, "%s: data.pkl: %s (at byte %zu)", k->path, what, (size_t)(k->p - k->begin));
}
static rmas_status nomem(machine *k) { return rm_reader_nomem(k->path, k->err); }

/* ---- the machine's memory ------------------------------------------------------------------------------------------- */

static bool grow(void **p, uint32_t *cap, size_t size) {
    uint32_t n = *cap ? *cap * 2 : 256;
    void *q = *cap <= 1u << 30 ? rm_realloc_array(*p, n, size) : NULL;
    if (!q) return false;
    *p = q;
    *cap = n;
    return true;
}

static rmas_status push_number(machine *k, uint32_t number) {
    if (k->n_stack == k->cap_stack) {
        void *p = k->stack;
        if (!grow(&p, &k->cap_stack, sizeof *k->stack)) return nomem(k);
        k->stack = p;
    }
    k->stack[k->n_stack++] = number;
    return RMAS_OK;
}

static rmas_status push(machine *k, value x) {
    if (k->n_v == k->cap_v) {
        void *p = k->v;
        if (!grow(&p, &k->cap_v, sizeof *k->v)) return nomem(k);
        k->v = p;
    }
    k->v[k->n_v] = x;
    return push_number(k, k->n_v++);
}

static rmas_status push_int(machine *k, int64_t i) { return push(k, (value){.kind = V_INT, .u.i = i}); }

/* Values above the last mark may be taken, those below belong to unfinished containers. */
static uint32_t available(const machine *k) { return k->n_stack - (k->n_mark ? k->mark[k->n_mark - 1] : 0); }

static value *top(machine *k) { return &k->v[k->stack[k->n_stack - 1]]; }

static bool append_items(machine *k, value *x, const uint32_t *from, uint32_t n) {
    uint32_t need = x->u.items.n + n;
    if (need > x->u.items.cap) {
        uint32_t cap = x->u.items.cap * 2 > need ? x->u.items.cap * 2 : need;
        uint32_t *v = rm_arena_alloc(&k->arena, (size_t)cap * sizeof *v);
        if (!v) return false;
        if (x->u.items.n) memcpy(v, x->u.items.v, x->u.items.n * sizeof *v);
        x->u.items.v = v;
        x->u.items.cap = cap;
    }
    if (n) memcpy(x->u.items.v + x->u.items.n, from, n * sizeof *from);
    x->u.items.n = need;
    return true;
}

/* Replaces the top n values by a tuple of them. */
static rmas_status make_tuple(machine *k, uint32_t n) {
    if (available(k) < n) return bad(k, "the stack is too short");
    value x = {.kind = V_TUPLE};
    k->n_stack -= n;
    if (!append_items(k, &x, k->stack + k->n_stack, n)) return nomem(k);
    return push(k, x);
}

static rmas_status pop_mark(machine *k, uint32_t *height) {
    if (!k->n_mark) return bad(k, "no mark on the stack");
    *height = k->mark[--k->n_mark];
    return RMAS_OK;
}

static rmas_status remember(machine *k, uint32_t at) {
    if (!available(k)) return bad(k, "the stack is too short");
    if (at >= (size_t)(k->end - k->begin)) return bad(k, "memo number out of range");
    if (at >= k->n_memo) {
        uint32_t n = k->n_memo * 2 > at + 1 ? k->n_memo * 2 : at + 256;
        uint32_t *p = rm_realloc_array(k->memo, n, sizeof *p);
        if (!p) return nomem(k);
        memset(p + k->n_memo, 0, (n - k->n_memo) * sizeof *p);
        k->memo = p;
        k->n_memo = n;
    }
    k->memo[at] = k->stack[k->n_stack - 1] + 1;
    return RMAS_OK;
}

static rmas_status recall(machine *k, uint32_t at) {
    if (at >= k->n_memo || !k->memo[at]) return bad(k, "a memo entry that was never set");
    return push_number(k, k->memo[at] - 1);
}

/* ---- symbols -------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *module, *name;
    symbol_kind kind;
    rm_dtype dtype;
} symbol;

static const symbol symbols[] = {
    {"collections", "OrderedDict", S_ORDERED_DICT, 0},
    {"torch._utils", "_rebuild_tensor_v2", S_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", S_PARAMETER, 0},
    {"torch.nn.parameter", "Parameter", S_PARAMETER, 0},
    {"torch", "FloatStorage", S_STORAGE, RM_F32},
    {"torch", "HalfStorage", S_STORAGE, RM_F16},
    {"torch", "BFloat16Storage", S_STORAGE, RM_BF16},
    {"torch", "DoubleStorage", S_STORAGE, RM_F64},
    {"torch", "LongStorage", S_STORAGE, RM_I64},
    {"torch", "IntStorage", S_STORAGE, RM_I32},
    {"torch", "ShortStorage", S_STORAGE, RM_I16},
    {"torch", "CharStorage", S_STORAGE, RM_I8},
    {"torch", "ByteStorage", S_STORAGE, RM_U8},
    {"torch", "BoolStorage", S_STORAGE, RM_BOOL},
    {"torch", "Size", S_SIZE, 0},
    {"torch", "device", S_DEVICE, 0},
    {"torch", "float32", S_DTYPE, 0},
    {"torch", "float16", S_DTYPE, 0},
    {"torch", "bfloat16", S_DTYPE, 0},
    {"torch", "float64", S_DTYPE, 0},
    {"torch", "int64", S_DTYPE, 0},
    {"torch", "int32", S_DTYPE, 0},
    {"torch", "int16", S_DTYPE, 0},
    {"torch", "int8", S_DTYPE, 0},
    {"torch", "uint8", S_DTYPE, 0},
    {"torch", "bool", S_DTYPE, 0},
};

static bool read_line(machine *k, rm_span *out) {
    const uint8_t *nl = memchr(k->p, '\n', (size_t)(k->end - k->p));
    if (!nl) return false;
    *out = (rm_span){(const char *)k->p, (size_t)(nl - k->p)};
    k->p = nl + 1;
    return true;
}

static bool span_is(rm_span s, const char *t) { return s.n == strlen(t) && !memcmp(s.s, t, s.n); }

static rmas_status do_global(machine *k) {
    rm_span module, name;
    if (!read_line(k, &module) || !read_line(k, &name)) return bad(k, "the program ends too early");
    for (size_t i = 0; i < RM_COUNT(symbols); i++)
        if (span_is(module, symbols[i].module) && span_is(name, symbols[i].name))
            return push(k, (value){.kind = V_SYMBOL, .symbol = symbols[i].kind, .dtype = symbols[i].dtype});
    return rm_fail(k->err, RMAS_E_FORMAT, "%s: refused: the file wants '%.*s.%.*s'; only tensors and plain containers are read, nothing is executed",
                   k->path, module.n < 80 ? (int)module.n : 80, module.s, name.n < 80 ? (int)name.n : 80, name.s);
}

/* ---- storages and tensors ------------------------------------------------------------------------------------------- */

static value *item(machine *k, const value *x, uint32_t i) { return &k->v[x->u.items.v[i]]; }

/* Persistent id: ("storage", class, key, location, number of elements) -> the bytes of member ROOT/data/KEY. */
static rmas_status do_storage(machine *k) {
    if (!available(k)) return bad(k, "the stack is too short");
    value *id = top(k);
    if (id->kind != V_TUPLE || id->u.items.n != 5) return bad(k, "a persistent id is not a tuple of 5");
    const value *word = item(k, id, 0), *class = item(k, id, 1), *key = item(k, id, 2), *count = item(k, id, 4);
    if (word->kind != V_TEXT || !span_is((rm_span){word->u.text.s, word->u.text.n}, "storage") || class->kind != V_SYMBOL ||
        class->symbol != S_STORAGE || key->kind != V_TEXT || count->kind != V_INT)
        return bad(k, "a persistent id does not describe a storage");
    if (!key->u.text.n || key->u.text.n > 20) return bad(k, "a storage key is not a number");
    for (size_t i = 0; i < key->u.text.n; i++)
        if (key->u.text.s[i] < '0' || key->u.text.s[i] > '9') return bad(k, "a storage key is not a number");
    rm_strbuf name = {0};
    rm_strbuf_add(&name, k->root.s, k->root.n);
    rm_strbuf_puts(&name, "data/");
    rm_strbuf_add(&name, key->u.text.s, key->u.text.n);
    const rm_zip_member *m = name.failed ? NULL : rm_zip_find(k->zip, name.s, name.n);
    bool failed = name.failed;
    rm_strbuf_free(&name);
    if (failed) return nomem(k);
    int64_t bytes;
    if (!m) return rm_fail(k->err, RMAS_E_FORMAT, "%s: storage %.*s is not in the archive", k->path, (int)key->u.text.n, key->u.text.s);
    if (count->u.i < 0 || __builtin_mul_overflow(count->u.i, (int64_t)rm_dtype_get(class->dtype)->block_bytes, &bytes) || (uint64_t)bytes > m->n)
        return rm_fail(k->err, RMAS_E_FORMAT, "%s: storage %.*s has %llu bytes, too few for %lld elements of %s", k->path, (int)key->u.text.n,
                       key->u.text.s, (unsigned long long)m->n, (long long)count->u.i, rm_dtype_get(class->dtype)->name);
    value x = {.kind = V_STORAGE, .dtype = class->dtype, .u.storage = {m->data, count->u.i}};
    k->n_stack--;
    return push(k, x);
}

/* _rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks [, metadata]) */
static rmas_status make_tensor(machine *k, const value *args, value *out) {
    if (args->u.items.n < 6 || args->u.items.n > 7) return bad(k, "a tensor is made of 6 or 7 arguments");
    const value *storage = item(k, args, 0), *offset = item(k, args, 1), *size = item(k, args, 2), *stride = item(k, args, 3);
    if (storage->kind != V_STORAGE || offset->kind != V_INT || size->kind != V_TUPLE || stride->kind != V_TUPLE ||
        size->u.items.n != stride->u.items.n)
        return bad(k, "wrong arguments of a tensor");
    if (size->u.items.n > RM_MAX_DIM) return bad(k, "a tensor has more than 8 dimensions");
    strided *t = rm_arena_alloc(&k->arena, sizeof *t);
    if (!t) return nomem(k);
    *t = (strided){.t = {.dtype = storage->dtype, .n_dim = (int)size->u.items.n}};
    int64_t last = offset->u.i;
    bool empty = false, overflow = last < 0;
    for (int i = 0; i < t->t.n_dim; i++) {
        const value *n = item(k, size, (uint32_t)i), *s = item(k, stride, (uint32_t)i);
        if (n->kind != V_INT || s->kind != V_INT || n->u.i < 0 || s->u.i < 0)
            return bad(k, "sizes and strides of a tensor must be non-negative integers");
        t->t.dim[i] = n->u.i;
        t->stride[i] = n->u.i == 1 ? 0 : s->u.i; /* not used, and may be anything */
        int64_t step;
        if (!n->u.i)
            empty = true;
        else
            overflow = overflow || __builtin_mul_overflow(n->u.i - 1, s->u.i, &step) || __builtin_add_overflow(last, step, &last);
    }
    if (!rm_reader_size(t->t.dtype, t->t.dim, t->t.n_dim, &t->t.n_bytes)) return bad(k, "a tensor has too many elements");
    if (!empty && (overflow || last >= storage->u.storage.n)) return bad(k, "a tensor reaches past the end of its storage");
    t->t.data = storage->u.storage.data + (empty ? 0 : offset->u.i * rm_dtype_get(t->t.dtype)->block_bytes);
    *out = (value){.kind = V_TENSOR, .u.tensor = t};
    return RMAS_OK;
}

/* The function below the top applied to the tuple on top. */
static rmas_status do_reduce(machine *k) {
    if (available(k) < 2) return bad(k, "the stack is too short");
    const value *args = top(k), *f = &k->v[k->stack[k->n_stack - 2]];
    if (f->kind != V_SYMBOL || args->kind != V_TUPLE) return bad(k, "something is called that cannot be called");
    uint32_t n = args->u.items.n;
    value x = {.kind = V_OTHER};
    switch (f->symbol) {
    case S_ORDERED_DICT:
        if (n) return bad(k, "OrderedDict with arguments");
        x.kind = V_DICT;
        break;
    case S_TENSOR: RM_TRY(make_tensor(k, args, &x)); break;
    case S_PARAMETER:
        if (!n || n > 3 || item(k, args, 0)->kind != V_TENSOR) return bad(k, "wrong arguments of a parameter");
        x = *item(k, args, 0);
        break;
    case S_SIZE:
        if (n != 1 || item(k, args, 0)->kind != V_TUPLE) return bad(k, "wrong arguments of torch.Size");
        x = *item(k, args, 0);
        break;
    case S_DEVICE: break;
    default: return bad(k, "something is called that cannot be called");
    }
    k->n_stack -= 2;
    return push(k, x);
}

/* ---- containers ----------------------------------------------------------------------------------------------------- */

/* Moves the values above `height` into the container right below them. */
static rmas_status fill(machine *k, uint32_t height, value_kind kind) {
    if (height > k->n_stack || height <= (k->n_mark ? k->mark[k->n_mark - 1] : 0)) return bad(k, "the stack is too short");
    value *x = &k->v[k->stack[height - 1]];
    uint32_t n = k->n_stack - height;
    if (x->kind != kind) return bad(k, kind == V_LIST ? "appending to something that is no list" : "setting an item of something that is no table");
    if (kind == V_DICT && n % 2) return bad(k, "a key without a value");
    if (!append_items(k, x, k->stack + height, n)) return nomem(k);
    k->n_stack = height;
    return RMAS_OK;
}

static rmas_status fill_marked(machine *k, value_kind kind) {
    uint32_t height = 0;
    RM_TRY(pop_mark(k, &height));
    return fill(k, height, kind);
}

static rmas_status fill_top(machine *k, uint32_t n, value_kind kind) {
    if (available(k) <= n) return bad(k, "the stack is too short");
    return fill(k, k->n_stack - n, kind);
}

static rmas_status do_build(machine *k) {
    if (available(k) < 2) return bad(k, "the stack is too short");
    if (k->v[k->stack[k->n_stack - 2]].kind != V_DICT) return bad(k, "a state is set for something that is no table");
    k->n_stack--; /* attributes such as _metadata are not needed */
    return RMAS_OK;
}

/* ---- the program ---------------------------------------------------------------------------------------------------- */

static bool take(machine *k, size_t n, const uint8_t **p) {
    if (n > (size_t)(k->end - k->p)) return false;
    *p = k->p;
    k->p += n;
    return true;
}

static rmas_status push_text(machine *k, size_t n, bool utf8) {
    const uint8_t *p;
    if (!take(k, n, &p)) return bad(k, "the program ends inside a string");
    if (utf8 && !rm_utf8_valid((const char *)p, n)) return bad(k, "a string is not valid UTF-8");
    return push(k, (value){.kind = V_TEXT, .u.text = {(const char *)p, n}});
}

static rmas_status push_long(machine *k, size_t n) {
    const uint8_t *p;
    if (!take(k, n, &p)) return bad(k, "the program ends inside a number");
    if (n > 8) return bad(k, "an integer does not fit into 64 bits");
    uint64_t v = n && p[n - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = n; i-- > 0;) v = v << 8 | p[i];
    return push_int(k, (int64_t)v);
}

static rmas_status push_mark(machine *k) {
    if (k->n_mark == k->cap_mark) {
        void *p = k->mark;
        if (!grow(&p, &k->cap_mark, sizeof *k->mark)) return nomem(k);
        k->mark = p;
    }
    k->mark[k->n_mark++] = k->n_stack;
    return RMAS_OK;
}

/* Opcodes with an operand of fixed size. */
static size_t operand_bytes(uint8_t op) {
    switch (op) {
    case 'K':
    case 'U':
    case 'q':
    case 'h':
    case 0x80:
    case 0x8a: return 1;
    case 'M': return 2;
    case 'J':
    case 'X':
    case 'r':
    case 'j': return 4;
    case 'G': return 8;
    default: return 0;
    }
}

static rmas_status step(machine *k, uint8_t op, const uint8_t *a) {
    uint32_t height = 0;
    switch (op) {
    case 0x80: return a[0] == 2 ? RMAS_OK : bad(k, "pickle protocol other than 2");
    case '(': return push_mark(k);
    case '}': return push(k, (value){.kind = V_DICT});
    case ']': return push(k, (value){.kind = V_LIST});
    case ')': return push(k, (value){.kind = V_TUPLE});
    case 0x8f: return push(k, (value){.kind = V_OTHER}); /* set */
    case 'N': return push(k, (value){.kind = V_NONE});
    case 0x88:
    case 0x89: return push(k, (value){.kind = V_BOOL, .u.i = op == 0x88});
    case 'J': return push_int(k, (int32_t)rm_le32(a));
    case 'K': return push_int(k, a[0]);
    case 'M': return push_int(k, rm_le16(a));
    case 0x8a: return push_long(k, a[0]);
    case 'G': return push(k, (value){.kind = V_FLOAT});
    case 'X': return push_text(k, rm_le32(a), true);
    case 'U': return push_text(k, a[0], false);
    case 'c': return do_global(k);
    case 'q': return remember(k, a[0]);
    case 'r': return remember(k, rm_le32(a));
    case 'h': return recall(k, a[0]);
    case 'j': return recall(k, rm_le32(a));
    case 't': RM_TRY(pop_mark(k, &height)); return height > k->n_stack ? bad(k, "the stack is too short") : make_tuple(k, k->n_stack - height);
    case 0x85: return make_tuple(k, 1);
    case 0x86: return make_tuple(k, 2);
    case 0x87: return make_tuple(k, 3);
    case 'a': return fill_top(k, 1, V_LIST);
    case 'e': return fill_marked(k, V_LIST);
    case 's': return fill_top(k, 2, V_DICT);
    case 'u': return fill_marked(k, V_DICT);
    case 'R':
    case 0x81: return do_reduce(k);
    case 'b': return do_build(k);
    case 'Q': return do_storage(k);
    default:
        return rm_fail(k->err, RMAS_E_FORMAT, "%s: data.pkl: opcode 0x%02x is not allowed (at byte %zu)", k->path, op, (size_t)(k->p - k->begin) - 1);
    }
}

static rmas_status run(machine *k, uint32_t *result) {
    for (;;) {
        const uint8_t *op, *operand;
        if (!take(k, 1, &op)) return bad(k, "the program ends without a STOP");
        if (*op == '.') break;
        if (!take(k, operand_bytes(*op), &operand)) return bad(k, "the program ends inside an opcode");
        RM_TRY(step(k, *op, operand));
    }
    if (k->p != k->end) return bad(k, "something follows the STOP");
    if (k->n_mark || k->n_stack != 1) return bad(k, "the stack does not hold one value at the end");
    *result = k->stack[0];
    return RMAS_OK;
}

/* ---- from values to tensors ----------------------------------------------------------------------------------------- */

static bool contiguous(const strided *t) {
    int64_t expect = 1;
    for (int i = t->t.n_dim; i-- > 0;) {
        if (t->t.dim[i] != 1 && t->stride[i] != expect) return false;
        expect *= t->t.dim[i];
    }
    return true;
}

/* Copies the elements into row-major order. */
static rmas_status materialise(machine *k, const strided *t, rm_tensor *out) {
    size_t size = (size_t)rm_dtype_get(t->t.dtype)->block_bytes;
    if (t->t.n_bytes > k->budget)
        return rm_fail(k->err, RMAS_E_UNSUPPORTED, "%s: %zu bytes for a tensor of strided or repeated elements are too large for a file of this size",
                       k->path, t->t.n_bytes);
    k->budget -= t->t.n_bytes;
    uint8_t *p = rm_arena_alloc(&k->w->arena, t->t.n_bytes);
    if (!p) return nomem(k);
    out->data = p;
    int64_t at[RM_MAX_DIM] = {0}, place = 0;
    for (size_t left = t->t.n_bytes / size; left; left--, p += size) {
        memcpy(p, (const uint8_t *)t->t.data + (size_t)place * size, size);
        for (int i = t->t.n_dim; i-- > 0;) {
            place += t->stride[i];
            if (++at[i] < t->t.dim[i]) break;
            place -= t->stride[i] * t->t.dim[i];
            at[i] = 0;
        }
    }
    return RMAS_OK;
}

static rmas_status add_tensor(machine *k, const value *x, const rm_strbuf *name) {
    const strided *t = x->u.tensor;
    rm_tensor out = t->t;
    if (out.n_bytes && !contiguous(t)) RM_TRY(materialise(k, t, &out));
    return rm_reader_add(k->w, k->path, name->s, name->n, &out, k->err);
}

/* Appends ".KEY" (or KEY at the root); false if the key is neither text nor an integer. */
static bool add_key(rm_strbuf *name, const value *key) {
    if (key->kind != V_TEXT && key->kind != V_INT) return false;
    if (name->n) rm_strbuf_putc(name, '.');
    if (key->kind == V_TEXT)
        rm_strbuf_add(name, key->u.text.s, key->u.text.n);
    else
        rm_strbuf_printf(name, "%lld", (long long)key->u.i);
    return true;
}

/* Walks the tables below the root with a stack of places; other values than tensors and tables are passed over. */
static rmas_status walk(machine *k, uint32_t root, rm_strbuf *name) {
    struct {
        uint32_t table, i;
        size_t n_name;
    } at[MAX_NESTED];
    int depth = 0, visits = 0;
    if (k->v[root].kind != V_DICT) return rm_fail(k->err, RMAS_E_FORMAT, "%s: holds no table of tensors (a state dict)", k->path);
    at[depth].table = root;
    at[depth].i = 0;
    at[depth++].n_name = 0;
    while (depth) {
        const value *table = &k->v[at[depth - 1].table];
        uint32_t i = at[depth - 1].i;
        if (i == table->u.items.n) {
            depth--;
            continue;
        }
        at[depth - 1].i += 2;
        name->n = at[depth - 1].n_name;
        const value *key = item(k, table, i), *x = item(k, table, i + 1);
        if (++visits > MAX_VISITS) return rm_fail(k->err, RMAS_E_FORMAT, "%s: the tables hold too many entries", k->path);
        if (x->kind != V_TENSOR && x->kind != V_DICT) continue;
        if (!add_key(name, key)) return rm_fail(k->err, RMAS_E_FORMAT, "%s: a key of a table is neither text nor an integer", k->path);
        if (name->failed) return nomem(k);
        if (name->n > MAX_NAME) return rm_fail(k->err, RMAS_E_FORMAT, "%s: a name of more than %d bytes", k->path, MAX_NAME);
        if (x->kind == V_TENSOR) {
            RM_TRY(add_tensor(k, x, name));
            continue;
        }
        if (depth == MAX_NESTED) return rm_fail(k->err, RMAS_E_FORMAT, "%s: tables are nested more than %d deep", k->path, MAX_NESTED);
        at[depth].table = table->u.items.v[i + 1];
        at[depth].i = 0;
        at[depth++].n_name = name->n;
    }
    return RMAS_OK;
}

rmas_status rm_pickle_read(rm_weights *w, const char *path, const rm_map *m, const rm_zip *z, rm_span root, rm_span program, rmas_error *err) {
    if (program.n > MAX_PROGRAM)
        return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: data.pkl has %zu bytes, at most %d are read; this is no file of weights alone", path, program.n,
                       MAX_PROGRAM);
    const uint8_t *p = (const uint8_t *)program.s;
    machine k = {.w = w, .path = path, .zip = z, .root = root, .begin = p, .p = p, .end = p + program.n, .err = err};
    k.budget = m->n < UINT64_MAX / 8 ? 4 * (uint64_t)m->n + 65536 : 0;
    uint32_t result = 0;
    rm_strbuf name = {0};
    rmas_status s = run(&k, &result);
    if (s == RMAS_OK) s = walk(&k, result, &name);
    rm_strbuf_free(&name);
    rm_arena_free(&k.arena);
    rm_free(k.v);
    rm_free(k.stack);
    rm_free(k.mark);
    rm_free(k.memo);
    return s;
}
