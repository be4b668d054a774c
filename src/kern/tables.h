/* The tables that kern.c chooses from. */
#ifndef RM_KERN_TABLES_H
#define RM_KERN_TABLES_H

#include "kern/kern.h"

extern const rm_kern rm_kern_portable;
#if defined(__x86_64__)
extern const rm_kern rm_kern_avx2, rm_kern_avx_vnni, rm_kern_avx512, rm_kern_avx512_intel, rm_kern_amx;
#elif defined(__aarch64__)
extern const rm_kern rm_kern_neon, rm_kern_neon_dot;
#endif

#endif
