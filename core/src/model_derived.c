/* model_derived.c - taps that are computed from the sample itself. */
#include "same_bits.h"

#include "model_derived.h"

#include "polynomials.h"

#include <math.h>

static int is_sound(const s2_derived *of) {
    return of->kind >= S2_LOG && of->kind <= S2_FOURTH_POWER && of->number >= FLT_MIN &&
           isfinite(of->number);
}

/* The core's own logarithm: the same bits everywhere. */
int s2_derive(const s2_derived *of, uint32_t width, const float *x, float *tap) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < width; i++) {
        if (of->kind <= S2_LOG_CENTRED) {
            tap[i] = log_poly((x[i] > 0.0f ? x[i] : 0.0f) + of->number);
            sum += tap[i];
        } else {
            const float whole = x[i] / of->number;
            const float unit = whole > 1.0f ? 1.0f : whole < -1.0f ? -1.0f : whole;
            tap[i] = unit * unit;
            for (uint32_t power = S2_SQUARE; power < of->kind; power++) {
                tap[i] *= unit;
            }
        }
    }
    for (uint32_t i = 0; of->kind == S2_LOG_CENTRED && i < width; i++) {
        tap[i] -= sum / (float)width;
    }
    return is_sound(of);
}
