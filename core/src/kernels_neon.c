/*
 * kernels_neon.c - NEON with fused multiply-add: every aarch64, and ARMv7 with VFPv4 (Cortex-A7, A15,
 * A53 in 32 bits; not A8 and A9). Built where the build defines S2_HAVE_NEON, on ARMv7 with
 * -mfpu=neon-vfpv4 -mfp16-format=ieee for this file alone; chosen at run time (dispatch.c).
 *
 * ARMv7's NEON flushes subnormal numbers to zero and has no division or square root; those two go
 * lane by lane through the scalar unit, so they are rounded correctly.
 */
#ifdef S2_HAVE_NEON

#include <arm_neon.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V                                   float32x4_t
#define V_WIDTH                             4u
#define V_ZERO()                            vdupq_n_f32(0.0f)
#define V_SET(x)                            vdupq_n_f32(x)
#define V_LOAD(p)                           (*(const unaligned *)(p))
#define V_STORE(p, v)                       ((void)(*(unaligned *)(p) = (v)))
#define V_LOAD_PART(p, n)                   load_lanes((p), (n))
#define V_STORE_PART(p, n, v)               store_lanes((p), (n), (v))
#define V_FMA(a, b, c)                      vfmaq_f32((c), (a), (b))
#define V_DIV(a, b)                         divide((a), (b))
#define V_SQRT(a)                           square_root(a)
#define V_SUM4(out, a, b, c, d)             vst1q_f32((out), sum_lanes((a), (b), (c), (d)))
#define V_FACTOR(at, r)                     factor_of((at), (r))
#define V_SUM_TILE(out, sum)                sum_tile((out), (sum))
#define V_BLOCK                             4
#define V_TRANSPOSE(a, a_row, out, out_row) transpose_block((a), (a_row), (out), (out_row))
#define V_HALVES(p)                         vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)))
#define V_BFLOATS(p)                        bfloats(p)
#define V_BYTES(p)      vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four_bytes(p)))))
#define V_NIBBLES(p, i) nibbles((p), (i))

#ifdef __aarch64__ /* 32 registers */
enum { GEMM_ROWS = 5, GEMM_VECTORS = 4, GEMM_WIDE = 8 };
enum { TAP_RANKS = 4, TAP_SAMPLES = 4, TAP_VECTORS = 4 };
enum { PANEL_ROWS = 3, PANEL_SPLIT = 1 };
#else /* 16 registers */
enum { GEMM_ROWS = 4, GEMM_VECTORS = 2, GEMM_WIDE = 8 };
enum { TAP_RANKS = 4, TAP_SAMPLES = 2, TAP_VECTORS = 2 };
enum { PANEL_ROWS = 1, PANEL_SPLIT = 1 };

#define V_ADD(a, b)  vaddq_f32((a), (b))
#define V_SUB(a, b)  vsubq_f32((a), (b))
#define V_MUL(a, b)  vmulq_f32((a), (b))
#define V_LESS(a, b) ((VI)vcltq_f32((a), (b)))
#endif

/* gcc takes a store by vst1q_f32 to change any memory, by this type only floats. */
typedef float32x4_t unaligned __attribute__((aligned(4)));

static inline float32x4_t load_lanes(const float *p, size_t n) {
    float32x4_t v = vdupq_n_f32(0.0f);
    v = n > 0 ? vld1q_lane_f32(p, v, 0) : v;
    v = n > 1 ? vld1q_lane_f32(p + 1, v, 1) : v;
    v = n > 2 ? vld1q_lane_f32(p + 2, v, 2) : v;
    return n > 3 ? vld1q_lane_f32(p + 3, v, 3) : v;
}

static inline void store_lanes(float *p, size_t n, float32x4_t v) {
    if (n > 0) {
        vst1q_lane_f32(p, v, 0);
    }
    if (n > 1) {
        vst1q_lane_f32(p + 1, v, 1);
    }
    if (n > 2) {
        vst1q_lane_f32(p + 2, v, 2);
    }
    if (n > 3) {
        vst1q_lane_f32(p + 3, v, 3);
    }
}

/* sum_lanes: (0+1) + (2+3) of each of the four; the same in both, so 32 and 64 bits agree. */
#ifdef __aarch64__

static inline float32x4_t divide(float32x4_t a, float32x4_t b) {
    return vdivq_f32(a, b);
}

static inline float32x4_t square_root(float32x4_t a) {
    return vsqrtq_f32(a);
}

static inline float32x4_t sum_lanes(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d) {
    return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
}

#else

static inline float32x4_t divide(float32x4_t a, float32x4_t b) {
    float32x4_t v = a;
    v = vsetq_lane_f32(vgetq_lane_f32(a, 0) / vgetq_lane_f32(b, 0), v, 0);
    v = vsetq_lane_f32(vgetq_lane_f32(a, 1) / vgetq_lane_f32(b, 1), v, 1);
    v = vsetq_lane_f32(vgetq_lane_f32(a, 2) / vgetq_lane_f32(b, 2), v, 2);
    return vsetq_lane_f32(vgetq_lane_f32(a, 3) / vgetq_lane_f32(b, 3), v, 3);
}

