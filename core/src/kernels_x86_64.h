/* kernels_x86_64.h - what the tables of x86-64-v3 and v4 share: blocks of 8 x 8 in AVX registers. */
#ifndef S2_KERNELS_X86_64_H
#define S2_KERNELS_X86_64_H

#include <immintrin.h>
#include <stddef.h>

#define V_BLOCK                             8
#define V_TRANSPOSE(a, a_row, out, out_row) transpose_block((a), (a_row), (out), (out_row))

/* Pairs, fours and halves change places in three rounds. */
static inline void transpose_block(const float *a, size_t a_row, float *out, size_t out_row) {
    __m256 pair[8], four[8];
    for (size_t i = 0; i < 8; i += 2) {
        const __m256 even = _mm256_loadu_ps(a + i * a_row);
        const __m256 odd = _mm256_loadu_ps(a + (i + 1) * a_row);
        pair[i] = _mm256_unpacklo_ps(even, odd);
        pair[i + 1] = _mm256_unpackhi_ps(even, odd);
    }
    for (size_t i = 0; i < 8; i += 4) {
        four[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
        four[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
        four[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
        four[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
    }
    for (size_t i = 0; i < 4; i++) {
        _mm256_storeu_ps(out + i * out_row, _mm256_permute2f128_ps(four[i], four[i + 4], 0x20));
        _mm256_storeu_ps(out + (i + 4) * out_row,
                         _mm256_permute2f128_ps(four[i], four[i + 4], 0x31));
    }
}

/* Sixteen int4 codes as bytes, in the order of their columns. */
static inline __m128i nibbles(const void *p) {
    const __m128i both = _mm_loadl_epi64((const __m128i *)p), mask = _mm_set1_epi8(15);
    return _mm_unpacklo_epi64(_mm_and_si128(both, mask),
                              _mm_and_si128(_mm_srli_epi16(both, 4), mask));
}

/* Four vectors of four partial sums, (0+2, 1+3) of each half: lane i of a half belongs to vector i. */
static inline __m256 sum_pairs(__m256 a, __m256 b, __m256 c, __m256 d) {
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    return _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
}

#endif
