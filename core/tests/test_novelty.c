/* test_novelty.c - p-values and novelties against plain sums in double, refusals, exchangeable rows. */
#include "guard.h"

#include "skip2_novelty.h"

enum { MOST_ROWS = 64, MOST_WIDTH = 40 };

typedef struct {
    uint32_t n_rows, width, n_modes;
    float *rows, *mean, *scale, *centres;
} sample;

static sample random_sample(s2_rng *rng, uint32_t n_rows, uint32_t width, uint32_t n_modes) {
    sample s = {n_rows, width, n_modes, NULL, NULL, NULL, NULL};
    s.centres = random_floats(rng, (size_t)n_modes * width);
    s.mean = random_floats(rng, width);
    s.scale = guarded_floats(width);
    s.rows = guarded_floats((size_t)n_rows * width);
    for (uint32_t c = 0; c < width; c++) {
        s.scale[c] = c == 2 ? 0.0f : 0.5f + s2_rng_unit(rng);
    }
    for (uint32_t i = 0; i < n_rows * width; i++) {
        s.rows[i] = s.centres[i / width % n_modes * width + i % width] + 0.3f * random_unit(rng);
    }
    return s;
}

static s2_status open_in(s2_novelty *novelty, const s2_kernels *kernels, const sample *s,
                         size_t less) {
    const s2_novelty_shape shape = {s->n_rows, s->width, s->n_modes};
    const s2_reference reference = {s->rows, s->mean, s->scale, s->centres};
    const size_t bytes = s2_novelty_bytes(&shape);
    /* ends at the guard page: sizes are multiples of S2_ALIGN */
    return s2_novelty_open(novelty, kernels, &shape, &reference, guarded(bytes), bytes - less);
}

static double apart(const sample *s, const float *a, const float *b) {
    double sum = 0;
    for (uint32_t c = 0; c < s->width; c++) {
        const double d = ((double)a[c] - (double)b[c]) * (double)s->scale[c];
        sum += d * d;
    }
    return sqrt(sum);
}

static uint32_t plain_mode(const sample *s, const float *row) {
    uint32_t nearest = 0;
    for (uint32_t m = 1; m < s->n_modes; m++) {
        if (apart(s, row, s->centres + m * s->width) <
            apart(s, row, s->centres + nearest * s->width)) {
            nearest = m;
        }
    }
    return nearest;
}

static const float *row_of(const sample *s, const float *row, uint32_t at) {
    return at < s->n_rows ? s->rows + at * s->width : row;
}

/* The distance from row number `at`, where number n_rows is the new one, to the 5th nearest other. */
static double plain_novelty(const sample *s, const float *row, uint32_t at) {
    double distance[MOST_ROWS];
    uint32_t count = 0;
    for (uint32_t other = 0; other <= s->n_rows; other++) {
        if (other != at) {
            double d = apart(s, row_of(s, row, at), row_of(s, row, other));
            uint32_t place = count++;
            for (; place > 0 && distance[place - 1] > d; place--) {
                distance[place] = distance[place - 1];
            }
            distance[place] = d;
        }
    }
    return distance[S2_NEIGHBOURS - 1];
}

static s2_judged plain_judged(const sample *s, const float *row) {
    s2_judged judged = {.novelty = plain_novelty(s, row, s->n_rows), .mode = plain_mode(s, row)};
    uint32_t count = 1, as_novel = 1, all_as_novel = 1;
    for (uint32_t r = 0; r < s->n_rows; r++) {
        const uint32_t is_as_novel = plain_novelty(s, row, r) >= judged.novelty * (1 - 1e-6);
        all_as_novel += is_as_novel;
        if (plain_mode(s, row_of(s, row, r)) == judged.mode) {
            count++;
            as_novel += is_as_novel;
        }
    }
    judged.p = (double)as_novel / count;
    judged.p_all = (double)all_as_novel / (s->n_rows + 1);
    return judged;
}