static inline float32x4_t square_root(float32x4_t a) {
    float32x4_t v = a;
    v = vsetq_lane_f32(sqrtf(vgetq_lane_f32(a, 0)), v, 0);
    v = vsetq_lane_f32(sqrtf(vgetq_lane_f32(a, 1)), v, 1);
    v = vsetq_lane_f32(sqrtf(vgetq_lane_f32(a, 2)), v, 2);
    return vsetq_lane_f32(sqrtf(vgetq_lane_f32(a, 3)), v, 3);
}

static inline float32x2_t pair_sums(float32x4_t a) {
    return vpadd_f32(vget_low_f32(a), vget_high_f32(a));
}

static inline float32x4_t sum_lanes(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d) {
    return vcombine_f32(vpadd_f32(pair_sums(a), pair_sums(b)),
                        vpadd_f32(pair_sums(c), pair_sums(d)));
}

#endif

static inline float32x4_t bfloats(const uint8_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

/* No byte beyond the four is read. */
static inline uint8x8_t four_bytes(const uint8_t *p) {
    uint32_t bits;
    memcpy(&bits, p, sizeof bits);
    return vreinterpret_u8_u32(vdup_n_u32(bits));
}

static inline __attribute__((always_inline)) float32x4_t nibbles(const uint8_t *p, size_t i) {
    const uint8x8_t both = vld1_u8(p);
    const uint16x8_t half = vmovl_u8(i < 8 ? vand_u8(both, vdup_n_u8(15)) : vshr_n_u8(both, 4));
    return vcvtq_f32_u32(vmovl_u16(i % 8 == 0 ? vget_low_u16(half) : vget_high_u16(half)));
}

/* Factor r of a sample, in all lanes, of the FACTOR_FLOATS at `at`; r is constant after unrolling. */
static inline __attribute__((always_inline)) float32x4_t factor_of(const float *at, size_t r) {
#ifdef __aarch64__ /* a lane is an operand of the multiply-add */
    const float32x4_t v = vld1q_f32(at);
    return r == 0   ? vdupq_laneq_f32(v, 0)
           : r == 1 ? vdupq_laneq_f32(v, 1)
           : r == 2 ? vdupq_laneq_f32(v, 2)
                    : vdupq_laneq_f32(v, 3);
#else
    return vld1q_f32(at + r * V_WIDTH);
#endif
}

/* out[r][s] = sum of the lanes of sum[r][s]. */
static inline __attribute__((always_inline)) void sum_tile(float (*out)[TAP_SAMPLES],
                                                           float32x4_t (*sum)[TAP_SAMPLES]) {
#if defined(__aarch64__)
    for (int r = 0; r < TAP_RANKS; r++) {
        vst1q_f32(out[r], sum_lanes(sum[r][0], sum[r][1], sum[r][2], sum[r][3]));
    }
#else
    for (int r = 0; r < TAP_RANKS; r += 2) {
        vst1q_f32(out[r], sum_lanes(sum[r][0], sum[r][1], sum[r + 1][0], sum[r + 1][1]));
    }
#endif
}

static inline void transpose_block(const float *a, size_t a_row, float *out, size_t out_row) {
    const float32x4x2_t top = vtrnq_f32(vld1q_f32(a), vld1q_f32(a + a_row));
    const float32x4x2_t low = vtrnq_f32(vld1q_f32(a + 2 * a_row), vld1q_f32(a + 3 * a_row));
    for (size_t i = 0; i < 2; i++) { /* top: a0 b0 a2 b2, a1 b1 a3 b3; low: the same of c and d */
        vst1q_f32(out + i * out_row,
                  vcombine_f32(vget_low_f32(top.val[i]), vget_low_f32(low.val[i])));
        vst1q_f32(out + (i + 2) * out_row,
                  vcombine_f32(vget_high_f32(top.val[i]), vget_high_f32(low.val[i])));
    }
}

#include "neon_tiles.h"

/* (TAP_RANKS, count), or its transpose, to (count, FACTOR_FLOATS). */
static void lay_out_factors(const float *grad, size_t of_rank, size_t of_sample, size_t count,
                            float *factors) {
    size_t s = 0;
#ifdef __aarch64__
    for (; of_sample == 1 && s + 4 <= count; s += 4) {
        transpose_block(grad + s, of_rank, factors + s * FACTOR_FLOATS, FACTOR_FLOATS);
    }
    for (; s < count; s++) {
        for (size_t r = 0; r < TAP_RANKS; r++) {
            factors[s * FACTOR_FLOATS + r] = grad[r * of_rank + s * of_sample];
        }
    }
#else
    for (; s < count; s++) {
        for (size_t r = 0; r < TAP_RANKS; r++) {
            vst1q_f32(factors + s * FACTOR_FLOATS + r * V_WIDTH,
                      vld1q_dup_f32(grad + r * of_rank + s * of_sample));
        }
    }
#endif
}

#include "kernels_vector.h"

const s2_kernels s2_kernels_neon = S2_VECTOR_KERNELS("neon");

#else
typedef int s2_kernels_neon_is_not_built; /* C wants a declaration in every file */
#endif
