/* descent.c - the two loops of L-BFGS, over numbers. */
#include "same_bits.h"

#include "descent.h"

void s2_pairs_lay_out(s2_pairs *of, s2_arena *arena, size_t rows, size_t cols, int has_images) {
    for (size_t i = 0; i < S2_PAIRS; i++) {
        of->step[i] = s2_take_floats(arena, rows, cols);
        of->image[i] = has_images ? s2_take_floats(arena, rows, cols) : of->step[i];
        of->change[i] = s2_take_floats(arena, rows, cols);
        of->bias_step[i] = s2_take(arena, rows, 1, sizeof(double));
        of->bias_change[i] = s2_take(arena, rows, 1, sizeof(double));
    }
}

/* Number `age` of the ring, 0 the newest. */
static size_t pair_of(const s2_pairs *of, size_t age) {
    return (of->newest + S2_PAIRS - age) % S2_PAIRS;
}

/* products[j] = <a, arrays[j]> + <bias, biases[j]> for all pairs. */
static void multiply(const s2_pairs *of, const float *a, float *const *arrays, const double *bias,
                     double *const *biases, double *products) {
    of->kernels->dots(of->count, of->size, a, (const float *const *)arrays, products);
    for (size_t j = 0; j < of->count; j++) {
        products[j] += s2_dot_outputs(of->n_outputs, bias, biases[j]);
    }
}

/* Products of the newest change with the steps before its own: the gradient changed by it. */
static void bend_newest(s2_pairs *of, const double *along) {
    for (size_t j = 0; of->is_new && j < of->count; j++) {
        if (j != of->newest) {
            of->bend[of->newest][j] = along[j] - of->along[j];
        }
    }
    of->is_new = 0;
}

void s2_pairs_forget_gradient(s2_pairs *of) {
    if (of->is_new) {
        double along[S2_PAIRS];
        const size_t newest = of->newest;
        multiply(of, of->change[newest], of->image, of->bias_change[newest], of->bias_step, along);
        for (size_t j = 0; j < of->count; j++) {
            of->along[j] = 0.0;
        }
        bend_newest(of, along);
    }
}

/* array = own * array + sum of factors[j] * arrays[j] */
static void combine(const s2_pairs *of, double own, const double *factors, float *const *arrays,
                    float *array) {
    float rounded[S2_PAIRS];
    for (size_t j = 0; j < of->count; j++) {
        rounded[j] = (float)factors[j];
    }
    of->kernels->combine(of->count, of->size, (float)own, rounded, (const float *const *)arrays,
                         array);
}

static void combine_biases(const s2_pairs *of, double own, const double *factors,
                           double *const *biases, double *bias) {
    for (size_t o = 0; o < of->n_outputs; o++) {
        bias[o] *= own;
        for (size_t j = 0; j < of->count; j++) {
            bias[o] += factors[j] * biases[j][o];
        }
    }
}

void s2_pairs_begin(s2_pairs *of, double guess, double bias_guess, float *gradient, double *bias) {
    double along[S2_PAIRS] = {0}, factors[S2_PAIRS] = {0}, bias_factors[S2_PAIRS] = {0};
    multiply(of, gradient, of->image, bias, of->bias_step, along);
    bend_newest(of, along);
    for (size_t age = 0; age < of->count; age++) {
        const size_t j = pair_of(of, age);
        of->along[j] = along[j];
        for (size_t newer = 0; newer < age; newer++) {
            const size_t i = pair_of(of, newer);
            along[j] -= of->share[i] * of->bend[i][j];
        }
        of->share[j] = along[j] / of->bend[j][j];
        factors[j] = -guess * of->share[j];
        bias_factors[j] = -bias_guess * of->share[j];
    }
    combine(of, guess, factors, of->change, gradient);
    combine_biases(of, bias_guess, bias_factors, of->bias_change, bias);
}

void s2_pairs_end(s2_pairs *of, float *direction, float *image, double *bias) {
    double opposite[S2_PAIRS] = {0}, factors[S2_PAIRS] = {0};
    multiply(of, image, of->change, bias, of->bias_change, opposite);
    for (size_t age = of->count; age-- > 0;) {
        const size_t j = pair_of(of, age);
        factors[j] = of->share[j] - opposite[j] / of->bend[j][j];
        for (size_t newer = 0; newer < age; newer++) { /* the image moves on by that of its step */
            const size_t i = pair_of(of, newer);
            opposite[i] += factors[j] * of->bend[i][j];
        }
    }
    combine(of, 1.0, factors, of->step, direction);
    if (image != direction) {
        combine(of, 1.0, factors, of->image, image);
    }
    combine_biases(of, 1.0, factors, of->bias_step, bias);
}

size_t s2_pairs_add(s2_pairs *of, double bend) {
    const size_t new = of->count == 0 ? 0 : (of->newest + 1) % S2_PAIRS;
    of->bend[new][new] = bend;
    of->newest = new;
    of->count += of->count < S2_PAIRS;
    of->is_new = 1;
    return new;
}
