/* test_cholesky.c - factors and systems, in float and double, against their definition. */
#include "guard.h"

#include "cholesky.h"

enum { MOST_N = 201, MOST_ROWS = 300, GAP = 3 };

static const uint32_t sizes[] = {1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 97, 128, 200, MOST_N};
static const uint32_t counts[] = {1, 3, 5, MOST_ROWS};

/* A = B . B^T / n + I, (n, n), the same for both types; cond about 10. */
static void new_matrix(double *a, uint32_t n, s2_rng *rng) {
    static double b[MOST_N * MOST_N];
    for (uint32_t i = 0; i < n * n; i++) {
        b[i] = (double)random_unit(rng);
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t m = 0; m < n; m++) {
            double sum = i == m ? n : 0.0;
            for (uint32_t k = 0; k < n; k++) {
                sum += b[i * n + k] * b[m * n + k];
            }
            a[i * n + m] = sum / n;
        }
    }
}

/* The upper half in a buffer with gaps, whose other elements are NaN; the same once more gives the
 * same bits. */
#define DEFINE_TESTS(real, tolerance)                                                              \
    static s2_factor_##real new_factor_##real(const s2_kernels *kernels, const double *a,          \
                                              uint32_t n) {                                        \
        const size_t row = n + GAP;                                                                \
        s2_factor_##real f = {kernels, n, guarded((n * row - GAP) * sizeof(real)), row,            \
                              guarded(S2_FACTOR_ROOM * sizeof(real))};                             \
        for (uint32_t i = 0; i < n; i++) {                                                         \
            for (uint32_t m = i; m < n; m++) {                                                     \
                f.u[i * row + m] = (real)a[i * n + m];                                             \
            }                                                                                      \
        }                                                                                          \
        CHECK(s2_factorize_##real(&f));                                                            \
        return f;                                                                                  \
    }                                                                                              \
    static void check_factor_##real(const s2_factor_##real *f, const double *a) {                  \
        double worst = 0.0;                                                                        \
        for (uint32_t i = 0; i < f->n; i++) {                                                      \
            for (uint32_t m = i; m < f->n; m++) {                                                  \
                double sum = 0.0;                                                                  \
                for (uint32_t k = 0; k <= i; k++) {                                                \
                    sum += (double)f->u[k * f->row + i] * (double)f->u[k * f->row + m];            \
                }                                                                                  \
                worst = fmax(worst, fabs(sum - a[i * f->n + m]));                                  \
            }                                                                                      \
        }                                                                                          \
        CHECK_NEAR(worst, 0, tolerance);                                                           \
    }                                                                                              \
    /* x starts with `first` zeros and must come out as A^-1 x. */                                 \
    static void check_solution_##real(const s2_factor_##real *f, const double *a, uint32_t first,  \
                                      uint32_t count, s2_rng *rng) {                               \
        const size_t row = f->n + GAP;                                                             \
        real *x = guarded((count * row - GAP) * sizeof(real));                                     \
        double *y = guarded(count * f->n * sizeof(double)), worst = 0.0;                           \
        for (uint32_t r = 0; r < count; r++) {                                                     \
            for (uint32_t i = 0; i < f->n; i++) {                                                  \
                x[r * row + i] = i < first ? 0 : (real)random_unit(rng);                           \
                y[r * f->n + i] = (double)x[r * row + i];                                          \
            }                                                                                      \
        }                                                                                          \
        s2_solve_first_##real(f, first, count, x, row);                                            \
        s2_solve_second_##real(f, count, x, row);                                                  \
        for (uint32_t r = 0; r < count; r++) {                                                     \
            for (uint32_t i = 0; i < f->n; i++) {                                                  \
                double sum = -y[r * f->n + i];                                                     \
                for (uint32_t m = 0; m < f->n; m++) {                                              \
                    sum += a[i * f->n + m] * (double)x[r * row + m];                               \
                }                                                                                  \
                worst = sum == sum ? fmax(worst, fabs(sum)) : sum;                                 \
            }                                                                                      \
        }                                                                                          \
        CHECK_NEAR(worst, 0, tolerance);                                                           \
    }                                                                                              \
    static void test_##real(const s2_kernels *kernels) {                                           \
        static double a[MOST_N * MOST_N];                                                          \
        s2_rng rng;                                                                                \
        s2_rng_seed(&rng, 21, 3);                                                                  \
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {                              \
            const uint32_t n = sizes[i];                                                           \
            check_where("%s, %s, n %u", s2_kernels_name(kernels), #real, n);                       \
            new_matrix(a, n, &rng);                                                                \
            s2_factor_##real f = new_factor_##real(kernels, a, n);                                 \
            const s2_factor_##real again = new_factor_##real(kernels, a, n);                       \
            CHECK_SAME(f.u, again.u, (n * (n + GAP) - GAP) * sizeof(real));                        \
            check_factor_##real(&f, a);                                                            \
            for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {                        \
                check_solution_##real(&f, a, 0, counts[c], &rng);                                  \
            }                                                                                      \
            check_solution_##real(&f, a, n / 2, 3, &rng);                                          \
            check_solution_##real(&f, a, n - 1, 1, &rng);                                          \
            release_guarded();                                                                     \
        }                                                                                          \
    }                                                                                              \
    /* A pivot that is 0, below 0, NaN or infinite, in the first block and beyond. */              \
    static void test_refusals_##real(const s2_kernels *kernels) {                                  \
        static const float bad[] = {0.0f, -1.0f, NAN, INFINITY};                                   \
        static const uint32_t at[] = {0, 7, 70};                                                   \
        for (size_t i = 0; i < 12; i++) {                                                          \
            s2_factor_##real f = {kernels, 71, guarded(71 * 71 * sizeof(real)), 71,                \
                                  guarded(S2_FACTOR_ROOM * sizeof(real))};                         \
            for (uint32_t m = 0; m < 71 * 71; m++) {                                               \
                f.u[m] = m % 72 == 0;                                                              \
            }                                                                                      \
            f.u[at[i / 4] * 72] = (real)bad[i % 4];                                                \
            CHECK(!s2_factorize_##real(&f));                                                       \
        }                                                                                          \
        release_guarded();                                                                         \
    }

