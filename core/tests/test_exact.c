/*
 * test_exact.c - columns and the exact solver between guard pages: the Gram matrix, fits of every loss
 * where the gradient ends small, folds, refusals, sizes that a size_t cannot say.
 */
#include "guard.h"

#include "dual_fit.h"

enum { WIDTH = 21, FIRST = 3, STRIDE = 27 };

static const char *const loss_names[] = {"softmax", "sigmoid", "squared"};

typedef struct {
    s2_columns columns;
    s2_dual dual;
    s2_dual_solution solution;
    float *gram;
} problem;

static s2_columns new_columns(const s2_kernels *kernels, uint32_t n_samples, s2_rng *rng) {
    float *rows = random_floats(rng, (size_t)n_samples * STRIDE);
    double *mean = guarded(STRIDE * sizeof *mean), *var = guarded(STRIDE * sizeof *var);
    float *means = guarded_floats(STRIDE), *scales = guarded_floats(STRIDE);
    s2_moments moments = {.width = STRIDE,
                          .first = guarded_floats(STRIDE),
                          .sum = guarded(STRIDE * sizeof(double)),
                          .squares = guarded(STRIDE * sizeof(double))};
    for (uint32_t s = 0; s < n_samples; s += 7) {
        const uint32_t count = n_samples - s < 7 ? n_samples - s : 7;
        s2_moments_add(kernels, &moments, count, rows + (size_t)s * STRIDE, STRIDE, NULL);
    }
    s2_moments_finish(&moments, mean, var);
    for (size_t c = 0; c < STRIDE; c++) {
        means[c] = (float)mean[c];
        scales[c] = (float)(1.0 / sqrt(var[c] + 0.01));
    }
    return (s2_columns){.kernels = kernels,
                        .n_samples = n_samples,
                        .first = FIRST,
                        .width = WIDTH,
                        .rows = rows,
                        .row_stride = STRIDE,
                        .mean = means,
                        .scale = scales};
}

static float *new_gram(const s2_columns *columns) {
    const size_t bytes = s2_gram_bytes(columns->n_samples);
    const size_t floats = s2_gram_floats(columns->n_samples);
    float *gram = guarded_floats(floats);
    memset(gram, 0, floats * sizeof *gram);
    CHECK_EQUAL(s2_gram_add(columns, gram, guarded(bytes), bytes), S2_OK);
    const double trace = s2_gram_trace(columns->n_samples, gram);
    s2_gram_finish(columns->kernels, columns->n_samples,
                   trace > 0.0 ? (float)((double)columns->n_samples / trace) : 1.0f, gram);
    return gram;
}

/* What several problems hold out: the first one the samples that pass over the Gram matrix starts with,
 * the second one panels amid those of a pass, each other one some samples of every panel. */
static int is_held(uint32_t p, uint32_t s, uint32_t n_samples) {
    return p == 0   ? s < n_samples / 2
           : p == 1 ? s >= n_samples / 8 && s < n_samples / 4
                    : s % p == 1;
}

static problem new_problem(const s2_kernels *kernels, s2_loss loss, uint32_t n_samples,
                           uint32_t n_outputs, uint32_t n_problems) {
    s2_rng rng;
    s2_rng_seed(&rng, n_samples, 3);
    problem new = {.columns = new_columns(kernels, n_samples, &rng)};
    const size_t lanes = s2_sample_lanes(n_samples), size = n_outputs * lanes;
    float *target = guarded_floats(size), *weight = guarded_floats(n_problems * lanes);
    memset(target, 0, size * sizeof *target);
    memset(weight, 0, n_problems * lanes * sizeof *weight);
    for (uint32_t s = 0; s < n_samples; s++) {
        const uint32_t label = s2_rng_below(&rng, n_outputs);
        for (uint32_t o = 0; o < n_outputs; o++) {
            target[o * lanes + s] = loss == S2_SOFTMAX ? (float)(o == label) : s2_rng_unit(&rng);
        }
        for (uint32_t p = 0; p < n_problems; p++) {
            const int held = n_problems > 1 && is_held(p, s, n_samples);
            weight[p * lanes + s] = held ? 0.0f : 1.0f / (float)n_samples;
        }
    }
    new.gram = new_gram(&new.columns);
    new.dual = (s2_dual){.objective = {kernels, loss, n_outputs, lanes, target, lanes, weight},
                         .n_samples = n_samples,
                         .n_problems = n_problems,
                         .gram = new.gram,
                         .offset = random_floats(&rng, size)};
    new.solution = (s2_dual_solution){.coefficients = guarded_floats(n_problems * size),
                                      .products = guarded_floats(n_problems * size),
                                      .bias = guarded_floats(n_problems * n_outputs)};
    memset(new.solution.coefficients, 0, n_problems * size * sizeof(float));
    memset(new.solution.products, 0, n_problems * size * sizeof(float));
    memset(new.solution.bias, 0, n_problems * n_outputs * sizeof(float));
    CHECK_EQUAL(s2_dual_check(&new.dual), S2_OK);
    return new;
}

