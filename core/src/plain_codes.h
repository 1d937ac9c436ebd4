/* plain_codes.h - numbers to codes and back, one by one; included by the file of each table, with the
 * same bits in all. */
#include <string.h>

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- to codes -------------------------------------------------------------------------------- */

/* To the nearest, ties to even; beyond the largest that becomes the largest. Selects, no branches. */
static inline uint32_t half_of(float x) {
    const uint32_t bits = bits_of(x), size = bits & 0x7fffffffu;
    const uint32_t normal = ((size + 0xfffu + ((size >> 13) & 1u)) >> 13) - (112u << 10);
    /* below 2^-14 in steps of 2^-24, which are those of floats from 0.5 on */
    const uint32_t small = bits_of(float_of(size) + 0.5f) - bits_of(0.5f);
    const uint32_t half = size < (113u << 23) ? small : normal;
    return (bits >> 16 & 0x8000u) | (half < 0x7bffu ? half : 0x7bffu);
}

static inline uint32_t bfloat_of(float x) {
    const uint32_t bits = bits_of(x), size = bits & 0x7fffffffu;
    const uint32_t half = (size + 0x7fffu + ((size >> 16) & 1u)) >> 16;
    return (bits >> 16 & 0x8000u) | (half < 0x7f7fu ? half : 0x7f7fu);
}

/* From 0 to most; a column without a range has scale 0 and code 0. */
static inline uint32_t step_of(float x, float scale, float offset, float most) {
    const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    float step = (x - offset) * inverse + 0.5f;
    step = step > 0.0f ? step : 0.0f;
    step = step < most ? step : most;
    return (uint32_t)(int32_t)step;
}

static void encode(s2_dtype dtype, size_t width, const float *restrict x,
                   const float *restrict scale, const float *restrict offset,
                   uint8_t *restrict codes) {
    enum { HALF = S2_LANES / 2 };
    if (dtype == S2_CODE_FLOAT16 || dtype == S2_CODE_BFLOAT16) {
        for (size_t c = 0; c < width; c++) {
            const uint32_t code = dtype == S2_CODE_FLOAT16 ? half_of(x[c]) : bfloat_of(x[c]);
            codes[2 * c] = (uint8_t)code;
            codes[2 * c + 1] = (uint8_t)(code >> 8);
        }
    } else if (dtype == S2_CODE_INT8) {
        for (size_t c = 0; c < width; c++) {
            codes[c] = (uint8_t)step_of(x[c], scale[c], offset[c], 255.0f);
        }
    } else {
        for (size_t at = 0; at < width; at += S2_LANES) {
            for (size_t i = 0; i < HALF; i++) {
                const size_t low = at + i, high = low + HALF;
                const uint32_t lower = step_of(x[low], scale[low], offset[low], 15.0f);
                const uint32_t upper = step_of(x[high], scale[high], offset[high], 15.0f);
                codes[at / 2 + i] = (uint8_t)(lower | upper << 4);
            }
        }
    }
}

/* ---- to numbers ------------------------------------------------------------------------------ */

static inline float number_of_half(uint32_t half) {
    const uint32_t size = half & 0x7fffu;
    const float normal = float_of((size << 13) + (112u << 23));
    const float number = size < 0x400u ? (float)size * 0x1p-24f : normal;
    return half & 0x8000u ? -number : number;
}

/* That of a column in codes of a row, the first of which is at `codes`. */
static inline float code_at(s2_dtype dtype, const uint8_t *codes, size_t column) {
    enum { HALF = S2_LANES / 2 };
    if (dtype == S2_CODE_INT8) {
        return (float)codes[column];
    }
    if (dtype == S2_CODE_INT4) {
        const size_t in_group = column % S2_LANES;
        const uint32_t both = codes[(column - in_group) / 2 + in_group % HALF];
        return (float)(in_group < HALF ? both & 15u : both >> 4);
    }
    const uint32_t code = codes[2 * column] | (uint32_t)codes[2 * column + 1] << 8;
    return dtype == S2_CODE_FLOAT16 ? number_of_half(code) : float_of(code << 16);
}

static inline void plain_decode(const s2_decode_pass *pass) {
    for (size_t r = 0; r < pass->count; r++) {
        float *out = pass->out + r * pass->out_row;
        for (size_t c = 0; c < pass->width; c++) {
            out[c] = code_at(pass->dtype, pass->codes[r], c) * pass->scale[c] + pass->offset[c];
        }
    }
}
