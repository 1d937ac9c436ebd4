/*
 * test_columns.c - the moments of columns have in every table, to the bit, what the sums say that define
 * them: rows in chunks, with weights and without, columns that fill no vector, numbers far from zero.
 */
#include "guard.h"

#include "skip2_exact.h"

enum { MOST_ROWS = 41, MOST_WIDTH = 70, APART = 3 }; /* floats between rows */

typedef struct {
    float *rows;   /* (MOST_ROWS, width + APART) */
    float *weight; /* (MOST_ROWS), or NULL */
    uint32_t width;
} table;

static s2_moments new_moments(uint32_t width) {
    return (s2_moments){.width = width,
                        .first = guarded_floats(width),
                        .sum = guarded(width * sizeof(double)),
                        .squares = guarded(width * sizeof(double))};
}

/* Of the first `count` rows. */
static void check_moments(const table *of, uint32_t count, const s2_moments *got) {
    double *mean = guarded(of->width * sizeof *mean), *var = guarded(of->width * sizeof *var);
    s2_moments_finish(got, mean, var);
    for (size_t c = 0; c < of->width; c++) {
        const double first = (double)of->rows[c];
        double sum = 0.0, squares = 0.0, total = 0.0;
        for (size_t r = 0; r < count; r++) {
            const double weight = of->weight ? (double)of->weight[r] : 1.0;
            const double off = (double)of->rows[r * (of->width + APART) + c] - first;
            sum += weight * off;
            squares += weight * off * off;
            total += weight;
        }
        CHECK(got->sum[c] == sum && got->squares[c] == squares && got->total == total);
        CHECK_NEAR(mean[c], first + sum / total, 1e-15 * (fabs(first) + fabs(sum / total)));
        CHECK_NEAR(var[c], squares / total - sum / total * (sum / total), 1e-14 * squares / total);
        CHECK(var[c] >= 0.0 && (count > 1 || var[c] == 0.0));
    }
}

static void check_width(const s2_kernels *kernels, s2_rng *rng, uint32_t width, int weighted) {
    static const float middles[] = {0.0f, 1e6f, -1e30f};
    static const uint32_t counts[] = {1, 1, 17, 22}; /* rows of each chunk */
    const size_t stride = width + APART;
    table of = {.rows = random_floats(rng, MOST_ROWS * stride - APART), .width = width};
    of.weight = weighted ? random_weights(rng, MOST_ROWS) : NULL;
    for (size_t i = 0; i < MOST_ROWS * stride - APART; i++) {
        const float middle = middles[i % stride % 3];
        of.rows[i] = middle + of.rows[i] * (1.0f + 1e-3f * middle);
    }
    if (weighted) {
        of.weight[0] = 0.5f; /* a total from the first row on */
    }
    s2_moments moments = new_moments(width);
    uint32_t at = 0;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; at += counts[i++]) {
        s2_moments_add(kernels, &moments, counts[i], of.rows + at * stride, stride,
                       weighted ? of.weight + at : NULL);
        check_moments(&of, at + counts[i], &moments);
    }
    CHECK_EQUAL(at, MOST_ROWS);
    release_guarded();
}

static void test_moments(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 7, 3);
    for (uint32_t width = 1; width <= MOST_WIDTH; width++) {
        for (int weighted = 0; weighted < 2; weighted++) {
            check_where("%s, %u columns%s", s2_kernels_name(kernels), width,
                        weighted ? ", weights" : "");
            check_width(kernels, &rng, width, weighted);
        }
    }
}

int main(void) {
    with_each_table(test_moments);
    return check_report("test_columns");
}
