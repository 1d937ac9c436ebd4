/* test_rng.c - PCG32: published values, and what the training order asks of it. */
#include "guard.h"

/* The published pcg32-demo, seed 42 and stream 54. */
static void test_published_sequence(void) {
    static const uint32_t published[] = {0xa15c02b7u, 0x7b47f409u, 0xba1d3330u,
                                         0x83d2f293u, 0xbfa4784bu, 0xcbed606eu};
    s2_rng rng;
    s2_rng_seed(&rng, 42, 54);
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        CHECK_EQUAL(s2_rng_next(&rng), published[i]);
    }
}

/* Computed from the definitions with integers of any size: the order of samples that every
 * machine must agree on. */
static void test_known_values(void) {
    static const uint32_t order_of_seed_0[] = {5, 2, 3, 8, 7, 4, 6, 1, 9, 0};
    static const uint32_t order_of_seed_7[] = {8, 4, 7, 1, 9, 2, 6, 3, 0, 5};
    static const uint32_t units[] = {1007083, 6018898, 11683638, 7609487}; /* times 2^-24 */
    static const uint32_t redrawn[] = {193360062u,  2111412644u, 2510808173u, 1810276357u,
                                       1760026722u, 1891348611u, 2681105503u, 3195208512u};
    uint32_t order[10];
    s2_rng rng;
    for (uint64_t seed = 0; seed <= 7; seed += 7) {
        for (uint32_t i = 0; i < 10; i++) {
            order[i] = i;
        }
        s2_rng_seed(&rng, seed, S2_STREAM_ORDER);
        s2_rng_shuffle(&rng, order, 10);
        CHECK_SAME(order, seed == 0 ? order_of_seed_0 : order_of_seed_7, sizeof order);
    }
    s2_rng_seed(&rng, 1, S2_STREAM_ADAPTER);
    for (size_t i = 0; i < 4; i++) {
        CHECK(s2_rng_unit(&rng) == (float)units[i] / 16777216.0f);
    }
    s2_rng_seed(&rng, 3, S2_STREAM_ORDER);
    for (size_t i = 0; i < 8; i++) {
        CHECK_EQUAL(s2_rng_below(&rng, 3u << 30), redrawn[i]);
    }
}

static void test_shuffle_permutes(void) {
    for (uint32_t count = 0; count <= 300; count = count * 2 + 1) {
        uint32_t *order = guarded(count * sizeof *order), *seen = guarded(count * sizeof *seen);
        for (uint32_t i = 0; i < count; i++) {
            order[i] = i;
            seen[i] = 0;
        }
        s2_rng rng;
        s2_rng_seed(&rng, count, S2_STREAM_ORDER);
        s2_rng_shuffle(&rng, order, count);
        uint32_t moved = 0, wrong = 0;
        for (uint32_t i = 0; i < count; i++) {
            wrong += order[i] >= count || seen[order[i] < count ? order[i] : 0]++ != 0;
            moved += order[i] != i;
        }
        CHECK_EQUAL(wrong, 0);
        CHECK(count < 7 || moved > count / 2);
        release_guarded();
    }
}

/* All 24 orders of four are equally likely: 1000 each within five standard deviations of 31. */
static void test_shuffle_is_fair(void) {
    unsigned hits[256] = {0};
    s2_rng rng;
    s2_rng_seed(&rng, 9, S2_STREAM_ORDER);
    for (int i = 0; i < 24000; i++) {
        uint32_t order[] = {0, 1, 2, 3};
        s2_rng_shuffle(&rng, order, 4);
        hits[order[0] << 6 | order[1] << 4 | order[2] << 2 | order[3]]++;
    }
    unsigned orders = 0;
    for (size_t i = 0; i < 256; i++) {
        orders += hits[i] > 0;
        CHECK(hits[i] == 0 || (hits[i] > 845 && hits[i] < 1155));
    }
    CHECK_EQUAL(orders, 24);
}

