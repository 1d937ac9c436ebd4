/* loss.c - softmax cross entropy of a row-major batch. Few outputs go through samples in lanes. */
#include "kernels.h"

#include <string.h>

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
                               .label = rows->label};
    kernels->loss_lanes(&pass, stats);
    for (size_t s = 0; s < rows->count; s++) {
        for (size_t o = 0; o < n_outputs; o++) {
            rows->logits[s * n_outputs + o] = scratch[o * lanes + s];
        }
    }
}

void s2_loss_cross_entropy(const s2_kernels *kernels, uint32_t count, uint32_t n_outputs,
                           const float *logits, const int32_t *label, float *grad,
                           s2_batch_stats *stats, float *scratch) {
    const s2_loss_pass pass = {
        .count = count, .n_outputs = n_outputs, .logits = grad, .label = label};
    if (grad != logits) {
        memcpy(grad, logits, (size_t)count * n_outputs * sizeof *grad);
    }
    if (n_outputs > S2_FEW_OUTPUTS) {
        kernels->loss_rows(&pass, stats);
    } else {
        through_lanes(kernels, &pass, scratch, stats);
    }
}
