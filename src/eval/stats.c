/* Statistics of results, and the generator whose permutations the reference's recordings depend on. */
#include <math.h>
#include <string.h>

#include "eval/dataset.h"
#include "eval/items.h"

rm_interval rm_wilson(int64_t right, int64_t n, double z) {
    if (n <= 0) return (rm_interval){0, 1};
    double p = (double)right / (double)n, zz = z * z / (double)n;
    double mid = (p + zz / 2) / (1 + zz), half = z / (1 + zz) * sqrt(p * (1 - p) / (double)n + zz / (4 * (double)n));
    rm_interval r = {mid - half, mid + half};
    if (right <= 0) r.lo = 0; /* exact at the ends; rounding would leave a trace */
    if (right >= n) r.hi = 1;
    return r;
}

double rm_pass_at_k(int64_t n, int64_t right, int64_t k) {
    if (k > n || k <= 0) return NAN;
    if (n - right < k) return 1;
    double all_wrong = 1;
    for (int64_t i = n - right + 1; i <= n; i++) all_wrong *= 1 - (double)k / (double)i;
    return 1 - all_wrong;
}

/* MT19937, seeded as CPython's random.Random(int) does. */
typedef struct {
    uint32_t v[624];
    int at;
} mt19937;

static void mt_seed(mt19937 *m, uint64_t seed) {
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    int n_key = key[1] ? 2 : 1;
    uint32_t *s = m->v;
    s[0] = 19650218u;
    for (uint32_t i = 1; i < 624; i++) s[i] = 1812433253u * (s[i - 1] ^ (s[i - 1] >> 30)) + i;
    int i = 1, j = 0;
    for (int k = 624; k; k--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1664525u)) + key[j] + (uint32_t)j;
        if (++i == 624) s[0] = s[623], i = 1;
        if (++j == n_key) j = 0;
    }
    for (int k = 623; k; k--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1566083941u)) - (uint32_t)i;
        if (++i == 624) s[0] = s[623], i = 1;
    }
    s[0] = 0x80000000u;
    m->at = 624;
}

static uint32_t mt_next(mt19937 *m) {
    if (m->at == 624) {
        for (int i = 0; i < 624; i++) {
            uint32_t y = (m->v[i] & 0x80000000u) | (m->v[(i + 1) % 624] & 0x7FFFFFFFu);
            m->v[i] = m->v[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908B0DFu : 0);
        }
        m->at = 0;
    }
    uint32_t y = m->v[m->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9D2C5680u;
    y ^= (y << 15) & 0xEFC60000u;
    return y ^ (y >> 18);
}

rmas_status rm_python_shuffle(uint64_t seed, size_t *perm, size_t n, rmas_error *err) {
    if (n > UINT32_MAX) return rm_fail(err, RMAS_E_ARG, "cannot shuffle %zu rows: the generator draws at most 32 bits", n);
    mt19937 m;
    mt_seed(&m, seed);
    for (size_t i = n; i-- > 1;) {
        uint32_t below = (uint32_t)i + 1, r;
        int bits = 32 - __builtin_clz(below);
        do r = mt_next(&m) >> (32 - bits);
        while (r >= below);
        size_t t = perm[i];
        perm[i] = perm[r];
        perm[r] = t;
    }
    return RMAS_OK;
}

/* ---- MD5 (RFC 1321): names the order of gpqa's options, nothing that needs to be secure --------------------------------- */

static void md5_block(uint32_t h[4], const unsigned char *p) {
    static const unsigned char shift[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t w[16], a = h[0], b = h[1], c = h[2], d = h[3];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] | (uint32_t)p[4 * i + 1] << 8 | (uint32_t)p[4 * i + 2] << 16 | (uint32_t)p[4 * i + 3] << 24;
    for (int i = 0; i < 64; i++) {
        uint32_t f;
        int k;
        switch (i / 16) {
        case 0: f = (b & c) | (~b & d), k = i; break;
        case 1: f = (d & b) | (~d & c), k = (5 * i + 1) % 16; break;
        case 2: f = b ^ c ^ d, k = (3 * i + 5) % 16; break;
        default: f = c ^ (b | ~d), k = (7 * i) % 16; break;
        }
        uint32_t sine = (uint32_t)floor(fabs(sin(i + 1.0)) * 4294967296.0), x = a + f + sine + w[k];
        int s = shift[i / 16][i % 4];
        a = d, d = c, c = b;
        b += x << s | x >> (32 - s);
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d;
}

void rm_md5(const void *data, size_t n, unsigned char out[16]) {
    uint32_t h[4] = {0x67452301u, 0xEFCDAB89u, 0x98BADCFEu, 0x10325476u};
    const unsigned char *p = data;
    size_t left = n;
    for (; left >= 64; left -= 64, p += 64) md5_block(h, p);
    unsigned char tail[128] = {0};
    if (left) memcpy(tail, p, left);
    tail[left] = 0x80;
    size_t size = left < 56 ? 64 : 128;
    for (int i = 0; i < 8; i++) tail[size - 8 + (size_t)i] = (unsigned char)((uint64_t)n * 8 >> (8 * i));
    md5_block(h, tail);
    if (size == 128) md5_block(h, tail + 64);
    for (int i = 0; i < 16; i++) out[i] = (unsigned char)(h[i / 4] >> (8 * (i % 4)));
}
