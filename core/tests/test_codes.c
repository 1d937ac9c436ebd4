/* test_codes.c - rows as float16, bfloat16, int8 and int4: what a code is, there and back, the same
 * bits in every kernel table. */
#include "guard.h"

#include "codes.h"
#include "skip2_primal.h"

enum { MOST_COLUMNS = 208, ROWS = 37, FLOATS_BEHIND = 3 };

static const s2_dtype dtypes[] = {S2_CODE_FLOAT16, S2_CODE_BFLOAT16, S2_CODE_INT8, S2_CODE_INT4};
static const char *const names[] = {"", "float16", "bfloat16", "int8", "int4"};

static float number_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* By the definition of IEEE 754, with ldexp. */
static double half_value(uint32_t half) {
    const int exponent = (int)(half >> 10 & 31u);
    const double part = (double)(half & 0x3ffu);
    const double size = exponent ? ldexp(part + 1024.0, exponent - 25) : ldexp(part, -24);
    return half & 0x8000u ? -size : size;
}

typedef struct {
    s2_coded coded;
    float *scale, *offset, *rows;
    size_t row_bytes, stride;
} problem;

/* Columns of different spans, the last tap's padding 0; ROWS rows and one more that nobody writes. */
static problem new_problem(const s2_kernels *kernels, s2_dtype dtype, uint32_t n_columns) {
    problem of = {.scale = guarded_floats(n_columns),
                  .offset = guarded_floats(n_columns),
                  .row_bytes = s2_coded_row_bytes(dtype, n_columns, FLOATS_BEHIND),
                  .stride = n_columns + S2_LANES};
    of.rows = guarded_floats(ROWS * of.stride);
    s2_rng rng;
    s2_rng_seed(&rng, 5, 3);
    fill_random(&rng, of.rows, ROWS * of.stride);
    for (uint32_t c = 0; c < n_columns; c++) {
        const float span = c % 7 == 3 ? 0.0f : ldexpf(1.0f, (int)(c % 11) - 5);
        float low = INFINITY, high = -INFINITY;
        for (size_t r = 0; r < ROWS; r++) {
            float *x = of.rows + r * of.stride + c;
            *x = *x * span + (c % 2 ? 0.25f : 0.0f);
            low = fminf(low, *x), high = fmaxf(high, *x);
        }
        of.scale[c] = s2_code_scale(dtype, high - low);
        of.offset[c] = dtype < S2_CODE_INT8 ? 0.0f : low;
    }
    of.coded = (s2_coded){.kernels = kernels,
                          .dtype = dtype,
                          .n_columns = n_columns,
                          .n_floats = FLOATS_BEHIND,
                          .rows = guarded(ROWS * of.row_bytes),
                          .scale = of.scale,
                          .offset = of.offset};
    CHECK_EQUAL(s2_coded_check(&of.coded), S2_OK);
    s2_coded_encode(&of.coded, 0, ROWS, of.rows, of.stride);
    return of;
}

/* Every float16 is its own number; encoded again it is the same code. */
static void test_every_half(const s2_kernels *kernels) {
    const float one[S2_LANES] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const float zero[S2_LANES] = {0};
    for (uint32_t half = 0; half < 0x10000u; half += S2_LANES) {
        uint8_t codes[2 * S2_LANES], again[2 * S2_LANES];
        const uint8_t *at = codes;
        float out[S2_LANES];
        if ((half & 0x7c00u) == 0x7c00u) {
            continue; /* infinite, or NaN: never written */
        }
        for (uint32_t i = 0; i < S2_LANES; i++) {
            codes[2 * i] = (uint8_t)(half + i);
            codes[2 * i + 1] = (uint8_t)((half + i) >> 8);
        }
        const s2_decode_pass pass = {.dtype = S2_CODE_FLOAT16,
                                     .count = 1,
                                     .width = S2_LANES,
                                     .codes = &at,
                                     .scale = one,
                                     .offset = zero,
                                     .out = out};
        kernels->decode(&pass);
        for (uint32_t i = 0; i < S2_LANES; i++) {
            CHECK((double)out[i] == half_value(half + i));
        }
        kernels->encode(S2_CODE_FLOAT16, S2_LANES, out, one, zero, again);
        if (half != 0x8000u) { /* -0 + 0 is 0 */
            CHECK_SAME(again, codes, sizeof codes);
        }
    }
}

