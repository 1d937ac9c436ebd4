/* loss.c - losses of a row-major batch. Softmax of few outputs goes through samples in lanes. */
#include "same_bits.h"

#include "kernels.h"

size_t s2_loss_scratch_floats(const s2_kernels *kernels, uint32_t count, uint32_t n_outputs) {
    return n_outputs > S2_FEW_OUTPUTS ? 0 : s2_times(n_outputs, s2_round_up(count, kernels->lanes));
}

static void through_lanes(const s2_kernels *kernels, const s2_loss_pass *rows, float *scratch,
                          s2_batch_stats *stats) {
    const size_t lanes = s2_round_up(rows->count, kernels->lanes), n_outputs = rows->n_outputs;
    for (size_t o = 0; o < n_outputs; o++) {
        for (size_t s = 0; s < lanes; s++) {
            scratch[o * lanes + s] = s < rows->count ? rows->logits[s * n_outputs + o] : 0.0f;
        }
    }
    const s2_loss_pass pass = {.count = rows->count,
                               .n_outputs = rows->n_outputs,
                               .lanes = lanes,
                               .logits = scratch,
                               .label = rows->label,
                               .weight = rows->weight};
    kernels->loss_lanes(&pass, stats);
    for (size_t s = 0; s < rows->count; s++) {
        for (size_t o = 0; o < n_outputs; o++) {
            rows->logits[s * n_outputs + o] = scratch[o * lanes + s];
        }
    }
}

void s2_loss_cross_entropy(const s2_kernels *kernels, uint32_t count, uint32_t n_outputs,
                           const int32_t *label, const float *weight, float *logits,
                           s2_batch_stats *stats, float *scratch) {
    const s2_loss_pass pass = {
        .count = count, .n_outputs = n_outputs, .logits = logits, .label = label, .weight = weight};
    if (n_outputs > S2_FEW_OUTPUTS) {
        kernels->loss_rows(&pass, stats);
    } else {
        through_lanes(kernels, &pass, scratch, stats);
    }
}

void s2_loss_targets(const s2_kernels *kernels, s2_loss loss, uint32_t count, uint32_t n_outputs,
                     const float *const *target, const float *weight, float *logits,
                     s2_batch_stats *stats) {
    const float mean_share = 1.0f / (float)count;
    double total = 0.0;
    stats->correct = 0;
    for (size_t s = 0; s < count; s++) {
        const float share = s2_weighted(weight, s, mean_share);
        const double own = (double)s2_weighted(weight, s, 1.0f);
        float *of_sample = logits + s * n_outputs;
        if (loss == S2_SQUARED) {
            total += own * (double)kernels->loss_squared(n_outputs, target[s], share, of_sample);
            continue;
        }
        int right = 1;
        for (size_t o = 0; o < n_outputs; o++) {
            right &= (of_sample[o] > 0.0f) == (target[s][o] > 0.5f);
        }
        stats->correct += (uint32_t)right;
        total += own * (double)kernels->loss_sigmoid(n_outputs, target[s], share, of_sample);
    }
    stats->loss = (float)(total / count);
}
