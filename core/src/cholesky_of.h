/*
 * cholesky_of.h - the functions of cholesky.h, written once over the type; included by cholesky.c
 * with
 *   REAL                        float or double
 *   FACTOR                      its s2_factor_*
 *   NAME(f)                     f_float or f_double
 *   MOST                        its largest finite number
 *   ADD_PRODUCT(kernels, ...)   c += a . b of the fields of s2_gemm or s2_gemm_double
 */

/* Rows [row, row + rows) of A, from column `row` on, less what rows [from, to) of U give them. */
static void NAME(eliminate)(const FACTOR *f, uint32_t row, uint32_t rows, uint32_t from,
                            uint32_t to) {
    const size_t stride = f->row;
    for (uint32_t k = from; k < to; k += DEPTH) {
        const uint32_t depth = to - k < DEPTH ? to - k : DEPTH;
        for (size_t i = 0; i < depth; i++) {
            const REAL *u = f->u + (k + i) * stride + row;
            for (size_t r = 0; r < rows; r++) {
                f->room[i * rows + r] = -u[r];
            }
        }
        ADD_PRODUCT(f->kernels, .rows = rows, .cols = f->n - row, .depth = depth, .a = f->room,
                    .a_row = 1, .a_depth = rows, .b = f->u + k * stride + row, .b_depth = stride,
                    .b_col = 1, .c = f->u + row * stride + row, .c_row = stride);
    }
}

/* The same for a few rows that need no others any more. */
static int NAME(factorize_few)(const FACTOR *f, uint32_t row, uint32_t rows) {
    for (uint32_t i = row; i < row + rows; i++) {
        REAL *restrict u = f->u + i * f->row;
        if (!(u[i] > 0) || !(u[i] <= MOST)) {
            return 0;
        }
        const REAL factor = 1 / NAME(root)(u[i]);
        for (uint32_t m = i; m < f->n; m++) {
            u[m] *= factor;
        }
        for (uint32_t below = i + 1; below < row + rows; below++) {
            REAL *restrict to = f->u + below * f->row;
            const REAL share = u[below];
            for (uint32_t m = below; m < f->n; m++) {
                to[m] -= share * u[m];
            }
        }
    }
    return 1;
}

int NAME(s2_factorize)(const FACTOR *f) {
    for (uint32_t row = 0; row < f->n; row += STRIPE) {
        const uint32_t stop = f->n - row < STRIPE ? f->n : row + STRIPE;
        NAME(eliminate)(f, row, stop - row, 0, row);
        for (uint32_t few = row; few < stop; few += FEW) {
            const uint32_t rows = stop - few < FEW ? stop - few : FEW;
            NAME(eliminate)(f, few, rows, row, few);
            if (!NAME(factorize_few)(f, few, rows)) {
                return 0;
            }
        }
    }
    return 1;
}

/* -x of elements [first, first + size) of the rows, (count, size): what a product takes away. */
static void NAME(negate)(const FACTOR *f, uint32_t first, uint32_t size, uint32_t count,
                         const REAL *x, size_t x_row) {
    for (size_t r = 0; r < count; r++) {
        for (size_t j = 0; j < size; j++) {
            f->room[r * size + j] = -x[r * x_row + first + j];
        }
    }
}

static void NAME(solve_first_block)(const FACTOR *f, uint32_t first, uint32_t size, uint32_t count,
                                    REAL *x, size_t x_row) {
    for (; count > 0; count--, x += x_row) {
        for (uint32_t j = first; j < first + size; j++) {
            const REAL *u = f->u + j * f->row;
            x[j] /= u[j];
            for (uint32_t m = j + 1; m < first + size; m++) {
                x[m] -= x[j] * u[m];
            }
        }
    }
}

static void NAME(solve_second_block)(const FACTOR *f, uint32_t first, uint32_t size, uint32_t count,
                                     REAL *x, size_t x_row) {
    for (; count > 0; count--, x += x_row) {
        for (uint32_t j = first + size; j-- > first;) {
            const REAL *u = f->u + j * f->row;
            for (uint32_t m = j + 1; m < first + size; m++) {
                x[j] -= u[m] * x[m];
            }
            x[j] /= u[j];
        }
    }
}

void NAME(s2_solve_first)(const FACTOR *f, uint32_t first, uint32_t count, REAL *x, size_t x_row) {
    while (count > 0) {
        const uint32_t rows = count < ROWS ? count : ROWS;
        for (uint32_t j = first / BLOCK * BLOCK; j < f->n; j += BLOCK) {
            const uint32_t size = f->n - j < BLOCK ? f->n - j : BLOCK, rest = j + size;
            NAME(solve_first_block)(f, j, size, rows, x, x_row);
            NAME(negate)(f, j, size, rows, x, x_row);
            ADD_PRODUCT(f->kernels, .rows = rows, .cols = f->n - rest, .depth = size, .a = f->room,
                        .a_row = size, .a_depth = 1, .b = f->u + j * f->row + rest,
                        .b_depth = f->row, .b_col = 1, .c = x + rest, .c_row = x_row);
        }
        count -= rows;
        x += rows * x_row;
    }
}

void NAME(s2_solve_second)(const FACTOR *f, uint32_t count, REAL *x, size_t x_row) {
    while (count > 0) {
        const uint32_t rows = count < ROWS ? count : ROWS;
        for (uint32_t stop = f->n; stop > 0;) {
            const uint32_t j = (stop - 1) / BLOCK * BLOCK, size = stop - j;
            NAME(solve_second_block)(f, j, size, rows, x, x_row);
            NAME(negate)(f, j, size, rows, x, x_row);
            ADD_PRODUCT(f->kernels, .rows = rows, .cols = j, .depth = size, .a = f->room,
                        .a_row = size, .a_depth = 1, .b = f->u + j, .b_depth = 1, .b_col = f->row,
                        .c = x, .c_row = x_row);
            stop = j;
        }
        count -= rows;
        x += rows * x_row;
    }
}

#undef REAL
#undef FACTOR
#undef NAME
#undef MOST
#undef ADD_PRODUCT