/* A number takes the nearest float16 or bfloat16, one between two the even one. */
static void test_rounding(const s2_kernels *kernels) {
    static const struct {
        uint32_t bits, half, bfloat;
    } cases[] = {
        {0x3f800000u, 0x3c00u, 0x3f80u}, {0x3f801000u, 0x3c00u, 0x3f80u}, /* a tie, to even */
        {0x3f803000u, 0x3c02u, 0x3f80u}, {0x3f801001u, 0x3c01u, 0x3f80u}, /* a tie, just above */
        {0x3f808000u, 0x3c04u, 0x3f80u}, {0x3f818000u, 0x3c0cu, 0x3f82u}, /* ties of bfloat16 */
        {0x477fe000u, 0x7bffu, 0x4780u}, {0x7f7fffffu, 0x7bffu, 0x7f7fu}, /* the largest */
        {0xc77fffffu, 0xfbffu, 0xc780u}, {0x33800000u, 0x0001u, 0x3380u}, /* 2^-24 */
        {0x33000000u, 0x0000u, 0x3300u}, {0x33000001u, 0x0001u, 0x3300u}, /* half of it */
        {0x33c00000u, 0x0002u, 0x33c0u}, {0x387fffffu, 0x0400u, 0x3880u}, /* to 2^-14 */
        {0xb8000000u, 0x8200u, 0xb800u}, {0x00000000u, 0x0000u, 0x0000u},
    };
    enum { N = sizeof cases / sizeof cases[0] };
    float x[S2_LANES] = {0};
    uint8_t codes[2][2 * S2_LANES];
    for (size_t i = 0; i < N; i++) {
        x[i] = number_of(cases[i].bits);
    }
    kernels->encode(S2_CODE_FLOAT16, S2_LANES, x, x, x, codes[0]);
    kernels->encode(S2_CODE_BFLOAT16, S2_LANES, x, x, x, codes[1]);
    for (size_t i = 0; i < N; i++) {
        CHECK_EQUAL(codes[0][2 * i] | codes[0][2 * i + 1] << 8, cases[i].half);
        CHECK_EQUAL(codes[1][2 * i] | codes[1][2 * i + 1] << 8, cases[i].bfloat);
    }
}

/* A number comes back within half a step; a column that is the same everywhere comes back exactly;
 * the floats behind the columns have all their bits. */
static void test_there_and_back(const s2_kernels *kernels) {
    static const double relative[] = {0, 0x1p-11, 0x1p-8, 0, 0};
    for (size_t d = 0; d < 4; d++) {
        for (uint32_t n_columns = 0; n_columns <= MOST_COLUMNS; n_columns += S2_LANES) {
            check_where("%s, %s, %u columns", s2_kernels_name(kernels), names[dtypes[d]],
                        n_columns);
            const problem of = new_problem(kernels, dtypes[d], n_columns);
            float *out = guarded_floats(ROWS * of.stride);
            s2_coded_decode(&of.coded, NULL, 0, ROWS, out, of.stride);
            for (size_t r = 0; r < ROWS; r++) {
                const float *x = of.rows + r * of.stride, *y = out + r * of.stride;
                for (size_t c = 0; c < n_columns; c++) {
                    const double size = fabs((double)x[c]);
                    const double step = dtypes[d] < S2_CODE_INT8
                                            ? relative[dtypes[d]] * size + 0x1p-25
                                            : 0.501 * (double)of.scale[c];
                    CHECK_NEAR(y[c], x[c], step + 1e-7 * size);
                    CHECK(c % 7 != 3 || dtypes[d] < S2_CODE_INT8 || y[c] == x[c]);
                }
                CHECK_SAME(y + n_columns, x + n_columns, FLOATS_BEHIND * sizeof *x);
                CHECK(isnan(y[n_columns + FLOATS_BEHIND])); /* nobody wrote there */
            }
            release_guarded();
        }
    }
}

