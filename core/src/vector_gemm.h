/* vector_gemm.h - products in tiles of GEMM_ROWS x GEMM_VECTORS; included by kernels_vector.h. */

enum {
    PANEL_DEPTH = 128, /* of a transposed operand, packed: a few kilobytes on the stack */
    PANEL_COLS = GEMM_VECTORS * V_WIDTH
};

/* A tile of `rows` x `vectors`, the last vector `part` floats wide. */
INLINE void gemm_tile(const s2_gemm *pass, size_t row, size_t col, const size_t rows,
                      const size_t vectors, const size_t part) {
    V sum[GEMM_ROWS][GEMM_WIDE];
#define PART_OF(v) ((v) + 1 == vectors ? part : V_WIDTH)
    UNROLL for (size_t r = 0; r < rows; r++) {
        const float *start = pass->add ? pass->c + (row + r) * pass->c_row : pass->start;
        UNROLL for (size_t v = 0; v < vectors; v++) {
            sum[r][v] = start ? load_part(start + col + v * V_WIDTH, PART_OF(v)) : V_ZERO();
        }
    }
    const float *a = pass->a + row * pass->a_row;
    const float *b = pass->b + col;
    for (size_t k = 0; k < pass->depth; k++, a += pass->a_depth, b += pass->b_depth) {
        V column[GEMM_WIDE];
        UNROLL for (size_t v = 0; v < vectors; v++) {
            column[v] = load_part(b + v * V_WIDTH, PART_OF(v));
            V_KEEP(column[v]);
        }
        UNROLL for (size_t r = 0; r < rows; r++) {
            const V factor = V_SET(a[r * pass->a_row]);
            UNROLL for (size_t v = 0; v < vectors; v++) {
                sum[r][v] = V_FMA(factor, column[v], sum[r][v]);
            }
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++) {
        UNROLL for (size_t v = 0; v < vectors; v++) {
            float *c = pass->c + (row + r) * pass->c_row + col + v * V_WIDTH;
            store_part(c, PART_OF(v), sum[r][v]);
        }
    }
#undef PART_OF
}

/* All rows of `vectors` columns of vectors. */
INLINE void gemm_columns(const s2_gemm *pass, size_t col, const size_t vectors, const size_t part) {
    size_t row = 0;
    for (; row + GEMM_ROWS <= pass->rows; row += GEMM_ROWS) {
        gemm_tile(pass, row, col, GEMM_ROWS, vectors, part);
    }
    for (; row + 4 <= pass->rows; row += 4) {
        gemm_tile(pass, row, col, 4, vectors, part);
    }
    for (; row + 2 <= pass->rows; row += 2) {
        gemm_tile(pass, row, col, 2, vectors, part);
    }
    for (; row < pass->rows; row++) {
        gemm_tile(pass, row, col, 1, vectors, part);
    }
}

/* The columns outside, so that a panel of b stays in the first cache while the rows pass. */
static void gemm_straight(const s2_gemm *pass) {
    size_t col = 0;
    if (pass->rows == 1) { /* one row alone needs more columns to fill the registers */
        for (; col + GEMM_WIDE * V_WIDTH <= pass->cols; col += GEMM_WIDE * V_WIDTH) {
            gemm_tile(pass, 0, col, 1, GEMM_WIDE, V_WIDTH);
        }
    }
    for (; col + GEMM_VECTORS * V_WIDTH <= pass->cols; col += GEMM_VECTORS * V_WIDTH) {
        gemm_columns(pass, col, GEMM_VECTORS, V_WIDTH);
    }
    for (; col + V_WIDTH <= pass->cols; col += V_WIDTH) {
        gemm_columns(pass, col, 1, V_WIDTH);
    }
    if (col < pass->cols) {
        gemm_columns(pass, col, 1, pass->cols - col);
    }
}

/* The transpose of a (rows, cols) into out (cols, rows), both with strides. */
static void transpose(size_t rows, size_t cols, const float *a, size_t a_row, float *out,
                      size_t out_row) {
    size_t r = 0;
    for (; r + V_BLOCK <= rows; r += V_BLOCK) {
        size_t c = 0;
        for (; c + V_BLOCK <= cols; c += V_BLOCK) {
            V_TRANSPOSE(a + r * a_row + c, a_row, out + c * out_row + r, out_row);
        }
        for (; c < cols; c++) {
            for (size_t i = r; i < r + V_BLOCK; i++) {
                out[c * out_row + i] = a[i * a_row + c];
            }
        }
    }
    for (; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            out[c * out_row + r] = a[r * a_row + c];
        }
    }
}