static double z_of(const s2_columns *columns, size_t s, size_t c) {
    const size_t at = columns->first + c;
    return (double)((columns->rows[s * STRIDE + at] - columns->mean[at]) * columns->scale[at]);
}

static void test_gram(const s2_kernels *kernels) {
    static const uint32_t counts[] = {1, 31, 32, 33, 70};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        const size_t n = counts[i];
        s2_rng rng;
        s2_rng_seed(&rng, 2, 3);
        const s2_columns columns = new_columns(kernels, counts[i], &rng);
        const float *gram = new_gram(&columns);
        double trace = 0.0;
        for (size_t s = 0; s < n; s++) {
            for (size_t c = 0; c < WIDTH; c++) {
                trace += z_of(&columns, s, c) * z_of(&columns, s, c);
            }
        }
        check_where("%s, %zu samples", s2_kernels_name(kernels), n);
        for (size_t j = 0; j < s2_sample_lanes(counts[i]); j++) {
            for (size_t s = 0; s < n; s++) {
                double expected = 0.0;
                for (size_t c = 0; j < n && c < WIDTH; c++) {
                    expected += z_of(&columns, s, c) * z_of(&columns, j, c);
                }
                expected *= trace > 0.0 ? (double)n / trace : 1.0;
                CHECK_NEAR(gram[(j / 32 * n + s) * 32 + j % 32], expected, 2e-6);
            }
        }
        release_guarded();
    }
}

/* Panels of every number of rows and an odd depth. */
static void test_panel(const s2_kernels *kernels) {
    enum { DEPTH = 37, A_ROW = 40, C_ROW = 35 };
    s2_rng rng;
    s2_rng_seed(&rng, 4, 3);
    for (uint32_t rows = 1; rows <= 14; rows++) {
        const float *a = random_floats(&rng, (rows - 1) * A_ROW + DEPTH);
        const float *b = random_floats(&rng, DEPTH * S2_SAMPLE_LANES);
        float *c = guarded_floats((rows - 1) * C_ROW + S2_SAMPLE_LANES);
        s2_gemm pass = {.rows = rows,
                        .cols = S2_SAMPLE_LANES,
                        .depth = DEPTH,
                        .a = a,
                        .a_row = A_ROW,
                        .a_depth = 1,
                        .b = b,
                        .b_depth = S2_SAMPLE_LANES,
                        .b_col = 1,
                        .c = c,
                        .c_row = C_ROW};
        for (int times = 1; times <= 2; times++) {
            kernels->panel(&pass);
            pass.add = 1;
            for (size_t at = 0; at < rows * S2_SAMPLE_LANES; at++) {
                const size_t r = at / S2_SAMPLE_LANES, m = at % S2_SAMPLE_LANES;
                double expected = 0.0;
                for (size_t k = 0; k < DEPTH; k++) {
                    expected += (double)a[r * A_ROW + k] * (double)b[k * S2_SAMPLE_LANES + m];
                }
                CHECK_NEAR(c[r * C_ROW + m], times * expected, 1e-5);
            }
        }
        CHECK(rows < 2 || isnan(c[S2_SAMPLE_LANES]));
        release_guarded();
    }
}

