/* test_ridge.c - ridge regression against its equations and refits; samples that come and go. */
#include "guard.h"

#include "arena.h"
#include "skip2_ridge.h"

enum { N = 75, WIDTH = 40, OUTPUTS = 3, LANES = 96, CAPACITY = 81, BLOCK = 9 };

/* A ridge of the samples named by `sample` (n), with room of its own to the byte. */
typedef struct {
    s2_ridge ridge;
    s2_ridge_fit fit;
    void *room;
    size_t size;
} regression;

static float products[CAPACITY][LANES], weights[CAPACITY], targets[OUTPUTS][CAPACITY];

static void new_samples(void) {
    static float z[CAPACITY][WIDTH];
    s2_rng rng;
    s2_rng_seed(&rng, 31, 3);
    fill_random(&rng, z[0], CAPACITY * WIDTH);
    fill_random(&rng, targets[0], OUTPUTS * CAPACITY);
    fill_random(&rng, weights, CAPACITY);
    for (int i = 0; i < CAPACITY; i++) {
        weights[i] = 1.1f + weights[i];
        for (int m = 0; m < CAPACITY; m++) {
            products[i][m] = 0.0f;
            for (int k = 0; k < WIDTH; k++) {
                products[i][m] += z[i][k] * z[m][k];
            }
        }
    }
}

static void set_targets(regression *of, const uint32_t *sample) {
    float *target = guarded_floats(OUTPUTS * LANES);
    for (uint32_t o = 0; o < OUTPUTS; o++) {
        for (uint32_t i = 0; i < of->ridge.n_samples; i++) {
            target[o * LANES + i] = targets[o][sample[i]];
        }
    }
    of->fit = (s2_ridge_fit){OUTPUTS, LANES, target, guarded_floats(OUTPUTS * LANES),
                             guarded_floats(OUTPUTS)};
}

static void solve(regression *of) {
    CHECK_EQUAL(s2_ridge_solve(&of->ridge, &of->fit, of->room, of->size), S2_OK);
}

static size_t gram_at(uint32_t n, uint32_t i, uint32_t m) {
    return m / 32 * 32 * n + i * 32 + m % 32;
}

static regression new_regression(const s2_kernels *kernels, double shift, uint32_t n,
                                 const uint32_t *sample) {
    regression r = {.ridge = {kernels, CAPACITY, n, shift, NULL}};
    r.ridge.factor = guarded(s2_ridge_factor_bytes(CAPACITY));
    r.size = s2_ridge_workspace_bytes(&r.ridge, OUTPUTS, BLOCK);
    r.room = guarded(r.size);
    float *gram = guarded_floats(s2_gram_floats(n)), *weight = guarded_floats(n);
    for (uint32_t i = 0; i < n; i++) {
        weight[i] = weights[sample[i]];
        for (uint32_t m = i; m < n; m++) {
            gram[gram_at(n, i, m)] = products[sample[i]][sample[m]];
        }
    }
    CHECK_EQUAL(s2_ridge_factorize(&r.ridge, gram, weight, r.room, r.size), S2_OK);
    set_targets(&r, sample);
    solve(&r);
    return r;
}

/* What the solution says of a sample. */
static double output(const regression *of, const uint32_t *sample, uint32_t o, uint32_t wanted) {
    double sum = (double)of->fit.bias[o];
    for (uint32_t i = 0; i < of->ridge.n_samples; i++) {
        sum += (double)of->fit.coefficient[o * LANES + i] * (double)products[wanted][sample[i]];
    }
    return sum;
}

/* (G + shift / weight) alpha + b = y, sum alpha = 0, nothing behind the samples. */
static void check_equations(const regression *of, const uint32_t *sample, double tolerance) {
    const uint32_t n = of->ridge.n_samples;
    for (uint32_t o = 0; o < OUTPUTS; o++) {
        const float *alpha = of->fit.coefficient + o * LANES;
        double sum = 0.0, largest = 1e-30;
        for (uint32_t i = 0; i < n; i++) {
            const double own = of->ridge.shift / (double)weights[sample[i]] * (double)alpha[i];
            CHECK_NEAR(output(of, sample, o, sample[i]) + own, targets[o][sample[i]], tolerance);
            sum += (double)alpha[i];
            largest = fmax(largest, fabs((double)alpha[i]));
        }
        CHECK_NEAR(sum / largest, 0, 1e-5);
        for (uint32_t i = n; i < LANES; i++) {
            CHECK(alpha[i] == 0.0f);
        }
    }
}