/* b is given by its columns: panel by panel it is transposed, then multiplied straight. */
static void gemm_packed(const s2_gemm *pass) {
    float panel[PANEL_DEPTH * PANEL_COLS] __attribute__((aligned(S2_ALIGN)));
    for (size_t col = 0; col < pass->cols; col += PANEL_COLS) {
        const size_t cols = pass->cols - col < PANEL_COLS ? pass->cols - col : PANEL_COLS;
        for (size_t k = 0; k < pass->depth; k += PANEL_DEPTH) {
            const size_t depth = pass->depth - k < PANEL_DEPTH ? pass->depth - k : PANEL_DEPTH;
            transpose(cols, depth, pass->b + col * pass->b_col + k, pass->b_col, panel, PANEL_COLS);
            s2_gemm part = *pass;
            part.cols = (uint32_t)cols;
            part.depth = (uint32_t)depth;
            part.a += k * pass->a_depth;
            part.b = panel;
            part.b_depth = PANEL_COLS;
            part.b_col = 1;
            part.c += col;
            part.start = pass->start ? pass->start + col : NULL;
            part.add = pass->add || k > 0;
            gemm_straight(&part);
        }
    }
}

/* ---- few columns, given by their depth: sums along vectors of it ----------------------------- */

/* totals[r][s] = x[s] . b[r] over `width`; unused samples and ranks give 0. */
INLINE void dot_tile(const float *const *x, const float *b, size_t b_row, size_t width,
                     const size_t samples, const size_t ranks, float (*totals)[TAP_SAMPLES]) {
    V sum[TAP_RANKS][TAP_SAMPLES];
    UNROLL for (size_t r = 0; r < TAP_RANKS; r++) {
        UNROLL for (size_t s = 0; s < TAP_SAMPLES; s++) {
            sum[r][s] = V_ZERO();
        }
    }
#define DOT(load)                                                                                  \
    V tap[TAP_SAMPLES];                                                                            \
    UNROLL for (size_t s = 0; s < samples; s++) {                                                  \
        tap[s] = load(x[s] + i);                                                                   \
    }                                                                                              \
    UNROLL for (size_t r = 0; r < ranks; r++) {                                                    \
        const V column = load(b + r * b_row + i);                                                  \
        UNROLL for (size_t s = 0; s < samples; s++) {                                              \
            sum[r][s] = V_FMA(tap[s], column, sum[r][s]);                                          \
        }                                                                                          \
    }
    size_t i = 0;
    for (; i + V_WIDTH <= width; i += V_WIDTH) {
        DOT(V_LOAD)
    }
    if (i < width) {
#define LOAD_REST(p) V_LOAD_PART((p), width - i)
        DOT(LOAD_REST)
#undef LOAD_REST
    }
#undef DOT
    V_SUM_TILE(totals, sum);
}

INLINE void gemm_dot_tile(const s2_gemm *pass, size_t row, size_t col, const size_t rows,
                          const size_t cols) {
    const float *a[TAP_SAMPLES];
    float totals[TAP_RANKS][TAP_SAMPLES];
    UNROLL for (size_t r = 0; r < rows; r++) {
        a[r] = pass->a + (row + r) * pass->a_row;
    }
    dot_tile(a, pass->b + col * pass->b_col, pass->b_col, pass->depth, rows, cols, totals);
    UNROLL for (size_t r = 0; r < rows; r++) {
        float *c = pass->c + (row + r) * pass->c_row + col;
        UNROLL for (size_t m = 0; m < cols; m++) {
            const float start = pass->add ? c[m] : pass->start ? pass->start[col + m] : 0.0f;
            c[m] = start + totals[m][r];
        }
    }
}

INLINE void gemm_dot_columns(const s2_gemm *pass, size_t col, const size_t cols) {
    size_t row = 0;
    for (; row + TAP_SAMPLES <= pass->rows; row += TAP_SAMPLES) {
        gemm_dot_tile(pass, row, col, TAP_SAMPLES, cols);
    }
    for (; row + 2 <= pass->rows; row += 2) {
        gemm_dot_tile(pass, row, col, 2, cols);
    }
    for (; row < pass->rows; row++) {
        gemm_dot_tile(pass, row, col, 1, cols);
    }
}

/* Calls tile(.., first, size) for groups of four of `count`, the rest as one group. */
#define IN_FOURS(count, call)                                                                      \
    do {                                                                                           \
        size_t first = 0;                                                                          \
        for (; first + 4 <= (count); first += 4) {                                                 \
            call(4);                                                                               \
        }                                                                                          \
        switch ((count) - first) {                                                                 \
        case 3:                                                                                    \
            call(3);                                                                               \
            break;                                                                                 \
        case 2:                                                                                    \
            call(2);                                                                               \
            break;                                                                                 \
        case 1:                                                                                    \
            call(1);                                                                               \
            break;                                                                                 \
        default:                                                                                   \
            break;                                                                                 \
        }                                                                                          \
    } while (0)

static void gemm_dot(const s2_gemm *pass) {
#define COLUMNS(n) gemm_dot_columns(pass, first, n)
    IN_FOURS(pass->cols, COLUMNS);
#undef COLUMNS
}

static void vector_gemm(const s2_gemm *pass) {
    if (pass->b_col == 1) {
        gemm_straight(pass);
    } else if (pass->cols < V_WIDTH) {
        gemm_dot(pass);
    } else {
        gemm_packed(pass);
    }
}