/* At the least objective R = weight (P - Y) + penalty A has no part that G sees, and the gradient by
 * the bias is 0. The products are G A, those of samples held out among them. */
static void check_least(const problem *of, double penalty, size_t p) {
    const size_t n = of->dual.n_samples, lanes = of->dual.objective.lanes;
    const size_t n_outputs = of->dual.objective.n_outputs, at = p * n_outputs * lanes;
    float *logits = aligned_floats(n_outputs * lanes);
    s2_objective objective = of->dual.objective;
    objective.weight += p * lanes;
    for (size_t i = 0; i < n_outputs * lanes; i++) {
        logits[i] = of->solution.products[at + i] + of->solution.bias[p * n_outputs + i / lanes] +
                    of->dual.offset[i];
    }
    (void)s2_objective_loss(&objective, logits, logits);
    for (size_t o = 0; o < n_outputs; o++) {
        double sum = 0.0;
        for (size_t s = 0; s < n; s++) {
            const float *a = of->solution.coefficients + at + o * lanes, *g = logits + o * lanes;
            double seen = 0.0, product = 0.0;
            sum += (double)g[s];
            for (size_t j = 0; j < n; j++) {
                const double by = (double)of->gram[(s / 32 * n + j) * 32 + s % 32];
                seen += by * ((double)g[j] + penalty * (double)a[j]);
                product += by * (double)a[j];
            }
            CHECK_NEAR(seen, 0.0, 5e-4);
            CHECK_NEAR(of->solution.products[at + o * lanes + s], product,
                       1e-5 * (1.0 + fabs(product)));
            CHECK(objective.weight[s] > 0.0f || a[s] == 0.0f);
        }
        CHECK_NEAR(sum, 0.0, 5e-4);
    }
    free(logits);
}

static void test_fits(const s2_kernels *kernels) {
    /* pairs that mislead end as well, much later: the most iterations seen are 28 */
    enum { MOST_ITERATIONS = 36 };
    static const uint32_t shapes[][3] = {{1, 2, 1},  {33, 1, 1}, {50, 3, 1},
                                         {70, 7, 3}, {64, 5, 2}, {600, 2, 3}};
    for (size_t i = 0; i < 3 * sizeof shapes / sizeof shapes[0]; i++) {
        const uint32_t *shape = shapes[i / 3];
        const s2_loss loss = (s2_loss)(i % 3);
        problem of = new_problem(kernels, loss, shape[0], shape[1], shape[2]);
        const size_t bytes = s2_dual_bytes(shape[0], shape[1], shape[2]);
        const size_t size = (size_t)shape[2] * shape[1] * s2_sample_lanes(shape[0]);
        void *workspace = guarded(bytes);
        s2_dual_report *report = guarded(shape[2] * sizeof *report);
        check_where("%s, %s, %u samples, %u outputs, %u problems", s2_kernels_name(kernels),
                    loss_names[loss], shape[0], shape[1], shape[2]);
        for (double penalty = 1.0; penalty > 5e-4; penalty *= 0.1) {
            CHECK_EQUAL(
                s2_dual_solve(&of.dual, penalty, 1e-6, &of.solution, report, workspace, bytes),
                S2_OK);
            for (size_t p = 0; p < shape[2]; p++) {
                CHECK(report[p].converged && report[p].iterations > 0);
                CHECK(report[p].iterations <= MOST_ITERATIONS);
                check_least(&of, penalty, p);
            }
        }
        problem again = new_problem(kernels, loss, shape[0], shape[1], shape[2]);
        for (double penalty = 1.0; penalty > 5e-4; penalty *= 0.1) {
            (void)s2_dual_solve(&again.dual, penalty, 1e-6, &again.solution, report, workspace,
                                bytes);
        }
        CHECK_SAME(again.solution.coefficients, of.solution.coefficients, size * sizeof(float));
        CHECK_SAME(again.solution.products, of.solution.products, size * sizeof(float));
        release_guarded();
    }
}