static void all_samples(uint32_t *sample, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        sample[i] = i;
    }
}

static void test_solution(const s2_kernels *kernels) {
    static const uint32_t counts[] = {1, 2, 17, 64, 65, N};
    uint32_t sample[CAPACITY];
    all_samples(sample, CAPACITY);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        check_where("%s, %u samples", s2_kernels_name(kernels), counts[i]);
        const regression one = new_regression(kernels, 0.5, counts[i], sample);
        const regression two = new_regression(kernels, 0.5, counts[i], sample);
        check_equations(&one, sample, 1e-5);
        CHECK_SAME(one.fit.coefficient, two.fit.coefficient, OUTPUTS * LANES * sizeof(float));
        release_guarded();
    }
    const regression weak = new_regression(kernels, 1e-3, N, sample); /* of rank 40 */
    check_equations(&weak, sample, 1e-3); /* coefficients are large, and float */
    release_guarded();
}

/* Without sample i, solved anew, and by formula. */
static void test_left_out(const s2_kernels *kernels) {
    uint32_t sample[N], rest[N];
    all_samples(sample, N);
    const regression whole = new_regression(kernels, 0.1, N, sample);
    float *residual = guarded_floats(OUTPUTS * LANES);
    CHECK_EQUAL(s2_ridge_leave_one_out(&whole.ridge, &whole.fit, residual, whole.room, whole.size),
                S2_OK);
    for (uint32_t out = 0; out < N; out += 6) {
        for (uint32_t i = 0; i + 1 < N; i++) {
            rest[i] = i < out ? i : i + 1;
        }
        const regression part = new_regression(kernels, 0.1, N - 1, rest);
        for (uint32_t o = 0; o < OUTPUTS; o++) {
            CHECK_NEAR(residual[o * LANES + out],
                       (double)targets[o][out] - output(&part, rest, o, out), 2e-5);
        }
    }
    CHECK(residual[N] == 0.0f && residual[OUTPUTS * LANES - 1] == 0.0f);
    release_guarded();
}

static void test_block_left_out(const s2_kernels *kernels) {
    uint32_t sample[N], rest[N];
    const uint32_t out[BLOCK] = {70, 3, 4, 5, 40, 41, 74, 0, 33};
    all_samples(sample, N);
    const regression whole = new_regression(kernels, 0.1, N, sample);
    for (uint32_t count = 1; count <= BLOCK; count += 4) {
        float *residual = guarded_floats(OUTPUTS * count);
        CHECK_EQUAL(s2_ridge_leave_out(&whole.ridge, &whole.fit, count, out, residual, whole.room,
                                       whole.size),
                    S2_OK);
        uint32_t n = 0;
        for (uint32_t i = 0; i < N; i++) {
            uint32_t in = 1;
            for (uint32_t k = 0; k < count; k++) {
                in &= out[k] != i;
            }
            rest[n] = i;
            n += in;
        }
        const regression part = new_regression(kernels, 0.1, n, rest);
        for (uint32_t i = 0; i < OUTPUTS * count; i++) {
            const uint32_t o = i / count, at = out[i % count];
            CHECK_NEAR(residual[i], (double)targets[o][at] - output(&part, rest, o, at), 2e-5);
        }
    }
    release_guarded();
}

