/*
 * test_objective.c - the weighted loss of samples in lanes: against a plain double loop and finite
 * differences of it, with weights of zero, smoothed targets, logits far from zero; and the products
 * of exact solvers.
 */
#include "guard.h"

#include "kernels.h"

enum { LANES = 64, STRIDE = 96, MOST_OUTPUTS = 40 };

static const uint32_t outputs[] = {1, 2, 3, 5, 33, MOST_OUTPUTS};
static const char *const loss_names[] = {"softmax", "sigmoid", "squared"};

typedef struct {
    s2_objective objective;
    float *target, *weight, *logits;
} problem;

/* Targets of the loss: smoothed shares, 0 and 1 and between, numbers. A third of the weights is 0. */
static problem new_problem(const s2_kernels *kernels, s2_loss loss, uint32_t n_outputs,
                           float scale) {
    s2_rng rng;
    s2_rng_seed(&rng, n_outputs, 3);
    problem new = {.target = guarded_floats((size_t)(n_outputs - 1) * STRIDE + LANES),
                   .weight = guarded_floats(LANES),
                   .logits = random_floats(&rng, (size_t)n_outputs * LANES)};
    for (size_t s = 0; s < LANES; s++) {
        const uint32_t label = s2_rng_below(&rng, n_outputs);
        new.weight[s] = s % 3 == 1 ? 0.0f : (0.5f + s2_rng_unit(&rng)) / LANES;
        for (size_t o = 0; o < n_outputs; o++) {
            float *target = new.target + o * STRIDE + s;
            new.logits[o * LANES + s] *= scale;
            *target = loss == S2_SOFTMAX   ? 0.1f / (float)n_outputs + (o == label ? 0.9f : 0.0f)
                      : loss == S2_SIGMOID ? (s % 5 == 0 ? s2_rng_unit(&rng) : (float)(s & 1))
                                           : scale * random_unit(&rng);
        }
    }
    new.objective = (s2_objective){.kernels = kernels,
                                   .loss = loss,
                                   .n_outputs = n_outputs,
                                   .lanes = LANES,
                                   .target = new.target,
                                   .target_stride = STRIDE,
                                   .weight = new.weight};
    return new;
}

/* The loss of one sample, with `more` added to one of its logits. */
static double loss_of(const problem *of, size_t s, size_t changed, double more) {
    const s2_objective *objective = &of->objective;
    double z[MOST_OUTPUTS], best = -INFINITY, sum = 0.0, loss = 0.0;
    for (size_t o = 0; o < objective->n_outputs; o++) {
        z[o] = (double)of->logits[o * LANES + s] + (o == changed ? more : 0.0);
        best = fmax(best, z[o]);
    }
    for (size_t o = 0; o < objective->n_outputs; o++) {
        const double t = (double)of->target[o * STRIDE + s];
        sum += exp(z[o] - best);
        loss += objective->loss == S2_SOFTMAX   ? t * (best - z[o])
                : objective->loss == S2_SIGMOID ? fmax(z[o], 0) - z[o] * t + log1p(exp(-fabs(z[o])))
                                                : 0.5 * (z[o] - t) * (z[o] - t);
    }
    return objective->loss == S2_SOFTMAX ? loss + log(sum) : loss;
}

static void check_loss(const problem *of, double scale) {
    const s2_objective *objective = &of->objective;
    const size_t size = (size_t)objective->n_outputs * LANES;
    const double step = 1e-5 * scale;
    float *grad = guarded_floats(size), *again = guarded_floats(size);
    const double got = s2_objective_loss(objective, of->logits, grad);
    double expected = 0.0;
    for (size_t s = 0; s < LANES; s++) {
        const double weight = (double)of->weight[s];
        expected += weight * loss_of(of, s, 0, 0.0);
        for (size_t o = 0; o < objective->n_outputs; o++) {
            const double slope = (loss_of(of, s, o, step) - loss_of(of, s, o, -step)) / (2 * step);
            const double size_of_one = objective->loss == S2_SQUARED ? scale : 1.0;
            CHECK_NEAR(grad[o * LANES + s], weight * slope, 1e-6 * weight * size_of_one);
        }
    }
    CHECK_NEAR(got, expected, 1e-6 * (fabs(expected) + 1e-3));
    memcpy(again, of->logits, size * sizeof *again); /* in place, and the same bits */
    CHECK(s2_objective_loss(objective, again, again) == got);
    CHECK_SAME(again, grad, size * sizeof *grad);
}

static void test_losses(const s2_kernels *kernels) {
    static const float scales[] = {0.1f, 3.0f, 50.0f};
    for (size_t i = 0; i < 3 * sizeof outputs / sizeof outputs[0]; i++) {
        for (s2_loss loss = S2_SOFTMAX; loss <= S2_SQUARED; loss++) {
            const float scale = scales[i % 3];
            check_where("%s, %s, %u outputs, scale %g", s2_kernels_name(kernels), loss_names[loss],
                        outputs[i / 3], (double)scale);
            const problem of = new_problem(kernels, loss, outputs[i / 3], scale);
            CHECK_EQUAL(s2_objective_check(&of.objective), S2_OK);
            check_loss(&of, (double)scale);
            release_guarded();
        }
    }
}

