/* change.c - evidence of a change, added up over p-values. */
#include "same_bits.h"

#include "skip2_novelty.h"

#include "polynomials.h"

#define HIGHEST 1e300  /* one more bet cannot pass what a double holds */
#define LOWEST  1e-30f /* a p-value that a float's logarithm is right of */

/* k * p^(k - 1), averaged over k. */
static float bet_on(double p) {
    static const float powers[] = {0.1f, 0.3f, 0.5f, 0.7f, 0.9f};
    enum { N_POWERS = sizeof powers / sizeof powers[0] };
    const float log_p = log_poly(p > (double)LOWEST ? (float)p : LOWEST);
    float sum = 0.0f;
    for (int i = 0; i < N_POWERS; i++) {
        sum += powers[i] * exp_poly((powers[i] - 1.0f) * log_p);
    }
    return sum / (float)N_POWERS;
}

s2_status s2_change_add(s2_change *change, double p, double p_all, double limit) {
    if (!(p > 0.0 && p <= 1.0 && p_all > 0.0 && p_all <= 1.0 && limit > 0.0)) {
        return S2_BAD_VALUE;
    }
    const float bet = (2.0f * bet_on(p) + bet_on(p_all)) / 3.0f;
    change->n_rows++;
    change->recent = change->recent << 1 | (p < S2_NOVEL);
    change->statistic = (1.0 + change->statistic) * (double)bet;
    if (!(change->statistic < HIGHEST)) {
        change->statistic = HIGHEST;
    }
    if (change->alarm != 0) {
        return S2_OK;
    }
    const double rise = change->rise + (double)log_poly(bet);
    if (rise <= 0.0) {
        change->since = 0;
    } else if (change->since == 0) {
        change->since = change->n_rows;
    }
    change->rise = rise > 0.0 ? rise : 0.0;
    if (change->statistic >= limit) {
        change->alarm = change->n_rows;
    }
    return S2_OK;
}

double s2_change_share(const s2_change *change) {
    const uint64_t n = change->n_rows < S2_RECENT ? change->n_rows : S2_RECENT;
    unsigned novel = 0;
    for (uint64_t i = 0; i < n; i++) {
        novel += change->recent >> i & 1u;
    }
    return n == 0 ? 0.0 : (double)novel / (double)n;
}