/* Any range of columns, of rows in any order, is what decoding all gives; beyond it nothing is
 * written. */
static void test_parts(const s2_kernels *kernels) {
    static const uint32_t place[] = {36, 0, 5, 5, 17, 1, 35, 20, 9};
    enum { COUNT = sizeof place / sizeof place[0], ROW = 250 };
    for (size_t d = 0; d < 4; d++) {
        const problem of = new_problem(kernels, dtypes[d], MOST_COLUMNS);
        float *all = guarded_floats(ROWS * of.stride);
        s2_coded_decode(&of.coded, NULL, 0, ROWS, all, of.stride);
        for (uint32_t first = 0; first < MOST_COLUMNS; first += S2_LANES) {
            for (uint32_t width = 1; first + width <= MOST_COLUMNS; width += 13) {
                check_where("%s, %s, columns %u to %u", s2_kernels_name(kernels), names[dtypes[d]],
                            first, first + width);
                float *out = guarded_floats(COUNT * width);
                s2_decode_columns(&of.coded, first, width, place, 1, COUNT - 1, out, width);
                for (size_t r = 0; r + 1 < COUNT; r++) {
                    CHECK_SAME(out + r * width, all + place[r + 1] * of.stride + first,
                               width * sizeof *out);
                }
                float *wide = aligned_floats(ROWS * ROW);
                s2_decode_columns(&of.coded, first, width, NULL, 2, ROWS - 2, wide, ROW);
                for (size_t r = 0; r + 2 < ROWS; r++) {
                    CHECK_SAME(wide + r * ROW, all + (r + 2) * of.stride + first,
                               width * sizeof *wide);
                    CHECK(isnan(wide[r * ROW + width]));
                }
                free(wide);
            }
        }
        release_guarded();
    }
}

/* Rows that are fetched early are not read. */
static void test_ahead(const s2_kernels *kernels) {
    for (size_t d = 0; d < 4; d++) {
        const problem of = new_problem(kernels, dtypes[d], MOST_COLUMNS);
        const uint8_t *row[ROWS];
        for (size_t r = 0; r < ROWS; r++) {
            row[r] = of.coded.rows + (ROWS - 1 - r) * of.row_bytes;
        }
        float *all = guarded_floats(ROWS * of.stride), *out = guarded_floats(ROWS * of.stride);
        s2_coded_decode(&of.coded, NULL, 0, ROWS, all, of.stride);
        s2_decode_rows(&of.coded, ROWS, row, row, ROWS - 3, out, of.stride);
        for (size_t r = 0; r < ROWS; r++) {
            CHECK_SAME(out + r * of.stride, all + (ROWS - 1 - r) * of.stride,
                       (MOST_COLUMNS + FLOATS_BEHIND) * sizeof *out);
        }
        release_guarded();
    }
}

/* The scalar table's codes, and its numbers. */
static void test_same_bits(const s2_kernels *kernels) {
    const s2_kernels *scalar = s2_kernels_choose("scalar");
    for (size_t d = 0; d < 4; d++) {
        check_where("%s, %s", s2_kernels_name(kernels), names[dtypes[d]]);
        const problem expected = new_problem(scalar, dtypes[d], MOST_COLUMNS);
        const problem of = new_problem(kernels, dtypes[d], MOST_COLUMNS);
        CHECK_SAME(of.coded.rows, expected.coded.rows, ROWS * of.row_bytes);
        float *one = guarded_floats(ROWS * of.stride), *other = guarded_floats(ROWS * of.stride);
        s2_coded_decode(&expected.coded, NULL, 0, ROWS, one, of.stride);
        s2_coded_decode(&of.coded, NULL, 0, ROWS, other, of.stride);
        CHECK_SAME(other, one, ROWS * of.stride * sizeof *one);
        release_guarded();
    }
}

enum { N_OUTPUTS = 2, LANES = 2 * S2_SAMPLE_LANES, N_TAPS = 2 };