/* Twice the weight is the sample twice; a sample of weight 0 changes nothing, whatever it is. */
static void check_weights(const s2_kernels *kernels, s2_loss loss, float logit, float target) {
    const problem of = new_problem(kernels, loss, 3, 1.0f);
    float *grad = guarded_floats(3 * LANES), *again = guarded_floats(3 * LANES);
    const double once = s2_objective_loss(&of.objective, of.logits, grad);
    for (size_t s = 1; s < LANES; s += 3) {
        for (size_t o = 0; o < 3; o++) {
            of.logits[o * LANES + s] = logit;
            of.target[o * STRIDE + s] = target;
            CHECK(grad[o * LANES + s] == 0.0f);
        }
    }
    CHECK_EQUAL(s2_objective_check(&of.objective), S2_OK);
    CHECK(s2_objective_loss(&of.objective, of.logits, again) == once);
    for (size_t i = 0; i < 3 * LANES; i++) {
        CHECK(again[i] == grad[i]); /* a zero may change its sign */
    }
    for (size_t s = 0; s < LANES; s++) {
        of.weight[s] *= 2.0f;
    }
    CHECK(s2_objective_loss(&of.objective, of.logits, again) == 2.0 * once);
    release_guarded();
}

static void test_weights(const s2_kernels *kernels) {
    for (s2_loss loss = S2_SOFTMAX; loss <= S2_SQUARED; loss++) {
        check_where("%s, %s", s2_kernels_name(kernels), loss_names[loss]);
        check_weights(kernels, loss, 1e30f, 7.0f);
        check_weights(kernels, loss, INFINITY, NAN);
    }
}

static void test_refusals(const s2_kernels *kernels) {
    for (s2_loss loss = S2_SOFTMAX; loss <= S2_SQUARED; loss++) {
        static const float bad_weights[] = {-1.0f, NAN, INFINITY};
        const problem of = new_problem(kernels, loss, 3, 1.0f);
        s2_objective bad = of.objective;
        check_where("%s, %s", s2_kernels_name(kernels), loss_names[loss]);
        bad.lanes = LANES - 16;
        CHECK_EQUAL(s2_objective_check(&bad), S2_BAD_SHAPE);
        bad.lanes = 0;
        CHECK_EQUAL(s2_objective_check(&bad), S2_BAD_SHAPE);
        bad = of.objective, bad.n_outputs = 0;
        CHECK_EQUAL(s2_objective_check(&bad), S2_BAD_SHAPE);
        bad = of.objective, bad.target_stride = LANES - 1;
        CHECK_EQUAL(s2_objective_check(&bad), S2_BAD_SHAPE);
        bad = of.objective, bad.loss = (s2_loss)3;
        CHECK_EQUAL(s2_objective_check(&bad), S2_BAD_VALUE);
        for (size_t i = 0; i < 3; i++) {
            const float before = of.weight[LANES - 1];
            of.weight[LANES - 1] = bad_weights[i];
            CHECK_EQUAL(s2_objective_check(&of.objective), S2_BAD_VALUE);
            of.weight[LANES - 1] = before;
        }
        const float target = of.target[STRIDE];
        of.target[STRIDE] = NAN;
        CHECK_EQUAL(s2_objective_check(&of.objective), S2_BAD_VALUE);
        of.target[STRIDE] = -0.1f;
        CHECK_EQUAL(s2_objective_check(&of.objective), loss == S2_SQUARED ? S2_OK : S2_BAD_VALUE);
        of.target[STRIDE] = target > 0.5f ? 0.0f : 1.0f; /* shares that do not sum to 1 */
        CHECK_EQUAL(s2_objective_check(&of.objective), loss == S2_SOFTMAX ? S2_BAD_VALUE : S2_OK);
        of.target[STRIDE] = target;
        memset(of.weight, 0, LANES * sizeof(float));
        CHECK_EQUAL(s2_objective_check(&of.objective), S2_BAD_VALUE);
        release_guarded();
    }
}

/* Of one vector with several, so many that some are left beside those that are taken together. */
static void test_products(const s2_kernels *kernels) {
    enum { MOST = 9 };
    static const size_t sizes[] = {1, 7, 16, 31, 64, 100, 1023, 1024, 2500};
    s2_rng rng;
    s2_rng_seed(&rng, 5, 3);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] * (MOST + 1); i++) {
        const size_t size = sizes[i / (MOST + 1)], count = i % (MOST + 1);
        const float *a = random_floats(&rng, size), *b[MOST], *factors = random_floats(&rng, MOST);
        float *sum = guarded_copy(a, size * sizeof *a);
        double *products = guarded(count * sizeof *products);
        for (size_t j = 0; j < count; j++) {
            b[j] = random_floats(&rng, size);
        }
        check_where("%s, %zu vectors of %zu", s2_kernels_name(kernels), count, size);
        kernels->combine(count, size, 0.5f, factors, b, sum);
        kernels->dots(count, size, a, b, products);
        for (size_t k = 0; k < size; k++) {
            double expected = 0.5 * (double)a[k];
            for (size_t j = 0; j < count; j++) {
                expected += (double)factors[j] * (double)b[j][k];
            }
            CHECK_NEAR(sum[k], expected, 1e-6);
        }
        for (size_t j = 0; j < count; j++) {
            double expected = 0.0;
            for (size_t k = 0; k < size; k++) {
                expected += (double)a[k] * (double)b[j][k];
            }
            CHECK_NEAR(products[j], expected, 1e-7 * sqrt((double)size));
        }
        release_guarded();
    }
}

int main(void) {
    with_each_table(test_losses);
    with_each_table(test_weights);
    with_each_table(test_refusals);
    with_each_table(test_products);
    return check_report("test_objective");
}
