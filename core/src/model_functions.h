/* model_functions.h - sigmoid and tanh by the core's own exp: the same bits everywhere. */
#ifndef S2_MODEL_FUNCTIONS_H
#define S2_MODEL_FUNCTIONS_H

#include "polynomials.h"

/* Error about 1e-7. */
static inline float sigmoid(float x) {
    return 1.0f / (1.0f + exp_poly(-x));
}

static inline float hyperbolic_tangent(float x) {
    const float e = exp_poly(x < 0.0f ? 2.0f * x : -2.0f * x); /* of -2 |x| */
    const float size = (1.0f - e) / (1.0f + e);
    return x < 0.0f ? -size : size;
}

#endif