/* From none to full: samples leave from anywhere and others come. */
static void test_coming_and_going(const s2_kernels *kernels) {
    uint32_t sample[CAPACITY], n = 0;
    s2_rng rng;
    s2_rng_seed(&rng, 32, 3);
    all_samples(sample, 1);
    regression moving = new_regression(kernels, 0.1, 1, sample);
    CHECK_EQUAL(s2_ridge_remove(&moving.ridge, 0, moving.room, moving.size), S2_OK);
    for (int step = 0; step < 1000; step++) {
        if (n == CAPACITY || (n > 0 && s2_rng_below(&rng, 20) == 0)) {
            const uint32_t gone = s2_rng_below(&rng, n--);
            CHECK_EQUAL(s2_ridge_remove(&moving.ridge, gone, moving.room, moving.size), S2_OK);
            memmove(sample + gone, sample + gone + 1, (n - gone) * sizeof *sample);
            continue;
        }
        const uint32_t added = s2_rng_below(&rng, CAPACITY);
        float *row = guarded_floats(n + 1);
        for (uint32_t i = 0; i < n; i++) {
            row[i] = products[added][sample[i]];
        }
        row[n] = products[added][added];
        CHECK_EQUAL(s2_ridge_append(&moving.ridge, row, weights[added], moving.room, moving.size),
                    S2_OK);
        sample[n++] = added;
        CHECK_EQUAL(moving.ridge.n_samples, n);
        if (step % 200 == 0) {
            release_guarded();
            moving = new_regression(kernels, 0.1, n, sample);
        }
    }
    set_targets(&moving, sample);
    solve(&moving);
    check_equations(&moving, sample, 1e-5);
    const regression fresh = new_regression(kernels, 0.1, n, sample);
    for (uint32_t i = 0; i < n; i++) {
        CHECK_NEAR(output(&moving, sample, 0, i), output(&fresh, sample, 0, i), 1e-6);
    }
    release_guarded();
}

static void test_bad_numbers(const s2_kernels *kernels) {
    static const float bad[] = {0.0f, -1.0f, NAN, INFINITY};
    uint32_t sample[N];
    all_samples(sample, N);
    regression r = new_regression(kernels, 0.1, N, sample);
    float *gram = guarded_floats(s2_gram_floats(N)), *row = guarded_floats(N + 1), weight[N];
    memset(gram, 0, s2_gram_floats(N) * sizeof *gram);
    memset(row, 0, (N + 1) * sizeof *row);
    for (int i = 0; i < 4; i++) {
        r.ridge.shift = (double)bad[i];
        CHECK_EQUAL(s2_ridge_factorize(&r.ridge, gram, NULL, r.room, r.size), S2_BAD_VALUE);
        r.ridge.shift = 0.1;
        for (int m = 0; m < N; m++) {
            weight[m] = m == N - 1 ? bad[i] : 1.0f;
        }
        CHECK_EQUAL(s2_ridge_factorize(&r.ridge, gram, weight, r.room, r.size), S2_BAD_VALUE);
        CHECK_EQUAL(s2_ridge_append(&r.ridge, row, bad[i], r.room, r.size), S2_BAD_VALUE);
        row[N] = i == 0 ? -1.0f : bad[i];
        CHECK_EQUAL(s2_ridge_append(&r.ridge, row, 1.0f, r.room, r.size), S2_NOT_FINITE);
        gram[gram_at(N, N - 1, N - 1)] = row[N];
        CHECK_EQUAL(s2_ridge_factorize(&r.ridge, gram, NULL, r.room, r.size), S2_NOT_FINITE);
        CHECK_EQUAL(r.ridge.n_samples, N);
    }
    const uint32_t twice[] = {3, 3}, beyond[] = {N};
    float *residual = guarded_floats(OUTPUTS * N);
    CHECK_EQUAL(s2_ridge_leave_out(&r.ridge, &r.fit, 2, twice, residual, r.room, r.size),
                S2_BAD_VALUE);
    CHECK_EQUAL(s2_ridge_leave_out(&r.ridge, &r.fit, 1, beyond, residual, r.room, r.size),
                S2_BAD_VALUE);
    CHECK(isnan(residual[0]));
}

