/*
 * kernels_wasm.c - WebAssembly's vectors of 128 bits. Built where the build defines S2_HAVE_SIMD128,
 * with -msimd128 for this file alone. A module with such instructions is refused whole by an engine
 * that lacks them, so nothing is asked at run time (dispatch.c).
 *
 * There is no fused multiply-add (relaxed SIMD has one, whose rounding the engine may choose): V_FMA
 * rounds twice, the same everywhere.
 */
#ifdef S2_HAVE_SIMD128

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <wasm_simd128.h>

typedef float v4f __attribute__((vector_size(16)));

#define V                                   v4f
#define V_WIDTH                             4u
#define V_ZERO()                            ((v4f)wasm_f32x4_const_splat(0.0f))
#define V_SET(x)                            ((v4f)wasm_f32x4_splat(x))
#define V_LOAD(p)                           ((v4f)wasm_v128_load(p))
#define V_STORE(p, v)                       wasm_v128_store((p), (v128_t)(v))
#define V_LOAD_PART(p, n)                   load_lanes((p), (n))
#define V_STORE_PART(p, n, v)               store_lanes((p), (n), (v))
#define V_FMA(a, b, c)                      ((a) * (b) + (c))
#define V_DIV(a, b)                         ((a) / (b))
#define V_SQRT(a)                           ((v4f)wasm_f32x4_sqrt((v128_t)(a)))
#define V_SUM4(out, a, b, c, d)             V_STORE((out), sum_lanes((a), (b), (c), (d)))
#define V_SUM_TILE(out, sum)                sum_tile((out), (sum))
#define V_BLOCK                             4
#define V_TRANSPOSE(a, a_row, out, out_row) transpose_block((a), (a_row), (out), (out_row))
#define V_HALVES(p)                         halves(p)
#define V_BFLOATS(p)                        ((v4f)wasm_i32x4_shl(wasm_u32x4_load16x4(p), 16))
#define V_BYTES(p)      floats_of(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(p)))
#define V_NIBBLES(p, i) nibbles((p), (i))

/* 16 registers on x86-64. More samples a tile spill: 2 x 2 was the fastest of those tried. */
enum { GEMM_ROWS = 2, GEMM_VECTORS = 2, GEMM_WIDE = 8 };
enum { TAP_RANKS = 4, TAP_SAMPLES = 2, TAP_VECTORS = 2 };
enum { PANEL_ROWS = 1, PANEL_SPLIT = 1 };

static inline v4f load_lanes(const float *p, size_t n) {
    v4f v = V_ZERO();
    memcpy(&v, p, n * sizeof *p);
    return v;
}

static inline void store_lanes(float *p, size_t n, v4f v) {
    memcpy(p, &v, n * sizeof *p);
}

#define ZIP_LOW(a, b)  __builtin_shufflevector((a), (b), 0, 4, 1, 5)
#define ZIP_HIGH(a, b) __builtin_shufflevector((a), (b), 2, 6, 3, 7)

/* (0+2) + (1+3) of each of the four. */
static inline v4f sum_lanes(v4f a, v4f b, v4f c, v4f d) {
    const v4f ac = ZIP_LOW(a, c) + ZIP_HIGH(a, c), bd = ZIP_LOW(b, d) + ZIP_HIGH(b, d);
    return ZIP_LOW(ac, bd) + ZIP_HIGH(ac, bd);
}

/* out[r][s] = sum of the lanes of sum[r][s]. */
static inline __attribute__((always_inline)) void sum_tile(float (*out)[TAP_SAMPLES],
                                                           v4f (*sum)[TAP_SAMPLES]) {
    for (int r = 0; r < TAP_RANKS; r += 2) {
        V_SUM4(out[r], sum[r][0], sum[r][1], sum[r + 1][0], sum[r + 1][1]);
    }
}

static inline void transpose_block(const float *a, size_t a_row, float *out, size_t out_row) {
    const v4f row0 = V_LOAD(a), row1 = V_LOAD(a + a_row);
    const v4f row2 = V_LOAD(a + 2 * a_row), row3 = V_LOAD(a + 3 * a_row);
    const v4f low02 = ZIP_LOW(row0, row2), low13 = ZIP_LOW(row1, row3);
    const v4f high02 = ZIP_HIGH(row0, row2), high13 = ZIP_HIGH(row1, row3);
    V_STORE(out, ZIP_LOW(low02, low13));
    V_STORE(out + out_row, ZIP_HIGH(low02, low13));
    V_STORE(out + 2 * out_row, ZIP_LOW(high02, high13));
    V_STORE(out + 3 * out_row, ZIP_HIGH(high02, high13));
}

/* float16: the bits in a float's place are the number times 2^-112, subnormal or not. */
static inline v4f halves(const uint8_t *p) {
    const v128_t half = wasm_u32x4_load16x4(p);
    const v128_t size = wasm_i32x4_shl(half & wasm_i32x4_const_splat(0x7fff), 13);
    const v4f number = (v4f)size * V_SET(0x1p112f);
    return (v4f)((v128_t)number | wasm_i32x4_shl(half & wasm_i32x4_const_splat(0x8000), 16));
}

/* The lower four of eight whole numbers. */
static inline v4f floats_of(v128_t shorts) {
    return (v4f)wasm_f32x4_convert_i32x4(wasm_u32x4_extend_low_u16x8(shorts));
}

static inline __attribute__((always_inline)) v4f nibbles(const uint8_t *p, size_t i) {
    const v128_t both = wasm_u16x8_load8x8(p); /* low nibbles: columns 0-7, high ones: 8-15 */
    const v128_t codes =
        i < 8 ? both & wasm_i16x8_const_splat(15) : (v128_t)wasm_u16x8_shr(both, 4);
    return i % 8 == 0 ? floats_of(codes)
                      : (v4f)wasm_f32x4_convert_i32x4(wasm_u32x4_extend_high_u16x8(codes));
}

#include "kernels_vector.h"

const s2_kernels s2_kernels_simd128 = S2_VECTOR_KERNELS("simd128");

#else
typedef int s2_kernels_simd128_is_not_built; /* C wants a declaration in every file */
#endif
