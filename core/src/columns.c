/* columns.c - the columns of rows: their moments, standardising, the Gram matrix of the samples. */
#include "same_bits.h"

#include "arena.h"
#include "codes.h"

#include <string.h>

enum {
    ROWS_A_PASS = 16,    /* whose columns are summed before the sums are written back */
    PANEL_DEPTH = 256,   /* columns packed at once */
    WEIGHT_COLUMNS = 512 /* of W at once */
};

static size_t lesser(size_t a, size_t b) {
    return a < b ? a : b;
}

void s2_moments_add(const s2_kernels *kernels, s2_moments *moments, uint32_t count,
                    const float *rows, size_t row_stride, const float *weight) {
    if (!moments->has_rows &&
        count > 0) { /* near the mean: squares of large numbers would cancel */
        memcpy(moments->first, rows, moments->width * sizeof *rows);
        memset(moments->sum, 0, moments->width * sizeof *moments->sum);
        memset(moments->squares, 0, moments->width * sizeof *moments->squares);
        moments->has_rows = 1;
    }
    for (size_t r = 0; r < count; r += ROWS_A_PASS) {
        const s2_moments_pass pass = {.count = (uint32_t)lesser(count - r, ROWS_A_PASS),
                                      .rows = rows + r * row_stride,
                                      .row_stride = row_stride,
                                      .weight = weight ? weight + r : NULL};
        kernels->column_moments(moments, &pass);
    }
    for (size_t r = 0; r < count; r++) {
        moments->total += weight ? (double)weight[r] : 1.0;
    }
}

void s2_moments_finish(const s2_moments *moments, double *mean, double *var) {
    const double share = 1.0 / moments->total;
    for (size_t c = 0; c < moments->width; c++) {
        const double off = moments->sum[c] * share;
        const double spread = moments->squares[c] * share - off * off;
        mean[c] = (double)moments->first[c] + off;
        var[c] = spread < 0.0 ? 0.0 : spread; /* NaN stays NaN */
    }
}

void s2_scale_rows(const s2_kernels *kernels, uint32_t count, size_t row_stride, const float *mean,
                   const float *scale, float *rows) {
    for (size_t r = 0; r < count; r++) {
        float *row = rows + r * row_stride;
        kernels->scale_row(row_stride, row, mean, scale, row);
    }
}

s2_status s2_columns_check(const s2_columns *columns) {
    const size_t stop = s2_plus(columns->first, columns->width);
    const s2_coded *coded = columns->coded;
    if (columns->n_samples == 0 || columns->width == 0) {
        return S2_BAD_SHAPE;
    }
    if (coded == NULL) {
        return stop > columns->row_stride ? S2_BAD_SHAPE : S2_OK;
    }
    return columns->first % S2_LANES != 0 || stop > coded->n_columns ? S2_BAD_SHAPE
                                                                     : s2_coded_check(coded);
}

/* Standardised columns at.. of samples s.., (n_rows, n_cols). */
static void standardise(const s2_columns *columns, size_t s, size_t n_rows, size_t at,
                        size_t n_cols, float *out) {
    const size_t column = columns->first + at;
    if (columns->coded != NULL) {
        s2_decode_columns(columns->coded, column, n_cols, NULL, s, n_rows, out, n_cols);
        return;
    }
    for (size_t r = 0; r < n_rows; r++) {
        columns->kernels->scale_row(n_cols, columns->rows + (s + r) * columns->row_stride + column,
                                    columns->mean + column, columns->scale + column,
                                    out + r * n_cols);
    }
}

/* ---- Gram matrix ----------------------------------------------------------------------------- */

size_t s2_sample_lanes(uint32_t n_samples) {
    return s2_round_up(n_samples, S2_SAMPLE_LANES);
}

size_t s2_gram_floats(uint32_t n_samples) {
    return s2_times(s2_sample_lanes(n_samples), n_samples);
}

typedef struct {
    float *rows;   /* (S2_SAMPLE_LANES, PANEL_DEPTH), standardised */
    float *packed; /* (panels, PANEL_DEPTH, S2_SAMPLE_LANES) */
} gram_room;

static gram_room lay_out_gram(uint32_t n_samples, s2_arena *arena) {
    gram_room room;
    room.rows = s2_take_floats(arena, S2_SAMPLE_LANES, PANEL_DEPTH);
    room.packed = s2_take_floats(arena, s2_sample_lanes(n_samples), PANEL_DEPTH);
    return room;
}

size_t s2_gram_bytes(uint32_t n_samples) {
    s2_arena arena = {0};
    (void)lay_out_gram(n_samples, &arena);
    return arena.used;
}

