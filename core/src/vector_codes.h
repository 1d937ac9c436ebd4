/* vector_codes.h - codes of rows to numbers; included by kernels_vector.h.
 *
 * The least that a vector of numbers takes is the conversion and one multiply-add: of float16 two
 * instructions on the units of vectors, of int8 three. A few rows are read at a time from end to end,
 * so that they share scale and offset, and the processor fetches early what each is read from and
 * written to. Over all rows of a batch at once it would not: it follows so many streams no longer. */

enum { DECODE_ROWS = 4 };

INLINE size_t bits_of_code(const s2_dtype dtype) {
    return dtype == S2_CODE_INT4 ? 4 : dtype == S2_CODE_INT8 ? 8 : 16;
}

/* V_WIDTH codes from column `column` on, as numbers. */
INLINE V codes_from(const s2_dtype dtype, const uint8_t *codes, const size_t column) {
    switch (dtype) {
    case S2_CODE_FLOAT16:
        return V_HALVES(codes + 2 * column);
    case S2_CODE_BFLOAT16:
        return V_BFLOATS(codes + 2 * column);
    case S2_CODE_INT8:
        return V_BYTES(codes + column);
    default:
        return V_NIBBLES(codes + (column - column % S2_LANES) / 2, column % S2_LANES);
    }
}

/* S2_LANES columns of `rows` rows from row r on. */
INLINE void decode_tile(const s2_decode_pass *pass, const s2_dtype dtype, const size_t r,
                        const size_t column, const size_t rows) {
    const size_t at = column * bits_of_code(dtype) / 8;
    if (at % S2_ALIGN == 0) { /* once a cache line */
        for (size_t i = r; i < r + rows && i < pass->n_ahead; i++) {
            S2_PREFETCH(pass->ahead[i] + at);
        }
    }
    UNROLL for (size_t v = 0; v < S2_LANES; v += V_WIDTH) {
        const V scale = V_LOAD(pass->scale + column + v);
        const V offset = V_LOAD(pass->offset + column + v);
        UNROLL for (size_t i = 0; i < rows; i++) {
            const V number = codes_from(dtype, pass->codes[r + i] + at, v);
            V_STORE(pass->out + (r + i) * pass->out_row + column + v, V_FMA(number, scale, offset));
        }
    }
}

/* The last columns, fewer than S2_LANES, whose codes and tables are padded. */
static void decode_rest(const s2_decode_pass *pass, size_t column) {
    s2_decode_pass rest = *pass;
    rest.scale += column;
    rest.offset += column;
    rest.out += column;
    rest.width -= column;
    for (size_t r = 0; r < pass->count; r++) {
        const uint8_t *codes = pass->codes[r] + s2_code_bytes(pass->dtype, column);
        rest.codes = &codes;
        rest.count = 1;
        plain_decode(&rest);
        rest.out += pass->out_row;
    }
}

/* All columns of `rows` rows from row r on but the last, fewer than S2_LANES. */
INLINE void decode_together(const s2_decode_pass *pass, const s2_dtype dtype, const size_t r,
                            const size_t rows) {
    const s2_decode_pass local = *pass; /* no store can change it */
    for (size_t column = 0; column + S2_LANES <= local.width; column += S2_LANES) {
        decode_tile(&local, dtype, r, column, rows);
    }
}

INLINE void decode_dtype(const s2_decode_pass *pass, const s2_dtype dtype) {
    size_t r = 0;
    for (; r + DECODE_ROWS <= pass->count; r += DECODE_ROWS) {
        decode_together(pass, dtype, r, DECODE_ROWS);
    }
    for (; r < pass->count; r++) {
        decode_together(pass, dtype, r, 1);
    }
    if (pass->width % S2_LANES > 0) {
        decode_rest(pass, pass->width - pass->width % S2_LANES);
    }
}

static void vector_decode(const s2_decode_pass *pass) {
    switch (pass->dtype) {
    case S2_CODE_FLOAT16:
        decode_dtype(pass, S2_CODE_FLOAT16);
        break;
    case S2_CODE_BFLOAT16:
        decode_dtype(pass, S2_CODE_BFLOAT16);
        break;
    case S2_CODE_INT8:
        decode_dtype(pass, S2_CODE_INT8);
        break;
    default:
        decode_dtype(pass, S2_CODE_INT4);
    }
}