/* What the exact solvers make of these columns: Gram matrix, weights, a fit in the columns. */
typedef struct {
    float gram[LANES * ROWS], weights[MOST_COLUMNS * N_OUTPUTS];
    float solved[N_TAPS * MOST_COLUMNS * N_OUTPUTS], bias[N_OUTPUTS];
} fits;

static void solve(const s2_columns *columns, const s2_objective *objective, uint32_t n_subset,
                  fits *got) {
    static const uint32_t subset[] = {1, 4, 9, 16, 25, 36};
    const s2_primal primal = {.objective = *objective, .n_taps = N_TAPS, .columns = columns};
    const uint32_t width = columns[0].width + columns[1].width;
    const uint32_t order = n_subset ? n_subset : width;
    s2_metric metric = {.n_subset = n_subset,
                        .subset = subset,
                        .gram = guarded_floats(s2_metric_floats(order)),
                        .factor = aligned_floats(s2_metric_factor_bytes(width, n_subset) / 4)};
    const size_t room = s2_primal_bytes(&primal, n_subset);
    void *workspace = guarded(room);
    const s2_primal_solution solution = {got->solved, guarded_floats(N_OUTPUTS * LANES), got->bias};
    memset(solution.products, 0, N_OUTPUTS * LANES * sizeof(float));
    s2_dual_report report;
    CHECK_EQUAL(s2_metric_gram(&primal, &metric, workspace, room), S2_OK);
    CHECK_EQUAL(s2_metric_factorize(&primal, &metric, 0.1, &solution, workspace, room), S2_OK);
    CHECK_EQUAL(s2_primal_solve(&primal, &metric, 0.1, 1e-5, &solution, &report, workspace, room),
                S2_OK);
    CHECK(report.converged && report.iterations > 0);
    free(metric.factor);
}

static void fit(const s2_columns *columns, uint32_t n_subset, fits *got) {
    memset(got, 0, sizeof *got);
    float *target = guarded_floats(N_OUTPUTS * LANES), *weight = guarded_floats(LANES);
    for (size_t s = 0; s < LANES; s++) {
        weight[s] = s < ROWS ? 1.0f / ROWS : 0.0f;
        target[s] = s % 3 ? 1.0f : 0.0f;
        target[LANES + s] = 1.0f - target[s];
    }
    const s2_objective objective = {columns->kernels, S2_SOFTMAX, N_OUTPUTS, LANES,
                                    target,           LANES,      weight};
    const size_t bytes = s2_gram_bytes(ROWS), more = s2_column_weights_bytes(N_OUTPUTS);
    CHECK_EQUAL(s2_gram_add(columns, got->gram, guarded(bytes), bytes), S2_OK);
    CHECK_EQUAL(s2_column_weights(columns, N_OUTPUTS, target, got->weights, guarded(more), more),
                S2_OK);
    solve(columns, &objective, n_subset, got);
}

/* The exact solvers do with codes what they do with the numbers these stand for, to the bit. */
static void test_exact_solvers(const s2_kernels *kernels) {
    static fits expected, got;
    const float zeros[MOST_COLUMNS + S2_LANES] = {0};
    float *one = guarded_floats(MOST_COLUMNS + S2_LANES);
    for (size_t c = 0; c < MOST_COLUMNS + S2_LANES; c++) {
        one[c] = 1.0f;
    }
    for (size_t d = 0; d < 4; d++) {
        for (uint32_t n_subset = 0; n_subset <= 6; n_subset += 6) {
            check_where("%s, %s, subset of %u", s2_kernels_name(kernels), names[dtypes[d]],
                        n_subset);
            const problem of = new_problem(kernels, dtypes[d], MOST_COLUMNS);
            float *rows = guarded_floats(ROWS * of.stride);
            s2_coded_decode(&of.coded, NULL, 0, ROWS, rows, of.stride);
            s2_columns columns[N_TAPS], coded[N_TAPS];
            for (size_t k = 0; k < N_TAPS; k++) { /* some columns and others behind them */
                columns[k] = (s2_columns){.kernels = kernels,
                                          .n_samples = ROWS,
                                          .first = k ? 96 : 0,
                                          .width = k ? 101 : 85,
                                          .rows = rows,
                                          .row_stride = of.stride,
                                          .mean = zeros,
                                          .scale = one};
                coded[k] = columns[k];
                coded[k].rows = coded[k].mean = coded[k].scale = NULL;
                coded[k].coded = &of.coded;
            }
            fit(columns, n_subset, &expected);
            fit(coded, n_subset, &got);
            CHECK_SAME(&got, &expected, sizeof got);
            coded[1].first = 104;
            CHECK_EQUAL(s2_columns_check(&coded[1]), S2_BAD_SHAPE);
            coded[1].first = 112;
            CHECK_EQUAL(s2_columns_check(&coded[1]), S2_BAD_SHAPE); /* ends beyond the last one */
            coded[1].width = 96;
            CHECK_EQUAL(s2_columns_check(&coded[1]), S2_OK);
        }
    }
}

