/* vector_double.h - moments of columns and products in double, on GCC's vectors alone; included by kernels_vector.h. */

typedef double VD __attribute__((vector_size(V_WIDTH * sizeof(float))));
/* Of any array of doubles, wherever it starts. */
typedef double VD_UNALIGNED
    __attribute__((vector_size(V_WIDTH * sizeof(float)), aligned(sizeof(double)), may_alias));

enum { VD_WIDTH = V_WIDTH / 2, DOUBLE_ROWS = 4, DOUBLE_VECTORS = 2, DOUBLE_WIDE = 8 };

INLINE VD load_doubles(const double *p) {
    return *(const VD_UNALIGNED *)p;
}

/* ---- moments of columns ----------------------------------------------------------------------- */

typedef float VH_UNALIGNED
    __attribute__((vector_size(V_WIDTH * sizeof(float) / 2), aligned(sizeof(float)), may_alias));

enum { MOMENT_VECTORS = 4 };

/* MOMENT_VECTORS vectors of columns, as moments_of_columns has them. */
INLINE void moments_of_vectors(const s2_moments *moments, const s2_moments_pass *pass, size_t at,
                               const int weighted) {
    VD first[MOMENT_VECTORS], sum[MOMENT_VECTORS], squares[MOMENT_VECTORS];
    const float *rows = pass->rows + at;
    UNROLL for (size_t v = 0; v < MOMENT_VECTORS; v++) {
        const size_t column = at + v * VD_WIDTH;
        first[v] = __builtin_convertvector(*(const VH_UNALIGNED *)(moments->first + column), VD);
        sum[v] = load_doubles(moments->sum + column);
        squares[v] = load_doubles(moments->squares + column);
    }
    for (size_t r = 0; r < pass->count; r++, rows += pass->row_stride) {
        UNROLL for (size_t v = 0; v < MOMENT_VECTORS; v++) {
            const VH_UNALIGNED *x = (const VH_UNALIGNED *)(rows + v * VD_WIDTH);
            const VD off = __builtin_convertvector(*x, VD) - first[v];
            const VD by_weight = weighted ? (double)pass->weight[r] * off : off;
            sum[v] += by_weight;
            squares[v] += by_weight * off;
        }
    }
    UNROLL for (size_t v = 0; v < MOMENT_VECTORS; v++) {
        const size_t column = at + v * VD_WIDTH;
        *(VD_UNALIGNED *)(moments->sum + column) = sum[v];
        *(VD_UNALIGNED *)(moments->squares + column) = squares[v];
    }
}

static void vector_column_moments(const s2_moments *moments, const s2_moments_pass *pass) {
    const size_t cols = MOMENT_VECTORS * VD_WIDTH;
    size_t at = 0;
    for (; at + cols <= moments->width; at += cols) {
        if (pass->weight) {
            moments_of_vectors(moments, pass, at, 1);
        } else {
            moments_of_vectors(moments, pass, at, 0);
        }
    }
    for (; at < moments->width; at += COLUMNS_AT_ONCE) {
        const size_t left = moments->width - at;
        moments_of_columns(moments, pass, at, left < COLUMNS_AT_ONCE ? left : COLUMNS_AT_ONCE);
    }
}

/* ---- products --------------------------------------------------------------------------------- */

/* A tile of `rows` x `vectors`. Multiplied and added in two roundings, as the last columns are. */
INLINE void double_tile(const s2_gemm_double *pass, size_t row, size_t col, const size_t rows,
                        const size_t vectors) {
    VD sum[DOUBLE_ROWS][DOUBLE_WIDE];
    double *c = pass->c + row * pass->c_row + col;
    UNROLL for (size_t r = 0; r < rows; r++) {
        UNROLL for (size_t v = 0; v < vectors; v++) {
            sum[r][v] = load_doubles(c + r * pass->c_row + v * VD_WIDTH);
        }
    }
    const double *a = pass->a + row * pass->a_row;
    const double *b = pass->b + col;
    for (size_t k = 0; k < pass->depth; k++, a += pass->a_depth, b += pass->b_depth) {
        VD column[DOUBLE_WIDE];
        UNROLL for (size_t v = 0; v < vectors; v++) {
            column[v] = load_doubles(b + v * VD_WIDTH);
        }
        UNROLL for (size_t r = 0; r < rows; r++) {
            UNROLL for (size_t v = 0; v < vectors; v++) {
                sum[r][v] += a[r * pass->a_row] * column[v];
            }
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++) {
        UNROLL for (size_t v = 0; v < vectors; v++) {
            *(VD_UNALIGNED *)(c + r * pass->c_row + v * VD_WIDTH) = sum[r][v];
        }
    }
}

INLINE void double_columns(const s2_gemm_double *pass, size_t col, const size_t vectors) {
    size_t row = 0;
    for (; row + DOUBLE_ROWS <= pass->rows; row += DOUBLE_ROWS) {
        double_tile(pass, row, col, DOUBLE_ROWS, vectors);
    }
    for (; row < pass->rows; row++) {
        double_tile(pass, row, col, 1, vectors);
    }
}

/* Columns that fill no vector, in the tile's order of sums. */
static void double_rest(const s2_gemm_double *pass, size_t col) {
    for (size_t r = 0; r < pass->rows; r++) {
        for (size_t m = col; m < pass->cols; m++) {
            double sum = pass->c[r * pass->c_row + m];
            for (size_t k = 0; k < pass->depth; k++) {
                sum +=
                    pass->a[r * pass->a_row + k * pass->a_depth] * pass->b[k * pass->b_depth + m];
            }
            pass->c[r * pass->c_row + m] = sum;
        }
    }
}

static void double_straight(const s2_gemm_double *pass) {
    size_t col = 0;
    if (pass->rows == 1) { /* one row alone needs more columns to fill the registers */
        for (; col + DOUBLE_WIDE * VD_WIDTH <= pass->cols; col += DOUBLE_WIDE * VD_WIDTH) {
            double_tile(pass, 0, col, 1, DOUBLE_WIDE);
        }
    }
    for (; col + DOUBLE_VECTORS * VD_WIDTH <= pass->cols; col += DOUBLE_VECTORS * VD_WIDTH) {
        double_columns(pass, col, DOUBLE_VECTORS);
    }
    for (; col + VD_WIDTH <= pass->cols; col += VD_WIDTH) {
        double_columns(pass, col, 1);
    }
    double_rest(pass, col);
}

/* Where b is given by its columns, it is transposed panel by panel. */
static void vector_gemm_double(const s2_gemm_double *pass) {
    enum { DEPTH = 64, COLS = DOUBLE_VECTORS * VD_WIDTH };
    if (pass->b_col == 1) {
        double_straight(pass);
        return;
    }
    double panel[DEPTH * COLS];
    for (size_t col = 0; col < pass->cols; col += COLS) {
        const size_t cols = pass->cols - col < COLS ? pass->cols - col : COLS;
        for (size_t k = 0; k < pass->depth; k += DEPTH) {
            s2_gemm_double part = *pass;
            part.cols = (uint32_t)cols;
            part.depth = (uint32_t)(pass->depth - k < DEPTH ? pass->depth - k : DEPTH);
            const double *b = pass->b + col * pass->b_col + k * pass->b_depth;
            for (size_t m = 0; m < cols; m++) {
                for (size_t i = 0; i < part.depth; i++) {
                    panel[i * COLS + m] = b[m * pass->b_col + i * pass->b_depth];
                }
            }
            part.a += k * pass->a_depth;
            part.b = panel;
            part.b_depth = COLS;
            part.b_col = 1;
            part.c += col;
            double_straight(&part);
        }
    }
}
