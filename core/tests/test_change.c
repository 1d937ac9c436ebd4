/* test_change.c - bets, their sum, when it began to rise, and the share of novel rows. */
#include "guard.h"

#include "skip2_novelty.h"

static double bet(double p) {
    return (0.1 * pow(p, -0.9) + 0.3 * pow(p, -0.7) + 0.5 * pow(p, -0.5) + 0.7 * pow(p, -0.3) +
            0.9 * pow(p, -0.1)) /
           5;
}

static void test_statistic(void) {
    s2_change change = {0};
    double statistic = 0;
    s2_rng rng;
    s2_rng_seed(&rng, 1, 1);
    for (int i = 0; i < 200; i++) {
        const double p = (s2_rng_below(&rng, 40) + 1) / 40.0;
        statistic = (1 + statistic) * bet(p);
        CHECK_EQUAL(s2_change_add(&change, p, p, 1e200), S2_OK);
        CHECK_NEAR(change.statistic / statistic, 1, 1e-4);
    }
    CHECK_EQUAL(change.n_rows, 200);
    CHECK_EQUAL(change.alarm, 0);
}

/* Two bets on the p-value of the mode, one on that of all rows. */
static void test_weights(void) {
    s2_change change = {0};
    CHECK_EQUAL(s2_change_add(&change, 0.02, 0.3, 1e5), S2_OK);
    CHECK_NEAR(change.statistic, (2 * bet(0.02) + bet(0.3)) / 3, 1e-5);
    CHECK(s2_change_share(&change) == 1); /* the mode's tells what is novel */
    CHECK_EQUAL(s2_change_add(&change, 0.3, 0.02, 1e5), S2_OK);
    CHECK(s2_change_share(&change) == 0.5);
    const double second = (2 * bet(0.3) + bet(0.02)) / 3;
    CHECK_NEAR(change.statistic, (1 + (2 * bet(0.02) + bet(0.3)) / 3) * second, 1e-4);
}

/* The mean bet of uniform p-values is 1, and less where they are multiples. */
static void test_mean_bet(void) {
    enum { N = 50 };
    double sum = 0;
    for (int i = 1; i <= N; i++) {
        s2_change change = {0};
        CHECK_EQUAL(s2_change_add(&change, (double)i / N, (double)i / N, 1e5), S2_OK);
        sum += change.statistic;
    }
    CHECK(sum / N < 1 && sum / N > 0.6);
}

/* 1000 quiet rows, then novel ones: `since` is the largest product of bets that ends here. */
static void test_since(void) {
    enum { QUIET = 1000, NOVEL = 40 };
    static double p[QUIET + NOVEL];
    s2_change change = {0};
    s2_rng rng;
    s2_rng_seed(&rng, 2, 1);
    uint64_t alarm = 0;
    for (int i = 0; i < QUIET + NOVEL; i++) {
        p[i] = i < QUIET ? (s2_rng_below(&rng, 38) + 1) / 38.0 : 1 / 38.0;
        CHECK_EQUAL(s2_change_add(&change, p[i], p[i], 1e5), S2_OK);
        if (change.alarm == 0 || alarm == 0) {
            double best = 0, sum = 0;
            uint64_t since = 0;
            for (int start = i; start >= 0; start--) {
                sum += log(bet(p[start]));
                if (sum > best) {
                    best = sum;
                    since = (uint64_t)start + 1;
                }
            }
            CHECK_EQUAL(change.since, since);
            CHECK_NEAR(change.rise, best, 1e-4);
        }
        alarm = change.alarm;
    }
    CHECK(alarm > QUIET && alarm <= QUIET + 13);
    CHECK(change.since >= QUIET - 5 && change.since <= QUIET + 1);
    CHECK_NEAR(s2_change_share(&change), (NOVEL + 0.0) / S2_RECENT, 0.05);
    for (int i = 0; i < 1000; i++) { /* quiet again: the alarm stays, and where it came from */
        CHECK_EQUAL(s2_change_add(&change, 1, 1, 1e5), S2_OK);
    }
    CHECK_EQUAL(change.alarm, alarm);
    CHECK(change.since >= QUIET - 5 && change.since <= QUIET + 1);
    CHECK(change.statistic < 1.001 && s2_change_share(&change) == 0);
}

static void test_bounds(void) {
    s2_change change = {0};
    CHECK(s2_change_share(&change) == 0);
    CHECK_EQUAL(s2_change_add(&change, 0, 0.5, 1e5), S2_BAD_VALUE);
    CHECK_EQUAL(s2_change_add(&change, 1.5, 0.5, 1e5), S2_BAD_VALUE);
    CHECK_EQUAL(s2_change_add(&change, 0.5, 0, 1e5), S2_BAD_VALUE);
    CHECK_EQUAL(s2_change_add(&change, 0.5, 1.5, 1e5), S2_BAD_VALUE);
    CHECK_EQUAL(s2_change_add(&change, 0.5, (double)NAN, 1e5), S2_BAD_VALUE);
    CHECK_EQUAL(s2_change_add(&change, (double)NAN, 0.5, 1e5), S2_BAD_VALUE);
    CHECK_EQUAL(s2_change_add(&change, 0.5, 0.5, 0), S2_BAD_VALUE);
    CHECK_EQUAL(s2_change_add(&change, 0.5, 0.5, (double)NAN), S2_BAD_VALUE);
    CHECK_EQUAL(change.n_rows, 0);
    for (int i = 0; i < 3000; i++) {
        CHECK_EQUAL(s2_change_add(&change, i % 2 ? 1e-300 : 1e-3, 1e-3, 1e5), S2_OK);
        CHECK(change.statistic <= 1e300 && isfinite(change.rise));
    }
    CHECK(change.statistic == 1e300 && s2_change_share(&change) == 1);
    s2_change few = {0};
    CHECK_EQUAL(s2_change_add(&few, 0.05, 0.05, 1e5), S2_OK); /* not below */
    CHECK_EQUAL(s2_change_add(&few, 0.049, 0.05, 1e5), S2_OK);
    CHECK(s2_change_share(&few) == 0.5);
}

int main(void) {
    test_statistic();
    test_weights();
    test_mean_bet();
    test_since();
    test_bounds();
    return check_report("test_change");
}
