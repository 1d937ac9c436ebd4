/* test_primal.c - the solver in the columns: where it ends its gradient is zero; refusals, sizes. */
#include "guard.h"

#include "arena.h"
#include "skip2_primal.h"

enum { N = 77, LANES = 96, TAPS = 2, OUTPUTS = 3, STRIDE = 48, SUBSET = 40 };

static const uint32_t first[TAPS] = {20, 1}, widths[TAPS] = {21, 16};
enum { WIDTH = 37 };

/* Rows whose columns between the taps nobody may read. */
typedef struct {
    s2_primal primal;
    s2_columns columns[TAPS];
    s2_primal_solution solution;
    s2_metric metric;
    uint32_t subset[SUBSET];
    void *room;
    size_t size;
} problem;

static float *new_rows(s2_rng *rng) {
    float *rows = guarded_floats(N * STRIDE); /* NaN where nothing is written */
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < TAPS; k++) {
            fill_random(rng, rows + i * STRIDE + first[k], widths[k]);
        }
    }
    return rows;
}

/* Samples 5..14 are left out. */
static void new_objective(s2_objective *of, const s2_kernels *kernels, s2_loss loss, s2_rng *rng) {
    float *target = guarded_floats(OUTPUTS * LANES), *weight = guarded_floats(LANES);
    *of = (s2_objective){kernels, loss, OUTPUTS, LANES, target, LANES, weight};
    for (uint32_t i = 0; i < LANES; i++) {
        weight[i] = i < N && (i < 5 || i > 14) ? (1.5f + 0.5f * random_unit(rng)) / 100 : 0;
        for (uint32_t o = 0; o < OUTPUTS; o++) {
            target[o * LANES + i] = loss == S2_SQUARED ? random_unit(rng) : o == i % 2;
        }
    }
}

static problem *new_problem(const s2_kernels *kernels, s2_loss loss, uint32_t n_subset) {
    static problem made;
    s2_rng rng;
    s2_rng_seed(&rng, 41, 3);
    memset(&made, 0, sizeof made);
    const float *rows = new_rows(&rng), *mean = random_floats(&rng, STRIDE);
    float *scale = guarded_floats(STRIDE);
    for (uint32_t c = 0; c < STRIDE; c++) {
        scale[c] = 0.3f;
    }
    for (uint32_t k = 0; k < TAPS; k++) {
        made.columns[k] =
            (s2_columns){kernels, N, first[k], widths[k], rows, STRIDE, mean, scale, NULL};
    }
    made.primal = (s2_primal){.n_taps = TAPS, .columns = made.columns};
    new_objective(&made.primal.objective, kernels, loss, &rng);
    made.primal.offset = random_floats(&rng, OUTPUTS * LANES);
    float *const weights = guarded_floats(OUTPUTS * WIDTH), *bias = guarded_floats(OUTPUTS);
    float *products = guarded_floats(OUTPUTS * LANES);
    memset(weights, 0, OUTPUTS * WIDTH * sizeof *weights);
    memset(products, 0, OUTPUTS * LANES * sizeof *products);
    memset(bias, 0, OUTPUTS * sizeof *bias);
    made.solution = (s2_primal_solution){weights, products, bias};
    for (uint32_t i = 0; i < SUBSET; i++) {
        made.subset[i] = (i * 7) % N;
    }
    const size_t floats = s2_metric_floats(n_subset ? n_subset : WIDTH);
    made.metric = (s2_metric){.n_subset = n_subset,
                              .subset = made.subset,
                              .gram = guarded_floats(floats),
                              .factor = guarded(s2_metric_factor_bytes(WIDTH, n_subset))};
    made.size = s2_primal_bytes(&made.primal, n_subset);
    made.room = guarded(made.size);
    return &made;
}

static s2_dual_report solve(problem *of, double penalty, double tolerance) {
    s2_dual_report report = {0};
    CHECK_EQUAL(
        s2_metric_factorize(&of->primal, &of->metric, penalty, &of->solution, of->room, of->size),
        S2_OK);
    CHECK_EQUAL(s2_primal_solve(&of->primal, &of->metric, penalty, tolerance, &of->solution,
                                &report, of->room, of->size),
                S2_OK);
    CHECK(report.converged && report.iterations < 100); /* 77 at most where pairs are right */
    return report;
}

static double column(const s2_primal *primal, uint32_t sample, uint32_t tap, uint32_t c) {
    const s2_columns *of = &primal->columns[tap];
    const uint32_t at = of->first + c;
    return ((double)of->rows[sample * STRIDE + at] - (double)of->mean[at]) * (double)of->scale[at];
}

