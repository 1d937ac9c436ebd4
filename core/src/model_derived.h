/*
 * model_derived.h - taps that are computed from the sample (model_derived.c). A build without them
 * has S2_WITHOUT_DERIVED, and refuses blocks that have such taps.
 */
#ifndef S2_MODEL_DERIVED_H
#define S2_MODEL_DERIVED_H

#include "skip2_model.h"

/* tap (width) of x (width); returns whether kind and number are sound, which width 0 asks alone. */
int s2_derive(const s2_derived *of, uint32_t width, const float *x, float *tap);

/* NULL where a build has none. */
extern int (*const s2_derive_if_any)(const s2_derived *of, uint32_t width, const float *x,
                                     float *tap);

#endif