/* Folding keeps lengths where the outputs have nothing in common, and forgets what they have. */
static void test_folding(const s2_kernels *kernels) {
    enum { LANES = 37 };
    s2_rng rng;
    s2_rng_seed(&rng, 11, 3);
    CHECK_EQUAL(s2_folded_outputs(S2_SOFTMAX, 1), 1);
    CHECK_EQUAL(s2_folded_outputs(S2_SOFTMAX, 3), 2);
    CHECK_EQUAL(s2_folded_outputs(S2_SIGMOID, 3), 3);
    for (size_t n_outputs = 2; n_outputs < 12; n_outputs += 3) {
        const size_t size = n_outputs * LANES;
        const float *x = random_floats(&rng, size);
        float *rows = guarded_copy(x, size * sizeof *x);
        check_where("%s, %zu outputs", s2_kernels_name(kernels), n_outputs);
        s2_fold_outputs(kernels, n_outputs, LANES, rows);
        float *back = guarded_copy(rows, size * sizeof *rows);
        s2_unfold_outputs(kernels, n_outputs, LANES, back);
        for (size_t s = 0; s < LANES; s++) {
            double mean = 0.0, folded = 0.0, length = 0.0;
            for (size_t at = s; at < size; at += LANES) {
                mean += (double)x[at] / (double)n_outputs;
                folded += at < size - LANES ? (double)(rows[at] * rows[at]) : 0.0;
            }
            for (size_t at = s; at < size; at += LANES) {
                const double off = (double)x[at] - mean;
                CHECK_NEAR(back[at], off, 1e-6);
                length += off * off;
            }
            CHECK_NEAR(folded, length, 1e-5);
        }
    }
}

/* W = Z^T A, whose products with Z are those of the Gram matrix. */
static void test_weights(const s2_kernels *kernels) {
    enum { N = 45, OUTPUTS = 3 };
    s2_rng rng;
    s2_rng_seed(&rng, 6, 3);
    const s2_columns columns = new_columns(kernels, N, &rng);
    const size_t lanes = s2_sample_lanes(N), bytes = s2_column_weights_bytes(OUTPUTS);
    const float *a = random_floats(&rng, OUTPUTS * lanes);
    float *weights = guarded_floats(WIDTH * OUTPUTS);
    CHECK_EQUAL(s2_column_weights(&columns, OUTPUTS, a, weights, guarded(bytes), bytes), S2_OK);
    for (size_t c = 0; c < WIDTH; c++) {
        for (size_t o = 0; o < OUTPUTS; o++) {
            double expected = 0.0;
            for (size_t s = 0; s < N; s++) {
                expected += z_of(&columns, s, c) * (double)a[o * lanes + s];
            }
            CHECK_NEAR(weights[c * OUTPUTS + o], expected, 2e-5);
        }
    }
}

static void test_refusals(const s2_kernels *kernels) {
    problem of = new_problem(kernels, S2_SOFTMAX, 40, 3, 2);
    const size_t bytes = s2_dual_bytes(40, 3, 2), gram = s2_gram_bytes(40);
    const size_t weights = s2_column_weights_bytes(3);
    float *room = guarded(bytes);
    s2_dual_report report[2];
#define SOLVE(penalty, tolerance, size)                                                            \
    s2_dual_solve(&of.dual, (penalty), (tolerance), &of.solution, report, room, (size))
    CHECK_EQUAL(SOLVE(1.0, 1e-5, bytes / 2), S2_NO_ROOM);
    CHECK_EQUAL(SOLVE(-1.0, 1e-5, bytes), S2_BAD_VALUE);
    CHECK_EQUAL(SOLVE(NAN, 1e-5, bytes), S2_BAD_VALUE);
    CHECK_EQUAL(SOLVE(INFINITY, 1e-5, bytes), S2_BAD_VALUE);
    CHECK_EQUAL(SOLVE(1.0, -1e-5, bytes), S2_BAD_VALUE);
    CHECK_EQUAL(SOLVE(1.0, NAN, bytes), S2_BAD_VALUE);
    CHECK(isnan(room[0]));
    of.solution.bias[0] = INFINITY;
    CHECK_EQUAL(SOLVE(1.0, 1e-5, bytes), S2_NOT_FINITE);
#undef SOLVE
    CHECK_EQUAL(s2_gram_add(&of.columns, of.gram, room, gram - 1), S2_NO_ROOM);
    CHECK_EQUAL(s2_column_weights(&of.columns, 3, room, room, room, weights - 1), S2_NO_ROOM);
    s2_columns bad = of.columns;
    bad.width = STRIDE - FIRST + 1;
    CHECK_EQUAL(s2_columns_check(&bad), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_gram_add(&bad, of.gram, guarded(gram), gram), S2_BAD_SHAPE);
    bad.width = UINT32_MAX, bad.first = UINT32_MAX;
    CHECK_EQUAL(s2_columns_check(&bad), S2_BAD_SHAPE);
    bad = of.columns, bad.n_samples = 0;
    CHECK_EQUAL(s2_columns_check(&bad), S2_BAD_SHAPE);
    s2_dual dual = of.dual;
    dual.n_samples = 65;
    CHECK_EQUAL(s2_dual_check(&dual), S2_BAD_SHAPE);
    dual = of.dual, dual.n_problems = 0;
    CHECK_EQUAL(s2_dual_check(&dual), S2_BAD_SHAPE);
    float *weight = (float *)(uintptr_t)of.dual.objective.weight;
    weight[64 + 63] = 0.5f; /* of the second problem, where there is no sample */
    CHECK_EQUAL(s2_dual_check(&of.dual), S2_BAD_VALUE);
    weight[64 + 63] = 0.0f;
    CHECK_EQUAL(s2_dual_check(&of.dual), S2_OK);
}