static void test_against_plain_sums(const s2_kernels *kernels) {
    static const uint32_t sizes[][3] = {{6, 1, 1}, {7, 17, 7}, {40, 16, 3}, {60, 37, 5}};
    s2_rng rng;
    s2_rng_seed(&rng, 5, 1);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const sample s = random_sample(&rng, sizes[i][0], sizes[i][1], sizes[i][2]);
        s2_novelty novelty;
        CHECK_EQUAL(open_in(&novelty, kernels, &s, 0), S2_OK);
        for (int far = 0; far < 40; far++) {
            float *row = guarded_floats(s.width);
            const uint32_t near = s2_rng_below(&rng, s.n_rows);
            for (uint32_t c = 0; c < s.width; c++) {
                row[c] = s.rows[near * s.width + c] + 0.02f * (float)far * random_unit(&rng);
            }
            const s2_judged plain = plain_judged(&s, row);
            s2_judged judged;
            CHECK_EQUAL(s2_novelty_judge(&novelty, row, &judged), S2_OK);
            CHECK_EQUAL(judged.mode, plain.mode);
            CHECK_NEAR(judged.novelty, plain.novelty, 1e-5 * (1 + plain.novelty));
            CHECK_NEAR(judged.p, plain.p, 1e-9);
            CHECK_NEAR(judged.p_all, plain.p_all, 1e-9);
        }
        release_guarded();
    }
}

/* Copies of one row: every novelty is 0, and equal ones count against a change. */
static void test_copies(const s2_kernels *kernels) {
    enum { ROWS = 9, WIDTH = 21 };
    s2_rng rng;
    s2_rng_seed(&rng, 6, 1);
    sample s = random_sample(&rng, ROWS, WIDTH, 1);
    for (uint32_t i = WIDTH; i < ROWS * WIDTH; i++) {
        s.rows[i] = s.rows[i - WIDTH];
    }
    s2_novelty novelty;
    s2_judged judged;
    CHECK_EQUAL(open_in(&novelty, kernels, &s, 0), S2_OK);
    CHECK_EQUAL(s2_novelty_judge(&novelty, s.rows, &judged), S2_OK);
    CHECK(judged.novelty == 0 && judged.p == 1);
    float *row = guarded_copy(s.rows, WIDTH * sizeof(float));
    row[2] = 3e38f; /* a column that is left out */
    CHECK_EQUAL(s2_novelty_judge(&novelty, row, &judged), S2_OK);
    CHECK(judged.novelty == 0 && judged.p == 1);
    row[0] += 1;
    CHECK_EQUAL(s2_novelty_judge(&novelty, row, &judged), S2_OK);
    CHECK_NEAR(judged.novelty, s.scale[0], 1e-5);
    CHECK_NEAR(judged.p, 1.0 / (ROWS + 1), 1e-12);
    row[0] = -3e38f; /* farther than a float can square */
    row[1] = 3e38f;
    CHECK_EQUAL(s2_novelty_judge(&novelty, row, &judged), S2_OK);
    CHECK(judged.novelty > 1e6 && judged.novelty < 2e6);
    CHECK_NEAR(judged.p, 1.0 / (ROWS + 1), 1e-12);
}

