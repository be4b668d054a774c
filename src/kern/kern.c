/* Chooses the kernel table: what the CPU offers and the operating system saves on a context switch. */
#include "kern/kern.h"

#include <stdlib.h>
#include <string.h>

#include "kern/tables.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

static uint64_t xgetbv0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Bits of `need` all set in `have`? */
static bool all(uint32_t have, uint32_t need) { return (have & need) == need; }

static bool has_avx2(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
    const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    if (!all(c, fma | osxsave | avx | f16c) || (xgetbv0() & 6) != 6) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && all(b, 1u << 5);
}

static bool has_avx_vnni(void) {
    uint32_t a, b, c, d;
    if (!has_avx2() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || a < 1) return false;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && all(a, 1u << 4);
}

static bool has_avx512(void) {
    uint32_t a, b, c, d;
    if (!has_avx2() || (xgetbv0() & 0xE6) != 0xE6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    const uint32_t f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31, vbmi = 1u << 1, vnni = 1u << 11;
    if (!all(b, f | dq | bw | vl) || !all(c, vbmi | vnni) || a < 1) return false;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && all(a, 1u << 5 /* AVX512_BF16 */);
}

static bool is_intel(void) {
    uint32_t a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx && d == signature_INTEL_edx && c == signature_INTEL_ecx;
}
static bool has_gfni(void) {
    uint32_t a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && all(c, 1u << 8);
}

/* AMX with bf16; the system gives a process the tiles when it asks for them. */
static bool has_amx(void) {
#ifdef __linux__
    enum { REQUEST = 0x1023 /* ARCH_REQ_XCOMP_PERM */, TILE_DATA = 18 };
    uint32_t a, b, c, d;
    if (!has_avx512() || !has_gfni() || (xgetbv0() & 0x60000) != 0x60000) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !all(d, 1u << 22 | 1u << 24)) return false;
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return false;
#endif
}
#endif

#if defined(__aarch64__)
static bool has_dot_products(void) {
#ifdef __linux__
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
    return false;
#endif
}
#endif

const rm_kern *rm_kern_at(int i) {
    const rm_kern *t[7];
    int n = 0;
    t[n++] = &rm_kern_portable;
#if defined(__x86_64__)
    if (has_avx2()) t[n++] = &rm_kern_avx2;
    if (has_avx_vnni()) t[n++] = &rm_kern_avx_vnni;
    if (has_avx512()) {
        if (has_gfni() && !is_intel()) t[n++] = &rm_kern_avx512_intel;
        t[n++] = &rm_kern_avx512;
        if (has_gfni() && is_intel()) t[n++] = &rm_kern_avx512_intel;
        if (has_amx()) t[n++] = &rm_kern_amx;
    }
#elif defined(__aarch64__)
    t[n++] = &rm_kern_neon;
    if (has_dot_products()) t[n++] = &rm_kern_neon_dot;
#endif
    return i >= 0 && i < n ? t[i] : NULL;
}

rmas_status rm_kern_get(const rm_kern **out, const char *name, rmas_error *err) {
    *out = NULL;
    const char *from = "isa";
    if (!name) {
        name = getenv("RMAS_ISA");
        from = "RMAS_ISA";
    }
    const rm_kern *k = NULL;
    for (int i = 0; (k = rm_kern_at(i)); i++) {
        if (!name || !*name)
            *out = k; /* the last one is the best */
        else if (strcmp(k->name, name) == 0)
            *out = k;
    }
    if (*out) return RMAS_OK;
    char list[64] = "";
    for (int i = 0; (k = rm_kern_at(i)); i++) {
        if (i) strncat(list, ", ", sizeof list - strlen(list) - 1);
        strncat(list, k->name, sizeof list - strlen(list) - 1);
    }
    return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: '%s' is not an instruction set that this CPU and this build can run; there are: %s", from, name,
                   list);
}
