/*
 * test_loss.c - cross entropy on logits small enough for a hand: equal ones, far ones, weights.
 */
#include "guard.h"

#include "kernels.h"

static void test_loss(const s2_kernels *kernels) {
    const float *logits = FLOATS(0, 0, 0, 0, /**/ 5, 5, 5, 5, /**/ 1e4f, 0, 0, -1e4f);
    const int32_t labels[] = {2, 0, 0};
    int32_t *label = guarded(sizeof labels);
    memcpy(label, labels, sizeof labels);
    float *grad = guarded_copy(logits, 12 * sizeof *logits),
          *scratch = guarded_floats(s2_loss_scratch_floats(kernels, 3, 4));
    s2_batch_stats stats;
    s2_loss_cross_entropy(kernels, 3, 4, label, NULL, grad, &stats, scratch);
    CHECK_NEAR(stats.loss, 2.0 * log(4.0) / 3.0, 1e-6);
    CHECK_EQUAL(stats.correct, 2); /* of equals the first is the prediction */
    static const double expected[] = {1 / 12., 1 / 12., -1 / 4., 1 / 12., -1 / 4., 1 / 12.,
                                      1 / 12., 1 / 12., 0,       0,       0,       0};
    for (size_t i = 0; i < 12; i++) {
        CHECK_NEAR(grad[i], expected[i], 1e-7);
    }
    const float weights[] = {1, 2, 0};
    const float *weight = guarded_copy(weights, sizeof weights);
    float *weighted = guarded_copy(logits, 12 * sizeof *logits);
    s2_loss_cross_entropy(kernels, 3, 4, label, weight, weighted, &stats, scratch);
    CHECK_NEAR(stats.loss, 3.0 * log(4.0) / 3.0, 1e-6);
    CHECK_EQUAL(stats.correct, 2);
    for (size_t i = 0; i < 12; i++) { /* a weight is exact, and 0 leaves nothing */
        CHECK_NEAR(weighted[i], (double)(weights[i / 4] * grad[i]), 0.0);
    }
}

int main(void) {
    with_each_table(test_loss);
    return check_report("test_loss");
}