static void test_refusals(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 7, 1);
    const sample s = random_sample(&rng, 8, 5, 2);
    s2_novelty novelty;
    s2_judged judged;
    sample wrong = s;
    wrong.n_rows = S2_NEIGHBOURS;
    CHECK_EQUAL(open_in(&novelty, kernels, &wrong, 0), S2_BAD_SHAPE);
    wrong = s;
    wrong.width = 0;
    CHECK_EQUAL(open_in(&novelty, kernels, &wrong, 0), S2_BAD_SHAPE);
    wrong = s;
    wrong.n_modes = 0;
    CHECK_EQUAL(open_in(&novelty, kernels, &wrong, 0), S2_BAD_SHAPE);
    wrong.n_modes = 9;
    CHECK_EQUAL(open_in(&novelty, kernels, &wrong, 0), S2_BAD_SHAPE);
    CHECK_EQUAL(open_in(&novelty, kernels, &s, 1), S2_NO_ROOM);
    const s2_novelty_shape huge = {UINT32_MAX, UINT32_MAX, UINT32_MAX};
    const s2_novelty_shape large = {S2_MAX_WIDTH, S2_MAX_WIDTH, S2_MAX_WIDTH};
    const s2_reference reference = {s.rows, s.mean, s.scale, s.centres};
    CHECK_EQUAL(s2_novelty_open(&novelty, kernels, &huge, &reference, s.rows, SIZE_MAX),
                S2_BAD_SHAPE);
    if (sizeof(size_t) == 4) {
        CHECK(s2_novelty_bytes(&large) == SIZE_MAX);
    } else {
        CHECK(s2_novelty_bytes(&large) / S2_MAX_WIDTH / S2_MAX_WIDTH == 8);
    }
    CHECK_EQUAL(s2_novelty_open(&novelty, kernels, &large, &reference, s.rows, 4096), S2_NO_ROOM);
    float *places[] = {s.rows + 39, s.mean + 4, s.scale, s.centres + 9};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const float value = *places[i];
        *places[i] = i % 2 ? NAN : -INFINITY;
        CHECK_EQUAL(open_in(&novelty, kernels, &s, 0), S2_BAD_VALUE);
        *places[i] = value;
    }
    CHECK_EQUAL(open_in(&novelty, kernels, &s, 0), S2_OK);
    float *row = guarded_copy(s.rows, 5 * sizeof(float));
    row[4] = NAN;
    CHECK_EQUAL(s2_novelty_judge(&novelty, row, &judged), S2_BAD_VALUE);
    row[4] = INFINITY;
    CHECK_EQUAL(s2_novelty_judge(&novelty, row, &judged), S2_BAD_VALUE);
}

/* Reference and row are drawn alike, anew each time: p <= a happens no more often than a. */
static void test_exchangeable(void) {
    enum { TRIALS = 2000, ROWS = 19, WIDTH = 4, LEVELS = 20 };
    const s2_kernels *kernels = s2_kernels_choose(NULL);
    s2_rng rng;
    s2_rng_seed(&rng, 8, 1);
    sample s = random_sample(&rng, ROWS, WIDTH, 1);
    float *row = guarded_floats(WIDTH);
    const s2_novelty_shape shape = {ROWS, WIDTH, 1};
    const s2_reference reference = {s.rows, s.mean, s.scale, s.centres};
    const size_t bytes = s2_novelty_bytes(&shape);
    void *memory = guarded(bytes);
    unsigned at_most[LEVELS + 1] = {0};
    for (int trial = 0; trial < TRIALS; trial++) {
        s2_novelty novelty;
        s2_judged judged;
        fill_random(&rng, s.rows, ROWS * WIDTH);
        fill_random(&rng, row, WIDTH);
        CHECK_EQUAL(s2_novelty_open(&novelty, kernels, &shape, &reference, memory, bytes), S2_OK);
        CHECK_EQUAL(s2_novelty_judge(&novelty, row, &judged), S2_OK);
        for (int level = (int)(judged.p * LEVELS + 0.5); level <= LEVELS; level++) {
            at_most[level]++;
        }
    }
    for (int level = 1; level <= LEVELS; level++) { /* 19 + 1 rows: uniform, as nothing is equal */
        const double share = (double)level / LEVELS;
        CHECK_NEAR((double)at_most[level] / TRIALS, share, 4 * sqrt(share * (1 - share) / TRIALS));
    }
    release_guarded();
}

int main(void) {
    with_each_table(test_against_plain_sums);
    with_each_table(test_copies);
    with_each_table(test_refusals);
    test_exchangeable();
    return check_report("test_novelty");
}
