/*
 * test_descent.c - the direction of L-BFGS by numbers is that of its two loops over arrays, in the
 * metric of a matrix and without one, as pairs come, wrap around and are dropped.
 */
#include "guard.h"

#include "descent.h"

enum { SIZE = 21, OUTPUTS = 2, STEPS = 20, ALL = SIZE + OUTPUTS };

/* The unknowns are SIZE floats and a bias of OUTPUTS, whose part of the metric is the identity. */
typedef struct {
    double metric[ALL][ALL], hessian[ALL][ALL];
} space;

typedef struct {
    double step[ALL], change[ALL];
} pair;

static void multiply(double (*matrix)[ALL], const double *x, double *product) {
    for (size_t i = 0; i < ALL; i++) {
        product[i] = 0.0;
        for (size_t j = 0; j < ALL; j++) {
            product[i] += matrix[i][j] * x[j];
        }
    }
}

static double inner(space *of, const double *a, const double *b) {
    double image[ALL], sum = 0.0;
    multiply(of->metric, b, image);
    for (size_t i = 0; i < ALL; i++) {
        sum += a[i] * image[i];
    }
    return sum;
}

/* x = B B^T / ALL + 1 where both are unknowns of the same kind, else 0. */
static void fill_definite(s2_rng *rng, double (*x)[ALL], int is_metric) {
    double b[ALL][ALL];
    for (size_t i = 0; i < ALL * ALL; i++) {
        b[i / ALL][i % ALL] = (double)random_unit(rng);
    }
    for (size_t i = 0; i < ALL; i++) {
        for (size_t j = 0; j < ALL; j++) {
            const int apart = is_metric && (i >= SIZE || j >= SIZE);
            x[i][j] = i == j ? 1.0 : 0.0;
            for (size_t k = 0; !apart && k < ALL; k++) {
                x[i][j] += b[i][k] * b[j][k] / ALL;
            }
        }
    }
}

/* The two loops, as they stand in books. */
static void expect(space *of, const pair *pairs, size_t count, double guess, double bias_guess,
                   double *x) {
    double share[STEPS];
    for (size_t j = count; j-- > 0;) {
        share[j] = inner(of, x, pairs[j].step) / inner(of, pairs[j].change, pairs[j].step);
        for (size_t i = 0; i < ALL; i++) {
            x[i] -= share[j] * pairs[j].change[i];
        }
    }
    for (size_t i = 0; i < ALL; i++) {
        x[i] *= i < SIZE ? guess : bias_guess;
    }
    for (size_t j = 0; j < count; j++) {
        const double less =
            inner(of, x, pairs[j].change) / inner(of, pairs[j].change, pairs[j].step);
        for (size_t i = 0; i < ALL; i++) {
            x[i] += (share[j] - less) * pairs[j].step[i];
        }
    }
}

static void split(const double *x, float *array, double *bias) {
    for (size_t i = 0; i < ALL; i++) {
        if (i < SIZE) {
            array[i] = (float)x[i];
        } else {
            bias[i - SIZE] = x[i];
        }
    }
}

static void join(const float *array, const double *bias, double *x) {
    for (size_t i = 0; i < ALL; i++) {
        x[i] = i < SIZE ? (double)array[i] : bias[i - SIZE];
    }
}

static void image_of(space *of, const float *array, float *image) {
    double x[ALL], product[ALL];
    join(array, (const double[OUTPUTS]){0}, x);
    multiply(of->metric, x, product);
    for (size_t i = 0; i < SIZE; i++) {
        image[i] = (float)product[i];
    }
}

typedef struct {
    s2_pairs pairs;
    pair known[STEPS];
    size_t first, n_known; /* the pairs that count */
    double gradient[ALL];
    float array[SIZE], image[SIZE];
    double bias[OUTPUTS];
} descent;

