/* loss.c - softmax cross entropy of a row-major batch; the kernel works with samples in lanes. */
#include "kernels.h"

size_t s2_loss_scratch_floats(uint32_t count, uint32_t n_outputs) {
    return (size_t)n_outputs * s2_round_up(count, S2_SAMPLE_LANES);
}

void s2_loss_cross_entropy(const s2_kernels *kernels, uint32_t count, uint32_t n_outputs,
                           const float *logits, const int32_t *label, float *grad,
                           s2_batch_stats *stats, float *scratch) {
    const size_t lanes = s2_round_up(count, S2_SAMPLE_LANES);
    for (size_t o = 0; o < n_outputs; o++) {
        for (size_t s = 0; s < lanes; s++) {
            scratch[o * lanes + s] = s < count ? logits[s * n_outputs + o] : 0.0f;
        }
    }
    const s2_loss_pass pass = {
        .count = count, .n_outputs = n_outputs, .lanes = lanes, .logits = scratch, .label = label};
    kernels->cross_entropy(&pass, stats);
    for (size_t s = 0; s < count; s++) {
        for (size_t o = 0; o < n_outputs; o++) {
            grad[s * n_outputs + o] = scratch[o * lanes + s];
        }
    }
}