DEFINE_TESTS(float, 2e-4)
DEFINE_TESTS(double, 1e-11)

/* c += a . b against sums in the same order; each table adds with two roundings or with one. */
static void check_product(const s2_kernels *kernels, uint32_t rows, uint32_t cols, uint32_t depth,
                          int transposed, s2_rng *rng) {
    double *a = guarded(rows * depth * sizeof *a), *b = guarded(depth * cols * sizeof *b);
    double *c = guarded(rows * cols * sizeof *c), worst = 0.0;
    static double expected[70 * 70];
    for (uint32_t i = 0; i < rows * depth; i++) {
        a[i] = (double)random_unit(rng);
    }
    for (uint32_t i = 0; i < depth * cols; i++) {
        b[i] = (double)random_unit(rng);
    }
    for (uint32_t i = 0; i < rows * cols; i++) {
        expected[i] = c[i] = (double)random_unit(rng);
    }
    const s2_gemm_double pass = {.rows = rows,
                                 .cols = cols,
                                 .depth = depth,
                                 .a = a,
                                 .a_row = transposed ? 1 : depth,
                                 .a_depth = transposed ? rows : 1,
                                 .b = b,
                                 .b_depth = transposed ? 1 : cols,
                                 .b_col = transposed ? depth : 1,
                                 .c = c,
                                 .c_row = cols};
    kernels->gemm_double(&pass);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t m = 0; m < cols; m++) {
            for (uint32_t k = 0; k < depth; k++) {
                expected[r * cols + m] +=
                    a[r * pass.a_row + k * pass.a_depth] * b[k * pass.b_depth + m * pass.b_col];
            }
            const double off = fabs(c[r * cols + m] - expected[r * cols + m]);
            worst = off <= worst ? worst : off;
        }
    }
    CHECK_NEAR(worst, 0, 1e-13);
}

static void test_products(const s2_kernels *kernels) {
    static const uint32_t some[] = {1, 2, 4, 5, 13, 66};
    s2_rng rng;
    s2_rng_seed(&rng, 22, 3);
    for (uint32_t i = 0; i < 6 * 6 * 6 * 2; i++) {
        const uint32_t rows = some[i % 6], cols = some[i / 6 % 6], depth = some[i / 36 % 6];
        check_where("%s, %u x %u, depth %u", s2_kernels_name(kernels), rows, cols, depth);
        check_product(kernels, rows, cols, depth, i >= 216, &rng);
        release_guarded();
    }
}

int main(void) {
    with_each_table(test_products);
    with_each_table(test_float);
    with_each_table(test_double);
    with_each_table(test_refusals_float);
    with_each_table(test_refusals_double);
    return check_report("test_cholesky");
}