/* The direction, and what it should be. */
static void check_direction(space *of, descent *by, int has_images) {
    const double guess = 0.7, bias_guess = 0.9;
    double expected[ALL], got[ALL];
    memcpy(expected, by->gradient, sizeof expected);
    expect(of, by->known + by->first, by->n_known - by->first, guess, bias_guess, expected);
    split(by->gradient, by->array, by->bias);
    s2_pairs_begin(&by->pairs, guess, bias_guess, by->array, by->bias);
    image_of(of, by->array, by->image);
    s2_pairs_end(&by->pairs, by->array, has_images ? by->image : by->array, by->bias);
    join(by->array, by->bias, got);
    for (size_t i = 0; i < ALL; i++) {
        CHECK_NEAR(got[i], expected[i], 2e-4 * (1.0 + fabs(expected[i])));
    }
    float image[SIZE];
    image_of(of, by->array, image);
    for (size_t i = 0; has_images && i < SIZE; i++) {
        CHECK_NEAR(by->image[i], image[i], 1e-4 * (1.0 + fabs((double)image[i])));
    }
}

/* Moves by -t times the direction: the gradient changes by the Hessian times that, which is another one
 * at each step. */
static void move(space *of, descent *by, double t, int has_images) {
    pair *new = &by->known[by->n_known++];
    join(by->array, by->bias, new->step);
    for (size_t i = 0; i < ALL; i++) {
        new->step[i] *= -t;
    }
    multiply(of->hessian, new->step, new->change);
    for (size_t i = 0; i < ALL; i++) {
        new->change[i] *= 1.0 + 0.1 * (double)(by->n_known % 4);
    }
    const size_t at = s2_pairs_add(&by->pairs, inner(of, new->change, new->step));
    split(new->step, by->pairs.step[at], by->pairs.bias_step[at]);
    if (has_images) {
        image_of(of, by->pairs.step[at], by->pairs.image[at]);
    }
    split(new->change, by->pairs.change[at], by->pairs.bias_change[at]);
    for (size_t i = 0; i < ALL; i++) {
        by->gradient[i] += new->change[i];
    }
    by->first += by->n_known - by->first > S2_PAIRS;
}

/* In the metric G the Hessian is H = C G: symmetric there for a symmetric C. */
static void fill_space(s2_rng *rng, space *of, int has_metric) {
    double curvature[ALL][ALL];
    memset(of, 0, sizeof *of);
    fill_definite(rng, curvature, 0);
    fill_definite(rng, of->metric, 1);
    for (size_t i = 0; i < ALL; i++) {
        for (size_t j = 0; j < ALL; j++) {
            of->metric[i][j] = has_metric ? of->metric[i][j] : i == j ? 1.0 : 0.0;
        }
    }
    for (size_t i = 0; i < ALL; i++) {
        for (size_t j = 0; j < ALL; j++) {
            for (size_t k = 0; k < ALL; k++) {
                of->hessian[i][j] += curvature[i][k] * of->metric[k][j];
            }
        }
    }
}

static void test_directions(const s2_kernels *kernels) {
    for (int has_images = 0; has_images < 2; has_images++) {
        static space of;
        static descent by;
        s2_rng rng;
        s2_rng_seed(&rng, 12, 3);
        fill_space(&rng, &of, has_images);
        s2_arena arena = {0};
        s2_pairs_lay_out(&by.pairs, &arena, OUTPUTS, SIZE, has_images);
        arena = (s2_arena){.base = guarded(arena.used), .size = arena.used};
        by = (descent){.pairs = {.kernels = kernels, .size = SIZE, .n_outputs = OUTPUTS}};
        s2_pairs_lay_out(&by.pairs, &arena, OUTPUTS, SIZE, has_images);
        for (size_t i = 0; i < ALL; i++) {
            by.gradient[i] = (double)random_unit(&rng);
        }
        for (int step = 0; step < STEPS; step++) {
            check_where("%s, step %d, %s a metric", s2_kernels_name(kernels), step,
                        has_images ? "in" : "without");
            if (step % 5 == 4) { /* the same gradient, rounded in another way */
                s2_pairs_forget_gradient(&by.pairs);
                for (size_t i = 0; i < ALL; i++) {
                    by.gradient[i] *= 1.01;
                }
            }
            if (step == 13) {
                by.pairs.count = 0;
                by.first = by.n_known;
            }
            check_direction(&of, &by, has_images);
            move(&of, &by, step % 3 == 0 ? 0.4 : 1.1, has_images);
        }
        release_guarded();
    }
}

int main(void) {
    with_each_table(test_directions);
    return check_report("test_descent");
}