/* Columns at.. of all samples, standardised, the samples of a panel side by side. */
static void pack_columns(const s2_columns *columns, size_t at, size_t depth,
                         const gram_room *room) {
    const size_t n_samples = columns->n_samples;
    float *packed = room->packed;
    for (size_t s = 0; s < n_samples; s += S2_SAMPLE_LANES) {
        const size_t count = lesser(n_samples - s, S2_SAMPLE_LANES);
        standardise(columns, s, count, at, depth, room->rows);
        /* s2_fits: no part is NULL. NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
        memset(room->rows + count * depth, 0,
               (S2_SAMPLE_LANES - count) * depth * sizeof *room->rows);
        columns->kernels->transpose(S2_SAMPLE_LANES, depth, room->rows, depth, packed,
                                    S2_SAMPLE_LANES);
        packed += (size_t)PANEL_DEPTH * S2_SAMPLE_LANES;
    }
}

/* The products of packed samples with those before them and with themselves. */
static void add_products(const s2_columns *columns, size_t depth, const float *packed,
                         float *gram) {
    const size_t n_samples = columns->n_samples;
    for (size_t col = 0; col < n_samples; col += S2_SAMPLE_LANES) {
        float *panel = gram + col * n_samples;
        for (size_t row = col; row < n_samples; row += S2_SAMPLE_LANES) {
            columns->kernels->gemm(
                &(s2_gemm){.rows = (uint32_t)lesser(n_samples - row, S2_SAMPLE_LANES),
                           .cols = S2_SAMPLE_LANES,
                           .depth = (uint32_t)depth,
                           .a = packed + row * PANEL_DEPTH,
                           .a_row = 1,
                           .a_depth = S2_SAMPLE_LANES,
                           .b = packed + col * PANEL_DEPTH,
                           .b_depth = S2_SAMPLE_LANES,
                           .b_col = 1,
                           .c = panel + row * S2_SAMPLE_LANES,
                           .c_row = S2_SAMPLE_LANES,
                           .add = 1});
        }
    }
}

s2_status s2_gram_add(const s2_columns *columns, float *gram, void *workspace,
                      size_t workspace_bytes) {
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    const gram_room room = lay_out_gram(columns->n_samples, &arena);
    const s2_status status = s2_columns_check(columns);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    for (size_t at = 0; status == S2_OK && at < columns->width; at += PANEL_DEPTH) {
        const size_t depth = lesser(columns->width - at, PANEL_DEPTH);
        pack_columns(columns, at, depth, &room);
        add_products(columns, depth, room.packed, gram);
    }
    return status;
}

double s2_gram_trace(uint32_t n_samples, const float *gram) {
    double sum = 0.0;
    for (size_t s = 0; s < n_samples; s++) {
        const size_t lane = s % S2_SAMPLE_LANES;
        sum += (double)gram[(s - lane) * n_samples + s * S2_SAMPLE_LANES + lane];
    }
    return sum;
}

void s2_gram_finish(const s2_kernels *kernels, uint32_t n_samples, float factor, float *gram) {
    const size_t n = n_samples, lanes = S2_SAMPLE_LANES;
    for (size_t col = 0; col < n; col += lanes) {
        for (size_t i = col * lanes; factor != 1.0f && i < n * lanes; i++) {
            gram[col * n + i] *= factor;
        }
        for (size_t row = col + lanes; row < n; row += lanes) {
            kernels->transpose(lesser(n - row, lanes), lanes, gram + col * n + row * lanes, lanes,
                               gram + row * n + col * lanes, lanes);
        }
    }
}

/* ---- weights of columns ---------------------------------------------------------------------- */

typedef struct {
    float *rows;    /* (S2_SAMPLE_LANES, WEIGHT_COLUMNS), standardised */
    float *weights; /* (n_outputs, WEIGHT_COLUMNS) */
} weights_room;

static weights_room lay_out_weights(uint32_t n_outputs, s2_arena *arena) {
    weights_room room;
    room.rows = s2_take_floats(arena, S2_SAMPLE_LANES, WEIGHT_COLUMNS);
    room.weights = s2_take_floats(arena, n_outputs, WEIGHT_COLUMNS);
    return room;
}

size_t s2_column_weights_bytes(uint32_t n_outputs) {
    s2_arena arena = {0};
    (void)lay_out_weights(n_outputs, &arena);
    return arena.used;
}

/* Columns at.. of Z^T A, transposed: (n_outputs, n_cols). */
static void sum_weights(const s2_columns *columns, uint32_t n_outputs, const float *coefficients,
                        size_t at, size_t n_cols, const weights_room *room) {
    const size_t n_samples = columns->n_samples;
    for (size_t s = 0; s < n_samples; s += S2_SAMPLE_LANES) {
        const size_t count = lesser(n_samples - s, S2_SAMPLE_LANES);
        standardise(columns, s, count, at, n_cols, room->rows);
        columns->kernels->gemm(&(s2_gemm){.rows = n_outputs,
                                          .cols = (uint32_t)n_cols,
                                          .depth = (uint32_t)count,
                                          .a = coefficients + s,
                                          .a_row = s2_sample_lanes(columns->n_samples),
                                          .a_depth = 1,
                                          .b = room->rows,
                                          .b_depth = n_cols,
                                          .b_col = 1,
                                          .c = room->weights,
                                          .c_row = n_cols,
                                          .add = s > 0});
    }
}

s2_status s2_column_weights(const s2_columns *columns, uint32_t n_outputs,
                            const float *coefficients, float *weights, void *workspace,
                            size_t workspace_bytes) {
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    const weights_room room = lay_out_weights(n_outputs, &arena);
    const s2_status status = n_outputs == 0 ? S2_BAD_SHAPE : s2_columns_check(columns);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    for (size_t at = 0; status == S2_OK && at < columns->width; at += WEIGHT_COLUMNS) {
        const size_t n_cols = lesser(columns->width - at, WEIGHT_COLUMNS);
        sum_weights(columns, n_outputs, coefficients, at, n_cols, &room);
        columns->kernels->transpose(n_outputs, n_cols, room.weights, n_cols,
                                    weights + at * n_outputs, n_outputs);
    }
    return status;
}
