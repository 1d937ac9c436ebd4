/* vector_codes.h - codes of rows to numbers; included by kernels_vector.h.
 *
 * The least that a vector of numbers takes is the conversion and one multiply-add: of float16 two
 * instructions on the units of vectors, of int8 three. Scale and offset stay in registers for all
 * rows of a batch, so that only codes are loaded. */

enum { DECODE_VECTORS = 4 };

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

/* `vectors` vectors of columns of all rows. */
INLINE void decode_vectors(const s2_decode_pass *pass, const s2_dtype dtype, size_t column,
                           const size_t vectors) {
    V scale[DECODE_VECTORS], offset[DECODE_VECTORS];
    UNROLL for (size_t v = 0; v < vectors; v++) {
        scale[v] = V_LOAD(pass->scale + column + v * V_WIDTH);
        offset[v] = V_LOAD(pass->offset + column + v * V_WIDTH);
    }
    const size_t bits = dtype == S2_CODE_INT4   ? 4
                        : dtype == S2_CODE_INT8 ? 8
                                                : 16,
                 at = column * bits / 8;
    float *out = pass->out + column;
    for (size_t r = 0; r < pass->count; r++, out += pass->out_row) {
        const uint8_t *codes = pass->codes[r] + at;
        if (r < pass->n_ahead) {
            UNROLL for (size_t line = 0; line < vectors * V_WIDTH * bits / 8; line += S2_ALIGN) {
                S2_PREFETCH(pass->ahead[r] + at + line);
            }
        }
        UNROLL for (size_t v = 0; v < vectors; v++) {
            const V number = V_FMA(codes_from(dtype, codes, v * V_WIDTH), scale[v], offset[v]);
            V_STORE(out + v * V_WIDTH, number);
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

INLINE void decode_dtype(const s2_decode_pass *pass, const s2_dtype dtype) {
    const size_t whole = pass->width - pass->width % S2_LANES;
    size_t column = 0;
    for (; column + DECODE_VECTORS * V_WIDTH <= whole; column += DECODE_VECTORS * V_WIDTH) {
        decode_vectors(pass, dtype, column, DECODE_VECTORS);
    }
    for (; column < whole; column += S2_LANES) {
        decode_vectors(pass, dtype, column, S2_LANES / V_WIDTH);
    }
    if (column < pass->width) {
        decode_rest(pass, column);
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
