/* For kernels whose tiles are constants: inlined and unrolled whole, so that sums stay in registers. */
#ifndef RM_KERN_INLINE_H
#define RM_KERN_INLINE_H

#ifdef __clang__
#define RM_UNROLL _Pragma("unroll")
#define RM_NO_UNROLL _Pragma("nounroll")
#else
#define RM_UNROLL _Pragma("GCC unroll 16")
#define RM_NO_UNROLL _Pragma("GCC unroll 1")
#endif
#define RM_INLINE static inline __attribute__((always_inline))

#endif
