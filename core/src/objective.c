/* objective.c - the weighted loss of samples in lanes, for exact solvers. */
#include "kernels.h"

#include <math.h>

/* How far shares may sum to other than 1: rounding of 1,000 of them. */
#define SHARES_OFF 1e-4

static int is_target(const s2_objective *objective, size_t lane) {
    double sum = 0.0;
    for (size_t o = 0; o < objective->n_outputs; o++) {
        const float target = objective->target[o * objective->target_stride + lane];
        if (!isfinite(target) ||
            (objective->loss != S2_SQUARED && !(target >= 0.0f && target <= 1.0f))) {
            return 0;
        }
        sum += (double)target;
    }
    return objective->loss != S2_SOFTMAX || fabs(sum - 1.0) <= SHARES_OFF;
}

s2_status s2_objective_check(const s2_objective *objective) {
    int weighted = 0;
    if (objective->n_outputs == 0 || objective->lanes == 0 ||
        objective->lanes % S2_SAMPLE_LANES != 0 || objective->target_stride < objective->lanes) {
        return S2_BAD_SHAPE;
    }
    if (objective->loss != S2_SOFTMAX && objective->loss != S2_SIGMOID &&
        objective->loss != S2_SQUARED) {
        return S2_BAD_VALUE;
    }
    for (size_t s = 0; s < objective->lanes; s++) {
        const float weight = objective->weight[s];
        if (!(weight >= 0.0f) || !isfinite(weight) || (weight > 0.0f && !is_target(objective, s))) {
            return S2_BAD_VALUE;
        }
        weighted |= weight > 0.0f;
    }
    return weighted ? S2_OK : S2_BAD_VALUE;
}

s2_status s2_samples_check(const s2_objective *objective, uint32_t n_samples) {
    if (n_samples == 0 || objective->lanes != s2_sample_lanes(n_samples)) {
        return S2_BAD_SHAPE;
    }
    const s2_status status = s2_objective_check(objective);
    for (size_t s = n_samples; status == S2_OK && s < objective->lanes; s++) {
        if (objective->weight[s] != 0.0f) {
            return S2_BAD_VALUE;
        }
    }
    return status;
}

double s2_objective_loss(const s2_objective *objective, const float *logits, float *grad) {
    return objective->kernels->objective(objective, logits, grad);
}
