/* codes.c - rows that lie as float16, bfloat16, int8 or int4: there and back. */
#include "codes.h"

#include <math.h>
#include <string.h>

size_t s2_code_bytes(s2_dtype dtype, size_t n_columns) {
    switch (dtype) {
    case S2_CODE_FLOAT16:
    case S2_CODE_BFLOAT16:
        return s2_times(2, n_columns);
    case S2_CODE_INT8:
        return n_columns;
    default:
        return n_columns / 2;
    }
}

size_t s2_coded_row_bytes(s2_dtype dtype, uint32_t n_columns, uint32_t n_floats) {
    const size_t bytes =
        s2_plus(s2_code_bytes(dtype, n_columns), s2_times(n_floats, sizeof(float)));
    return s2_round_up(bytes, S2_CODED_ALIGN);
}

s2_status s2_coded_check(const s2_coded *coded) {
    return coded->dtype < S2_CODE_FLOAT16 || coded->dtype > S2_CODE_INT4 ||
                   coded->n_columns % S2_LANES != 0
               ? S2_BAD_SHAPE
               : S2_OK;
}

float s2_code_limit(s2_dtype dtype) {
    return dtype == S2_CODE_FLOAT16 ? 65504.0f : dtype == S2_CODE_BFLOAT16 ? 0x1.fep127f : INFINITY;
}

float s2_code_scale(s2_dtype dtype, float range) {
    if (dtype < S2_CODE_INT8) {
        return 1.0f;
    }
    /* The quotient is rounded up to 16 bits, or the last code would fall short of the range. */
    const float scale = range / (dtype == S2_CODE_INT8 ? 255.0f : 15.0f);
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    bits = (bits + 0xffu) & ~0xffu;
    float rounded;
    memcpy(&rounded, &bits, sizeof rounded);
    return rounded >= 0x1p-126f ? rounded : 0.0f; /* some kernels flush subnormal numbers */
}

void s2_coded_encode(const s2_coded *coded, size_t first, size_t count, const float *rows,
                     size_t row_stride) {
    const size_t row_bytes = s2_coded_bytes(coded);
    for (size_t r = 0; r < count; r++, rows += row_stride) {
        uint8_t *row = coded->rows + (first + r) * row_bytes;
        const size_t code_bytes = s2_code_bytes(coded->dtype, coded->n_columns);
        const size_t used = code_bytes + coded->n_floats * sizeof *rows;
        coded->kernels->encode(coded->dtype, coded->n_columns, rows, coded->scale, coded->offset,
                               row);
        memcpy(row + code_bytes, rows + coded->n_columns, coded->n_floats * sizeof *rows);
        memset(row + used, 0, row_bytes - used);
    }
}

void s2_decode_rows(const s2_coded *coded, size_t count, const uint8_t *const *row,
                    const uint8_t *const *ahead, size_t n_ahead, float *out, size_t out_row) {
    const size_t code_bytes = s2_code_bytes(coded->dtype, coded->n_columns);
    coded->kernels->decode(&(s2_decode_pass){.dtype = coded->dtype,
                                             .count = count,
                                             .width = coded->n_columns,
                                             .codes = row,
                                             .scale = coded->scale,
                                             .offset = coded->offset,
                                             .out = out,
                                             .out_row = out_row,
                                             .ahead = ahead,
                                             .n_ahead = n_ahead});
    for (size_t r = 0; r < count; r++) {
        memcpy(out + r * out_row + coded->n_columns, row[r] + code_bytes,
               coded->n_floats * sizeof *out);
    }
    for (size_t r = 0; r < n_ahead; r++) {
        S2_PREFETCH(ahead[r] + code_bytes);
    }
}

void s2_decode_columns(const s2_coded *coded, size_t column, size_t width, const uint32_t *place,
                       size_t first, size_t count, float *out, size_t out_row) {
    enum { AT_ONCE = 32 };
    const size_t row_bytes = s2_coded_bytes(coded);
    const uint8_t *codes[AT_ONCE];
    s2_decode_pass pass = {.dtype = coded->dtype,
                           .width = width,
                           .codes = codes,
                           .scale = coded->scale + column,
                           .offset = coded->offset + column,
                           .out_row = out_row};
    for (size_t r = 0; r < count; r += AT_ONCE) {
        pass.count = count - r < AT_ONCE ? count - r : AT_ONCE;
        pass.out = out + r * out_row;
        for (size_t i = 0; i < pass.count; i++) {
            const size_t at = place ? place[first + r + i] : first + r + i;
            codes[i] = coded->rows + at * row_bytes + s2_code_bytes(coded->dtype, column);
        }
        coded->kernels->decode(&pass);
    }
}

void s2_coded_decode(const s2_coded *coded, const uint32_t *place, size_t first, size_t count,
                     float *rows, size_t row_stride) {
    const size_t row_bytes = s2_coded_bytes(coded);
    const size_t code_bytes = s2_code_bytes(coded->dtype, coded->n_columns);
    s2_decode_columns(coded, 0, coded->n_columns, place, first, count, rows, row_stride);
    for (size_t r = 0; r < count; r++) {
        const size_t at = place ? place[first + r] : first + r;
        memcpy(rows + r * row_stride + coded->n_columns, coded->rows + at * row_bytes + code_bytes,
               coded->n_floats * sizeof *rows);
    }
}