static void test_bad_shapes(const s2_kernels *kernels) {
    uint32_t sample[N];
    all_samples(sample, N);
    regression r = new_regression(kernels, 0.1, 2, sample);
    float row[3] = {1, 1, 1}, residual[2 * OUTPUTS];
    CHECK_EQUAL(s2_ridge_remove(&r.ridge, 2, r.room, r.size), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_ridge_leave_out(&r.ridge, &r.fit, 2, sample, residual, r.room, r.size),
                S2_BAD_SHAPE);
    r.fit.lanes = 1;
    CHECK_EQUAL(s2_ridge_solve(&r.ridge, &r.fit, r.room, r.size), S2_BAD_SHAPE);
    r.fit.lanes = LANES;
    CHECK_EQUAL(s2_ridge_remove(&r.ridge, 0, r.room, r.size), S2_OK);
    CHECK_EQUAL(s2_ridge_leave_one_out(&r.ridge, &r.fit, residual, r.room, r.size), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_ridge_remove(&r.ridge, 0, r.room, r.size), S2_OK);
    CHECK_EQUAL(s2_ridge_solve(&r.ridge, &r.fit, r.room, r.size), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_ridge_factorize(&r.ridge, row, NULL, r.room, r.size), S2_BAD_SHAPE);
    r.ridge.n_samples = CAPACITY + 1;
    CHECK_EQUAL(s2_ridge_solve(&r.ridge, &r.fit, r.room, r.size), S2_BAD_SHAPE);
    r = new_regression(kernels, 0.1, N, sample);
    float *target = (float *)(uintptr_t)r.fit.target + LANES + N - 1;
    *target = NAN;
    CHECK_EQUAL(s2_ridge_solve(&r.ridge, &r.fit, r.room, r.size), S2_BAD_VALUE);
    *target = -INFINITY;
    CHECK_EQUAL(s2_ridge_solve(&r.ridge, &r.fit, r.room, r.size), S2_BAD_VALUE);
    target[1] = NAN, *target = 1.0f; /* where there is no sample */
    CHECK_EQUAL(s2_ridge_solve(&r.ridge, &r.fit, r.room, r.size), S2_OK);
}

/* A room one byte short, and sizes that a size_t cannot say. */
static void test_room(const s2_kernels *kernels) {
    uint32_t sample[N];
    all_samples(sample, N);
    regression r = new_regression(kernels, 0.1, N, sample);
    const size_t small = s2_ridge_workspace_bytes(&r.ridge, OUTPUTS, 0);
    float *nothing = guarded_floats(16);
    CHECK(small < r.size);
    CHECK_EQUAL(s2_ridge_solve(&r.ridge, &r.fit, r.room, small), S2_OK);
    CHECK_EQUAL(s2_ridge_solve(&r.ridge, &r.fit, r.room, small - 1), S2_NO_ROOM);
    CHECK_EQUAL(s2_ridge_solve(&r.ridge, &r.fit, NULL, small), S2_NO_ROOM);
    CHECK_EQUAL(s2_ridge_leave_out(&r.ridge, &r.fit, BLOCK + 1, sample, nothing, r.room, r.size),
                S2_NO_ROOM);
    s2_ridge full = r.ridge;
    full.capacity = N;
    CHECK_EQUAL(s2_ridge_append(&full, nothing, 1.0f, r.room, r.size), S2_NO_ROOM);
    s2_ridge huge = {kernels, S2_MAX_WIDTH, 1, 1.0, NULL}; /* 2^51 bytes */
    const size_t factor = s2_ridge_factor_bytes(S2_MAX_WIDTH);
    CHECK(sizeof(size_t) > 4 ? factor == (size_t)((uint64_t)1 << 51) : factor == SIZE_MAX);
    CHECK_EQUAL(
        s2_ridge_factorize(&huge, nothing, NULL, nothing, factor == SIZE_MAX ? SIZE_MAX : 64),
        S2_NO_ROOM);
    CHECK(
        s2_ridge_workspace_bytes(&huge, UINT32_MAX, UINT32_MAX) ==
        (sizeof(size_t) > 4 ? s2_ridge_workspace_bytes(&huge, UINT32_MAX, UINT32_MAX) : SIZE_MAX));
    CHECK(isnan(nothing[0]) && isnan(nothing[15]));
}

int main(void) {
    new_samples();
    with_each_table(test_solution);
    with_each_table(test_left_out);
    with_each_table(test_block_left_out);
    with_each_table(test_coming_and_going);
    with_each_table(test_bad_numbers);
    with_each_table(test_bad_shapes);
    with_each_table(test_room);
    return check_report("test_ridge");
}
