/* codes.h - codes of rows, read where they are needed as floats (codes.c). */
#ifndef S2_CODES_H
#define S2_CODES_H

#include "kernels.h"

/* Rows (count) to floats (count, out_row), n_columns and n_floats of each; meanwhile the rows that
 * are to come are fetched. */
void s2_decode_rows(const s2_coded *coded, size_t count, const uint8_t *const *row,
                    const uint8_t *const *ahead, size_t n_ahead, float *out, size_t out_row);

/* Columns column..column+width-1 of rows first.. (of those places, where they are given) to floats
 * (count, out_row). `column` is a multiple of S2_LANES. */
void s2_decode_columns(const s2_coded *coded, size_t column, size_t width, const uint32_t *place,
                       size_t first, size_t count, float *out, size_t out_row);

#endif
