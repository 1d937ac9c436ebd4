/* plain_loops.h - loops without a sum along a vector: a compiler vectorises them as they stand. Included
 * by the file of each table, whose flags say how wide; the same bits in every table. */

enum { COLUMNS_AT_ONCE = 16 };

static inline __attribute__((always_inline)) void moments_of_columns(const s2_moments *moments,
                                                                     const s2_moments_pass *pass,
                                                                     size_t at, const size_t cols) {
    double first[COLUMNS_AT_ONCE], sum[COLUMNS_AT_ONCE], squares[COLUMNS_AT_ONCE];
    for (size_t c = 0; c < cols; c++) {
        first[c] = (double)moments->first[at + c];
        sum[c] = moments->sum[at + c];
        squares[c] = moments->squares[at + c];
    }
    for (size_t r = 0; r < pass->count; r++) {
        const float *x = pass->rows + r * pass->row_stride + at;
        const double weight = pass->weight ? (double)pass->weight[r] : 1.0;
        for (size_t c = 0; c < cols; c++) {
            const double off = (double)x[c] - first[c], share = weight * off;
            sum[c] += share;
            squares[c] += share * off;
        }
    }
    for (size_t c = 0; c < cols; c++) {
        moments->sum[at + c] = sum[c];
        moments->squares[at + c] = squares[c];
    }
}

static void scale_row(size_t width, const float *x, const float *mean, const float *scale,
                      float *y) {
    for (size_t c = 0; c < width; c++) {
        y[c] = (x[c] - mean[c]) * scale[c];
    }
}

static void move_along(size_t size, const float *x, float shift, float factor,
                       const float *direction, float *y) {
    for (size_t i = 0; i < size; i++) {
        y[i] = (x[i] + shift) + factor * direction[i];
    }
}

static void scaled(size_t size, float factor, const float *x, float *y) {
    for (size_t i = 0; i < size; i++) {
        y[i] = factor * x[i];
    }
}
