/*
 * kernels_x86_64_v4.c - AVX-512 (x86-64-v4). Compiled with -mavx512{f,vl,bw,dq} -mfma where the build
 * asks for it by S2_HAVE_X86_64_V4; chosen at run time.
 */
#ifdef S2_HAVE_X86_64_V4

#include "kernels_x86_64.h"

#define V                       __m512
#define V_WIDTH                 16u
#define V_ZERO()                _mm512_setzero_ps()
#define V_SET(x)                _mm512_set1_ps(x)
#define V_LOAD(p)               _mm512_loadu_ps(p)
#define V_STORE(p, v)           _mm512_storeu_ps((p), (v))
#define V_LOAD_PART(p, n)       _mm512_maskz_loadu_ps(first_lanes(n), (p))
#define V_STORE_PART(p, n, v)   _mm512_mask_storeu_ps((p), first_lanes(n), (v))
#define V_FMA(a, b, c)          _mm512_fmadd_ps((a), (b), (c))
#define V_DIV(a, b)             _mm512_div_ps((a), (b))
#define V_SQRT(a)               _mm512_sqrt_ps(a)
#define V_SUM4(out, a, b, c, d) sum_lanes((out), (a), (b), (c), (d))
#define V_SUM_TILE(out, sum)    sum_tile((out), (sum))
#define V_KEEP(v)               __asm__("" : "+v"(v))
#define V_HALVES(p)             _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define V_BFLOATS(p)            bfloats((const __m256i *)(p))
#define V_BYTES(p)              floats_of(_mm_loadu_si128((const __m128i *)(p)))
#define V_NIBBLES(p, i)         ((void)(i), floats_of(nibbles(p)))

/* 32 registers */
enum { GEMM_ROWS = 10, GEMM_VECTORS = 2, GEMM_WIDE = 8 };
enum { TAP_RANKS = 4, TAP_SAMPLES = 4, TAP_VECTORS = 4 };
enum { PANEL_ROWS = 6, PANEL_SPLIT = 2 };

static inline __mmask16 first_lanes(unsigned long n) {
    return (__mmask16)((1u << n) - 1u);
}

static inline __m512 bfloats(const __m256i *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

static inline __m512 floats_of(__m128i bytes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

static inline __m256 halves(__m512 a) {
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}

static inline __attribute__((always_inline)) void sum_lanes(float *out, __m512 a, __m512 b,
                                                            __m512 c, __m512 d) {
    const __m256 sums = sum_pairs(halves(a), halves(b), halves(c), halves(d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
}

/* In each quarter of four lanes: lane i is the sum of that quarter of the i-th vector. */
static inline __attribute__((always_inline)) __m512 sum_quarters(const __m512 *of) {
    const __m512 ab = _mm512_unpacklo_ps(of[0], of[1]) + _mm512_unpackhi_ps(of[0], of[1]);
    const __m512 cd = _mm512_unpacklo_ps(of[2], of[3]) + _mm512_unpackhi_ps(of[2], of[3]);
    return _mm512_shuffle_ps(ab, cd, 0x44) + _mm512_shuffle_ps(ab, cd, 0xee);
}

/* Sixteen sums at once: quarter r of the result belongs to rank r, its lanes to the samples. */
static inline __attribute__((always_inline)) void sum_tile(float (*out)[TAP_SAMPLES],
                                                           __m512 (*sum)[TAP_SAMPLES]) {
    const __m512 q0 = sum_quarters(sum[0]), q1 = sum_quarters(sum[1]);
    const __m512 q2 = sum_quarters(sum[2]), q3 = sum_quarters(sum[3]);
    const __m512 low = _mm512_shuffle_f32x4(q0, q1, 0x44) + _mm512_shuffle_f32x4(q0, q1, 0xee);
    const __m512 high = _mm512_shuffle_f32x4(q2, q3, 0x44) + _mm512_shuffle_f32x4(q2, q3, 0xee);
    const __m512 all =
        _mm512_shuffle_f32x4(low, high, 0x88) + _mm512_shuffle_f32x4(low, high, 0xdd);
    _mm512_storeu_ps(out, all);
}

#include "kernels_vector.h"

const s2_kernels s2_kernels_x86_64_v4 = S2_VECTOR_KERNELS("x86-64-v4");

#else
typedef int s2_kernels_x86_64_v4_is_not_built; /* C wants a declaration in every file */
#endif