/* Softmax, sigmoid or the numbers themselves, in place. */
static void predict(s2_loss loss, double *logits) {
    double sum = 0.0;
    for (uint32_t o = 0; o < OUTPUTS; o++) {
        sum += exp(logits[o]);
    }
    for (uint32_t o = 0; o < OUTPUTS; o++) {
        logits[o] = loss == S2_SOFTMAX   ? exp(logits[o]) / sum
                    : loss == S2_SIGMOID ? 1.0 / (1.0 + exp(-logits[o]))
                                         : logits[o];
    }
}

/* The gradient in double, by its definition. The products of all samples are checked as well. */
static void check_gradient(const problem *of, double penalty) {
    const s2_primal *primal = &of->primal;
    static double grad[OUTPUTS][WIDTH];
    double sums[OUTPUTS] = {0}, worst = 0.0, z[WIDTH];
    for (uint32_t i = 0; i < OUTPUTS * WIDTH; i++) {
        grad[i / WIDTH][i % WIDTH] = penalty * (double)of->solution.weights[i];
    }
    for (uint32_t i = 0; i < N; i++) {
        double outputs[OUTPUTS];
        for (uint32_t c = 0; c < WIDTH; c++) {
            z[c] = c < widths[0] ? column(primal, i, 0, c) : column(primal, i, 1, c - widths[0]);
        }
        for (uint32_t o = 0; o < OUTPUTS; o++) {
            double product = 0.0;
            for (uint32_t c = 0; c < WIDTH; c++) {
                product += z[c] * (double)of->solution.weights[o * WIDTH + c];
            }
            CHECK_NEAR(of->solution.products[o * LANES + i], product, 1e-4);
            outputs[o] =
                product + (double)of->solution.bias[o] + (double)primal->offset[o * LANES + i];
        }
        predict(primal->objective.loss, outputs);
        for (uint32_t o = 0; o < OUTPUTS; o++) {
            const double off = (double)primal->objective.weight[i] *
                               (outputs[o] - (double)primal->objective.target[o * LANES + i]);
            sums[o] += off;
            for (uint32_t c = 0; c < WIDTH; c++) {
                grad[o][c] += off * z[c];
            }
        }
    }
    for (uint32_t i = 0; i < OUTPUTS * WIDTH; i++) {
        worst = fmax(worst, fmax(fabs(grad[i / WIDTH][i % WIDTH]), fabs(sums[i / WIDTH])));
    }
    CHECK_NEAR(worst, 0, of->metric.n_subset ? 5e-4 : 1e-4);
}

static void test_losses(const s2_kernels *kernels) {
    static const double penalties[] = {1.0, 1e-2, 1e-4};
    for (s2_loss loss = S2_SOFTMAX; loss <= S2_SQUARED; loss++) {
        for (uint32_t n_subset = 0; n_subset <= SUBSET; n_subset += SUBSET) {
            float first_weights[OUTPUTS * WIDTH];
            for (int again = 0; again < 2; again++) {
                check_where("%s, loss %d, subset %u", s2_kernels_name(kernels), (int)loss,
                            n_subset);
                problem *of = new_problem(kernels, loss, n_subset);
                CHECK_EQUAL(s2_metric_gram(&of->primal, &of->metric, of->room, of->size), S2_OK);
                for (int i = 0; i < 3; i++) {
                    solve(of, penalties[i], n_subset ? 1e-7 : 1e-9);
                    check_gradient(of, penalties[i]);
                }
                if (again) {
                    CHECK_SAME(of->solution.weights, first_weights, sizeof first_weights);
                }
                memcpy(first_weights, of->solution.weights, sizeof first_weights);
                release_guarded();
            }
        }
    }
}

