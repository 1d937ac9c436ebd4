/*
 * kernels_x86_64_v3.c - AVX2 and FMA (x86-64-v3). Compiled with -mavx2 -mfma where the build asks
 * for it by S2_HAVE_X86_64_V3; chosen at run time.
 */
#ifdef S2_HAVE_X86_64_V3

#include <immintrin.h>

#define V                       __m256
#define V_WIDTH                 8u
#define V_ZERO()                _mm256_setzero_ps()
#define V_SET(x)                _mm256_set1_ps(x)
#define V_LOAD(p)               _mm256_loadu_ps(p)
#define V_STORE(p, v)           _mm256_storeu_ps((p), (v))
#define V_LOAD_PART(p, n)       _mm256_maskload_ps((p), first_lanes(n))
#define V_STORE_PART(p, n, v)   _mm256_maskstore_ps((p), first_lanes(n), (v))
#define V_FMA(a, b, c)          _mm256_fmadd_ps((a), (b), (c))
#define V_MUL(a, b)             _mm256_mul_ps((a), (b))
#define V_DIV(a, b)             _mm256_div_ps((a), (b))
#define V_SQRT(a)               _mm256_sqrt_ps(a)
#define V_SUM4(out, a, b, c, d) sum_lanes((out), (a), (b), (c), (d))

static inline __m256i first_lanes(unsigned long n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}

/* ((0+1) + (2+3)) + ((4+5) + (6+7)) of each of the four. */
static inline void sum_lanes(float *out, __m256 a, __m256 b, __m256 c, __m256 d) {
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}

#include "kernels_vector.h"

const s2_kernels s2_kernels_x86_64_v3 = {
    .name = "x86-64-v3",
    .gemm = vector_gemm,
    .tap_forward = vector_tap_forward,
    .tap_update = vector_tap_update,
    S2_PLAIN_KERNELS,
};

#else
typedef int s2_kernels_x86_64_v3_is_not_built; /* C wants a declaration in every file */
#endif
