/*
 * optimizer.c - SGD, momentum, Adam and AdamW. The numbers that change from step to step are computed
 * here once; the kernels apply them (`moved` in kernels_scalar.c, move_vector in kernels_vector.h).
 */
#include "same_bits.h"

#include "skip2.h"

#include <math.h>

s2_status s2_optimizer_check(const s2_optimizer *optimizer) {
    const int known =
        optimizer->rule == S2_SGD || optimizer->rule == S2_MOMENTUM || optimizer->rule == S2_ADAM;
    const int betas = optimizer->beta1 >= 0.0 && optimizer->beta1 < 1.0 &&
                      optimizer->beta2 >= 0.0 && optimizer->beta2 < 1.0;
    const int rest = optimizer->eps > 0.0 && isfinite(optimizer->eps) &&
                     optimizer->weight_decay >= 0.0 && isfinite(optimizer->weight_decay);
    return known && betas && rest ? S2_OK : S2_BAD_VALUE;
}

uint32_t s2_optimizer_moments(s2_rule rule) {
    return rule == S2_ADAM ? 2 : rule == S2_MOMENTUM ? 1 : 0;
}

/* Where there is no FPU for double, only Adam's powers take routines in its place: in float they would
 * make other steps. */
s2_update s2_optimizer_step(s2_optimizer *optimizer, double learning_rate) {
    const double decay = optimizer->weight_decay;
    s2_update update = {
        .rule = optimizer->rule,
        .rate = (float)learning_rate,
        .keep = optimizer->decoupled ? (float)(1.0 - learning_rate * decay) : 1.0f,
        .decay = optimizer->decoupled ? 0.0f : (float)decay,
        .beta1 = (float)optimizer->beta1,
        .blend1 = 1.0f,
        .beta2 = (float)optimizer->beta2,
        .root_scale = 1.0f,
        .eps = (float)optimizer->eps,
    };
    if (optimizer->rule == S2_ADAM) {
        optimizer->beta1_power *= optimizer->beta1;
        optimizer->beta2_power *= optimizer->beta2;
        update.rate = (float)(learning_rate / (1.0 - optimizer->beta1_power));
        update.blend1 = (float)(1.0 - optimizer->beta1);
        update.blend2 = (float)(1.0 - optimizer->beta2);
        update.root_scale = (float)(1.0 / sqrt(1.0 - optimizer->beta2_power));
    }
    return update;
}