/* No step is short enough for columns as long as this: that is not rounding. */
static void test_ends_far_away(const s2_kernels *kernels) {
    for (s2_loss loss = S2_SOFTMAX; loss <= S2_SQUARED; loss++) {
        problem of = new_problem(kernels, loss, 40, 3, 1);
        const size_t bytes = s2_dual_bytes(40, 3, 1);
        s2_dual_report report;
        check_where("%s, %s", s2_kernels_name(kernels), loss_names[loss]);
        s2_gram_finish(kernels, 40, 1e25f, of.gram);
        CHECK_EQUAL(
            s2_dual_solve(&of.dual, 1e-3, 1e-5, &of.solution, &report, guarded(bytes), bytes),
            S2_OK);
        CHECK(!report.converged);
        release_guarded();
    }
}

static void test_sizes(void) {
    const int wide = sizeof(size_t) > 4;
    CHECK((s2_gram_floats(1u << 31) == SIZE_MAX) == !wide);
    CHECK(s2_gram_floats(UINT32_MAX) == (wide ? ((size_t)UINT32_MAX + 1u) * UINT32_MAX : SIZE_MAX));
    CHECK((s2_gram_bytes(UINT32_MAX - 64) == SIZE_MAX) == !wide);
    CHECK(s2_dual_bytes(UINT32_MAX, UINT32_MAX, 1) == SIZE_MAX);
    CHECK(s2_dual_bytes(UINT32_MAX, 2, UINT32_MAX) == SIZE_MAX);
    CHECK((s2_dual_bytes(1u << 20, 1000, 1) == SIZE_MAX) == !wide);
    CHECK((s2_column_weights_bytes(UINT32_MAX) == SIZE_MAX) == !wide);
    float *small = guarded_floats(16);
    const s2_kernels *kernels = s2_kernels_choose("scalar");
    const s2_dual dual = {.objective = {kernels, S2_SIGMOID, UINT32_MAX, 32, small, 32, small},
                          .n_samples = UINT32_MAX,
                          .n_problems = UINT32_MAX};
    const s2_dual_solution nothing = {small, small, small};
    CHECK_EQUAL(s2_dual_solve(&dual, 1.0, 1e-5, &nothing, NULL, small, SIZE_MAX), S2_NO_ROOM);
    CHECK(isnan(small[0]));
    release_guarded();
}

int main(void) {
    with_each_table(test_gram);
    with_each_table(test_panel);
    with_each_table(test_fits);
    with_each_table(test_folding);
    with_each_table(test_weights);
    with_each_table(test_refusals);
    with_each_table(test_ends_far_away);
    test_sizes();
    return check_report("test_exact");
}