/* Every value within five standard deviations. */
static void test_below_is_fair(void) {
    static const uint32_t bounds[] = {1, 2, 3, 7, 10, 31};
    enum { DRAWS = 30000 };
    s2_rng rng;
    s2_rng_seed(&rng, 5, 3);
    for (size_t k = 0; k < sizeof bounds / sizeof bounds[0]; k++) {
        const uint32_t bound = bounds[k];
        unsigned hits[32] = {0};
        for (int i = 0; i < DRAWS; i++) {
            const uint32_t value = s2_rng_below(&rng, bound);
            hits[value < bound ? value : 31]++;
        }
        CHECK_EQUAL(hits[31], 0);
        const double expected = (double)DRAWS / bound;
        for (uint32_t value = 0; value < bound; value++) {
            CHECK_NEAR(hits[value], expected, 5.0 * sqrt(expected));
        }
    }
}

/* Three quarters of 2^32: what is not redrawn shows as a third of the values drawn twice as often,
 * by their remainder (high word) or by their size (remainder). */
static void test_below_redraws(void) {
    const uint32_t bound = 3u << 30;
    unsigned by_remainder[3] = {0}, by_size[3] = {0};
    s2_rng rng;
    s2_rng_seed(&rng, 6, 3);
    for (int i = 0; i < 30000; i++) {
        const uint32_t value = s2_rng_below(&rng, bound);
        by_remainder[value % 3]++;
        by_size[value >> 30 < 3 ? value >> 30 : 0]++;
    }
    for (size_t i = 0; i < 3; i++) {
        CHECK_NEAR(by_remainder[i], 10000, 5 * 82);
        CHECK_NEAR(by_size[i], 10000, 5 * 82);
    }
}

static void test_unit(void) {
    enum { DRAWS = 100000 };
    double sum = 0.0, least = 1.0, most = 0.0;
    s2_rng rng;
    s2_rng_seed(&rng, 8, 3);
    for (int i = 0; i < DRAWS; i++) {
        const double value = (double)s2_rng_unit(&rng);
        sum += value;
        least = value < least ? value : least;
        most = value > most ? value : most;
    }
    CHECK(least >= 0.0 && least < 1e-3);
    CHECK(most < 1.0 && most > 0.999);
    CHECK_NEAR(sum / DRAWS, 0.5, 5.0 * 0.289 / sqrt(DRAWS));
}

/* Streams of one seed, and seeds of one stream, have nothing in common. */
static void test_streams_are_independent(void) {
    enum { DRAWS = 4000 };
    static const uint64_t starts[][4] = {{0, 1, 0, 2}, {7, 1, 7, 2}, {0, 1, 1, 1}, {7, 2, 8, 2}};
    for (size_t k = 0; k < sizeof starts / sizeof starts[0]; k++) {
        s2_rng one, other;
        s2_rng_seed(&one, starts[k][0], starts[k][1]);
        s2_rng_seed(&other, starts[k][2], starts[k][3]);
        unsigned equal = 0;
        double product = 0.0;
        for (int i = 0; i < DRAWS; i++) {
            const uint32_t a = s2_rng_next(&one), b = s2_rng_next(&other);
            equal += a == b;
            product += (a / 4294967296.0 - 0.5) * (b / 4294967296.0 - 0.5) * 12.0;
        }
        CHECK(equal <= 1);
        CHECK_NEAR(product / DRAWS, 0.0, 5.0 / sqrt(DRAWS)); /* the correlation */
    }
}

static void test_same_seed_same_sequence(void) {
    s2_rng one, other;
    memset(&other, 0xff, sizeof other); /* seeding leaves nothing of what was there */
    s2_rng_seed(&one, UINT64_MAX, UINT64_MAX);
    s2_rng_seed(&other, UINT64_MAX, UINT64_MAX);
    for (int i = 0; i < 100; i++) {
        CHECK_EQUAL(s2_rng_next(&one), s2_rng_next(&other));
    }
}

int main(void) {
    test_published_sequence();
    test_known_values();
    test_shuffle_permutes();
    test_shuffle_is_fair();
    test_below_is_fair();
    test_below_redraws();
    test_unit();
    test_streams_are_independent();
    test_same_seed_same_sequence();
    return check_report("test_rng");
}