static void test_refusals(const s2_kernels *kernels) {
    problem *of = new_problem(kernels, S2_SOFTMAX, SUBSET);
    s2_dual_report report;
    const s2_primal sound = of->primal;
    CHECK_EQUAL(s2_metric_gram(&of->primal, &of->metric, of->room, 64), S2_NO_ROOM);
    CHECK_EQUAL(s2_metric_gram(&of->primal, &of->metric, NULL, of->size), S2_NO_ROOM);
    CHECK(isnan(of->metric.gram[0]));
    of->subset[3] = N;
    CHECK_EQUAL(s2_metric_gram(&of->primal, &of->metric, of->room, of->size), S2_BAD_VALUE);
    of->subset[3] = 2;
    CHECK_EQUAL(s2_metric_gram(&of->primal, &of->metric, of->room, of->size), S2_OK);
    static const double bad[] = {-1.0, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(s2_metric_factorize(&of->primal, &of->metric, bad[i], &of->solution, of->room,
                                        of->size),
                    S2_BAD_VALUE);
        CHECK_EQUAL(s2_primal_solve(&of->primal, &of->metric, bad[i], 1e-5, &of->solution, &report,
                                    of->room, of->size),
                    S2_BAD_VALUE);
        CHECK_EQUAL(s2_primal_solve(&of->primal, &of->metric, 1.0, bad[i], &of->solution, &report,
                                    of->room, of->size),
                    S2_BAD_VALUE);
    }
    CHECK_EQUAL(s2_primal_solve(&of->primal, &of->metric, 1.0, 1e-5, &of->solution, &report,
                                of->room, of->size - 1),
                S2_NO_ROOM);
    CHECK_EQUAL(s2_primal_solve(&of->primal, &of->metric, 1.0, 1e-5, &of->solution, &report, NULL,
                                of->size),
                S2_NO_ROOM);
    of->primal.n_taps = 0;
    CHECK_EQUAL(s2_primal_check(&of->primal), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_metric_gram(&of->primal, &of->metric, of->room, of->size), S2_BAD_SHAPE);
    of->primal = sound;
    of->columns[1].n_samples = N - 1;
    CHECK_EQUAL(s2_primal_check(&of->primal), S2_BAD_SHAPE);
    of->columns[1].n_samples = N;
    of->primal.objective.lanes = LANES + 32;
    CHECK_EQUAL(s2_primal_check(&of->primal), S2_BAD_SHAPE);
    of->primal = sound;
    float *weight = (float *)(uintptr_t)of->primal.objective.weight;
    weight[LANES - 1] = 0.5f; /* where there is no sample */
    CHECK_EQUAL(s2_primal_check(&of->primal), S2_BAD_VALUE);
    weight[LANES - 1] = 0.0f;
    CHECK_EQUAL(s2_primal_check(&of->primal), S2_OK);
    of->solution.weights[0] = NAN;
    CHECK_EQUAL(s2_primal_solve(&of->primal, &of->metric, 1.0, 1e-5, &of->solution, &report,
                                of->room, of->size),
                S2_NOT_FINITE);
}

/* What a size_t cannot say has no room. */
static void test_sizes(const s2_kernels *kernels) {
    problem *of = new_problem(kernels, S2_SOFTMAX, 0);
    s2_dual_report report;
    of->columns[0].width = of->columns[1].width = UINT32_MAX;
    const size_t wide = s2_primal_bytes(&of->primal, 0);
    CHECK(sizeof(size_t) > 4 ? wide / 100 > UINT32_MAX : wide == SIZE_MAX);
    CHECK_EQUAL(s2_primal_solve(&of->primal, &of->metric, 1.0, 1e-5, &of->solution, &report,
                                of->room, wide == SIZE_MAX ? SIZE_MAX : of->size),
                S2_NO_ROOM);
    CHECK_EQUAL(s2_metric_factorize(&of->primal, &of->metric, 1.0, &of->solution, of->room,
                                    wide == SIZE_MAX ? SIZE_MAX : of->size),
                S2_NO_ROOM);
    of->primal.objective.n_outputs = UINT32_MAX;
    CHECK(s2_primal_bytes(&of->primal, UINT32_MAX) == SIZE_MAX);
    const size_t floats = s2_metric_floats(S2_MAX_WIDTH);
    CHECK(sizeof(size_t) > 4 ? floats == (size_t)((uint64_t)1 << 48) : floats == SIZE_MAX);
    for (s2_solver solver = S2_SOLVE_DUAL; solver <= S2_SOLVE_SUBSET; solver++) {
        CHECK(s2_solver_bytes(solver, UINT32_MAX, UINT32_MAX, UINT32_MAX) == SIZE_MAX);
    }
    CHECK_EQUAL(s2_exact_choose(UINT32_MAX, UINT32_MAX, UINT32_MAX, SIZE_MAX), S2_SOLVE_NONE);
    CHECK_EQUAL(s2_exact_choose(300, 34480, 10, 10u << 20), S2_SOLVE_DUAL);
    CHECK_EQUAL(s2_exact_choose(20000, 448, 3, 64u << 20), S2_SOLVE_PRIMAL);
    CHECK_EQUAL(s2_exact_choose(20000, 30000, 3, 512u << 20), S2_SOLVE_SUBSET);
    CHECK_EQUAL(s2_exact_choose(300, 34480, 10, 1u << 10), S2_SOLVE_NONE);
}

int main(void) {
    with_each_table(test_losses);
    with_each_table(test_refusals);
    with_each_table(test_sizes);
    return check_report("test_primal");
}
