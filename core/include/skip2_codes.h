/*
 * skip2_codes.h - rows of the Skip-Cache in half, a quarter or an eighth of the memory. The rules
 * of skip2.h hold.
 *
 * The columns of the taps lie as codes, column after column, the base logits behind them as
 * float32. A column's number is
 *
 *     code * scale + offset
 *
 * where the code of a float16 or a bfloat16 is that number itself, with scale 1 and offset 0 unless
 * the columns are standardised; that of an int8 or an int4 is a whole number from 0 to 255 or 15.
 * Where scale has at most 13 significant bits (16 for integers), code * scale is exact: the same
 * bits with and without fused multiply-add, in every kernel table.
 */
#ifndef SKIP2_CODES_H
#define SKIP2_CODES_H

#include "skip2.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Little-endian, as NumPy has them, but int4: of S2_LANES columns, which take 8 bytes, the first
 * half are the lower four bits of each byte, the second half the upper ones. */
typedef enum {
    S2_CODE_FLOAT16 = 1,
    S2_CODE_BFLOAT16 = 2,
    S2_CODE_INT8 = 3,
    S2_CODE_INT4 = 4
} s2_dtype;

/* How s2_adapter_step reads rows that lie in a way of the caller's: some samples of a tap at a
 * time, then some columns of all samples. The bits are those of rows of floats, in little room. */
struct s2_row_reader {
    /* Numbers `first` to `first + count` of tap `tap`, where it is n_taps of the base logits, of
     * the row at `row`. */
    void (*read)(const void *context, const float *row, uint32_t tap, uint32_t first,
                 uint32_t count, float *numbers);
    const void *context;
};

#define S2_CODED_ALIGN 8u /* bytes a coded row is a multiple of */

/* Rows that lie as codes. */
struct s2_coded {
    const s2_kernels *kernels;
    s2_dtype dtype;
    uint32_t n_columns; /* that are coded, padding included: a multiple of S2_LANES, or 0 */
    uint32_t n_floats;  /* behind them */
    uint8_t *rows;      /* (rows, s2_coded_row_bytes), aligned to S2_CODED_ALIGN */
    const float *scale, *offset; /* (n_columns) */
};

/* Bytes of columns 0..n_columns-1, for the multiple of S2_LANES that is n_columns. */
size_t s2_code_bytes(s2_dtype dtype, size_t n_columns);
size_t s2_coded_row_bytes(s2_dtype dtype, uint32_t n_columns, uint32_t n_floats);
static inline size_t s2_coded_bytes(const s2_coded *coded) {
    return s2_coded_row_bytes(coded->dtype, coded->n_columns, coded->n_floats);
}
/* S2_BAD_SHAPE for an unknown dtype or columns that are no multiple. */
s2_status s2_coded_check(const s2_coded *coded);
/* The largest magnitude that a float16 or a bfloat16 holds; for integers infinite. */
float s2_code_limit(s2_dtype dtype);
/* The scale of a column whose numbers span `range`, which is finite and 0 or more: at most 16
 * significant bits, and the largest code reaches range. 0 for a range of 0; for float16 and
 * bfloat16 it is 1. */
float s2_code_scale(s2_dtype dtype, float range);

/* Writes rows first..first+count-1 from floats (count, row_stride): n_columns, then n_floats. The
 * nearest code; numbers beyond the last code become the last. */
void s2_coded_encode(const s2_coded *coded, size_t first, size_t count, const float *rows,
                     size_t row_stride);
/* The reverse, of the rows at these places: (count), or NULL: first, first + 1, ... */
void s2_coded_decode(const s2_coded *coded, const uint32_t *place, size_t first, size_t count,
                     float *rows, size_t row_stride);

#ifdef __cplusplus
}
#endif

#endif
