/* Random numbers that do not depend on who else draws: a stream is named by (seed, stream), its n-th number is a pure
 * function of both (SplitMix64 over a counter). Good for sampling and initialisation, not for cryptography. */
#ifndef RM_UTIL_RNG_H
#define RM_UTIL_RNG_H

#include <stdint.h>

typedef struct {
    uint64_t key, counter;
} rm_rng;

static inline uint64_t rm_mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
static inline rm_rng rm_rng_make(uint64_t seed, uint64_t stream) {
    return (rm_rng){rm_mix64(rm_mix64(seed + 0x9E3779B97F4A7C15u) ^ (stream * 0xD1342543DE82EF95u + 0x2545F4914F6CDD1Du)), 0};
}
static inline uint64_t rm_rng_u64(rm_rng *r) { return rm_mix64(r->key + 0x9E3779B97F4A7C15u * ++r->counter); }
static inline double rm_rng_double(rm_rng *r) { return (double)(rm_rng_u64(r) >> 11) * 0x1p-53; } /* [0, 1) */
static inline uint64_t rm_rng_below(rm_rng *r, uint64_t n) { return (uint64_t)(((__uint128_t)rm_rng_u64(r) * n) >> 64); } /* [0, n) */
double rm_rng_normal(rm_rng *r); /* mean 0, variance 1; draws two numbers */

#endif