static void test_scale(void) {
    s2_rng rng;
    s2_rng_seed(&rng, 4, 3);
    for (int i = 0; i < 2000; i++) {
        const float range = ldexpf(s2_rng_unit(&rng), (int)s2_rng_below(&rng, 200) - 100);
        for (s2_dtype dtype = S2_CODE_INT8; dtype <= S2_CODE_INT4; dtype++) {
            const float most = dtype == S2_CODE_INT8 ? 255.0f : 15.0f;
            const float scale = s2_code_scale(dtype, range);
            uint32_t bits;
            memcpy(&bits, &scale, sizeof bits);
            CHECK_EQUAL(bits & 0xffu, 0);
            CHECK_NEAR(scale, range / most, (double)range / (double)most * 0x1p-15);
            CHECK((double)scale * (double)most >= (double)range * (1.0 - 0x1p-23));
        }
    }
    CHECK(s2_code_scale(S2_CODE_INT8, 0.0f) == 0.0f);
    CHECK(s2_code_scale(S2_CODE_INT8, 1e-40f) == 0.0f);
    CHECK(isfinite(s2_code_scale(S2_CODE_INT4, 3.4e38f)));
    CHECK(s2_code_scale(S2_CODE_FLOAT16, 3.0f) == 1.0f);
    CHECK(s2_code_limit(S2_CODE_FLOAT16) == 65504.0f);
    CHECK((double)s2_code_limit(S2_CODE_BFLOAT16) == 255.0 * 0x1p120);
    CHECK(isinf(s2_code_limit(S2_CODE_INT8)) && isinf(s2_code_limit(S2_CODE_INT4)));
}

static void test_sizes(void) {
    CHECK_EQUAL(s2_coded_row_bytes(S2_CODE_FLOAT16, 192, 3), 400); /* 384 + 12, of 832 */
    CHECK_EQUAL(s2_coded_row_bytes(S2_CODE_BFLOAT16, 192, 3), 400);
    CHECK_EQUAL(s2_coded_row_bytes(S2_CODE_INT8, 192, 3), 208);
    CHECK_EQUAL(s2_coded_row_bytes(S2_CODE_INT4, 192, 3), 112);
    CHECK_EQUAL(s2_coded_row_bytes(S2_CODE_INT4, 0, 1), 8);
    CHECK_EQUAL(s2_coded_check(&(s2_coded){.dtype = S2_CODE_INT8, .n_columns = 8}), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_coded_check(&(s2_coded){.n_columns = 16}), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_coded_check(&(s2_coded){.dtype = (s2_dtype)5, .n_columns = 16}), S2_BAD_SHAPE);
}

int main(void) {
    test_scale();
    test_sizes();
    with_each_table(test_every_half);
    with_each_table(test_rounding);
    with_each_table(test_there_and_back);
    with_each_table(test_parts);
    with_each_table(test_ahead);
    with_each_table(test_same_bits);
    with_each_table(test_exact_solvers);
    return check_report("test_codes");
}
