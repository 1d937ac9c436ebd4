/*
 * kernels_x86_64_v3.c - AVX2, FMA and F16C (x86-64-v3). Compiled with -mavx2 -mfma -mf16c where the
 * build asks for it by S2_HAVE_X86_64_V3; chosen at run time.
 */
#ifdef S2_HAVE_X86_64_V3

#include "kernels_x86_64.h"

#define V                       __m256
#define V_WIDTH                 8u
#define V_ZERO()                _mm256_setzero_ps()
#define V_SET(x)                _mm256_set1_ps(x)
#define V_LOAD(p)               _mm256_loadu_ps(p)
#define V_STORE(p, v)           _mm256_storeu_ps((p), (v))
#define V_LOAD_PART(p, n)       _mm256_maskload_ps((p), first_lanes(n))
#define V_STORE_PART(p, n, v)   _mm256_maskstore_ps((p), first_lanes(n), (v))
#define V_FMA(a, b, c)          _mm256_fmadd_ps((a), (b), (c))
#define V_DIV(a, b)             _mm256_div_ps((a), (b))
#define V_SQRT(a)               _mm256_sqrt_ps(a)
#define V_SUM4(out, a, b, c, d) sum_lanes((out), (a), (b), (c), (d))
#define V_SUM_TILE(out, sum)    sum_tile((out), (sum))
#define V_HALVES(p)             _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define V_BFLOATS(p)            bfloats((const __m128i *)(p))
#define V_BYTES(p)              floats_of(_mm_loadl_epi64((const __m128i *)(p)))
#define V_NIBBLES(p, i)                                                                            \
    floats_of((i) == 0 ? nibbles(p) : _mm_unpackhi_epi64(nibbles(p), nibbles(p)))

/* 16 registers */
enum { GEMM_ROWS = 4, GEMM_VECTORS = 3, GEMM_WIDE = 8 };
enum { TAP_RANKS = 4, TAP_SAMPLES = 3, TAP_VECTORS = 3 };
enum { PANEL_ROWS = 3, PANEL_SPLIT = 1 };

static inline __m256i first_lanes(unsigned long n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}

static inline __m256 bfloats(const __m128i *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

static inline __m256 floats_of(__m128i bytes) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}

static inline __attribute__((always_inline)) void sum_lanes(float *out, __m256 a, __m256 b,
                                                            __m256 c, __m256 d) {
    const __m256 sums = sum_pairs(a, b, c, d);
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
}

static inline __attribute__((always_inline)) void sum_tile(float (*out)[TAP_SAMPLES],
                                                           __m256 (*sum)[TAP_SAMPLES]) {
    for (int s = 0; s < TAP_SAMPLES; s++) {
        float total[TAP_RANKS];
        sum_lanes(total, sum[0][s], sum[1][s], sum[2][s], sum[3][s]);
        for (int r = 0; r < TAP_RANKS; r++) {
            out[r][s] = total[r];
        }
    }
}

#include "kernels_vector.h"

const s2_kernels s2_kernels_x86_64_v3 = S2_VECTOR_KERNELS("x86-64-v3");

#else
typedef int s2_kernels_x86_64_v3_is_not_built; /* C wants a declaration in every file */
#endif
