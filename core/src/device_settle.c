/* device_settle.c - the exact solver's solution as adapters, and what becomes of classes without
 * samples. */
#include "same_bits.h"

#include "device_solve.h"

#include "polynomials.h"

#include <string.h>

/* log(exp(a) + exp(b)) */
static float log_sum(float a, float b) {
    const float high = a > b ? a : b, low = a > b ? b : a;
    return high + log_poly(1.0f + exp_poly(low - high));
}

/* How much more likely classes without samples are than those with, of one sample. */
static float margin_of(const s2_solving *of, size_t s) {
    float others = -FLT_MAX, known = -FLT_MAX;
    for (uint32_t o = 0, next = 0; o < of->device->layout.n_outputs; o++) {
        if (next < of->n_learned && of->learned[next] == o) {
            const size_t at = next * of->lanes + s;
            known = log_sum(known, of->offset[at] + of->logits[at] + of->bias[next]);
            next++;
        } else {
            others = log_sum(others, s2_base_logits(of, s)[o]);
        }
    }
    return others - known;
}

static double mean_share(const s2_solving *of, float shift) {
    double sum = 0.0;
    for (size_t s = 0; s < of->n_samples; s++) {
        const float z = of->margin[s] - shift, power = exp_poly(z > 0.0f ? -z : z);
        sum += (double)((z > 0.0f ? 1.0f : power) / (1.0f + power));
    }
    return sum / (double)of->n_samples;
}

/* What is added to the classes that have samples, so that others have a mean probability of 1 in n + 1
 * at most. */
static float shift_of(const s2_solving *of) {
    const double most = 1.0 / ((double)of->n_samples + 1.0);
    float low = 0.0f, high = 0.0f;
    if (of->n_learned == of->device->layout.n_outputs) {
        return 0.0f;
    }
    for (size_t s = 0; s < of->n_samples; s++) {
        of->margin[s] = margin_of(of, s);
        high = s == 0 || of->margin[s] > high ? of->margin[s] : high;
    }
    if (mean_share(of, 0.0f) <= most) {
        return 0.0f;
    }
    high -= log_poly((float)(most / (1.0 - most)));
    for (int i = 0; i < 30; i++) {
        const float middle = 0.5f * (low + high);
        const int fits = mean_share(of, middle) <= most;
        high = fits ? middle : high;
        low = fits ? low : middle;
    }
    return high;
}

/* Adapters of one tap from `weights` (width, n_learned), for the tap as it is: the narrower of
 * lora_a and lora_b is the identity. */
static void set_tap(const s2_solving *of, uint32_t k) {
    s2_adapter adapter = of->device->adapter; /* whose numbers lie elsewhere */
    const s2_columns *columns = &of->columns[k];
    const size_t width = columns->width, rank = adapter.rank;
    const size_t n_outputs = adapter.layout->n_outputs;
    const int has_few = of->n_learned <= rank;
    memset(of->lora_a, 0, width * rank * sizeof(float));
    memset(of->lora_b, 0, rank * n_outputs * sizeof(float));
    for (size_t c = 0; c < width; c++) {
        for (size_t o = 0; o < of->n_learned; o++) {
            const float weight = of->weights[c * of->n_learned + o] * columns->scale[c];
            of->total[of->learned[o]] -= (double)columns->mean[c] * (double)weight;
            if (has_few) {
                of->lora_a[c * rank + o] = weight;
                of->lora_b[o * n_outputs + of->learned[o]] = 1.0f;
            } else {
                of->lora_a[c * rank + c] = 1.0f;
                of->lora_b[c * n_outputs + of->learned[o]] = weight;
            }
        }
    }
    s2_adapter_pack(&adapter, k, of->lora_a, of->lora_b);
}

/* Weights of the columns of tap k, whose first is column `start` of all. */
static s2_status find_weights(const s2_solving *of, uint32_t k, size_t start) {
    if (of->solver == S2_SOLVE_DUAL) {
        return s2_column_weights(&of->columns[k], of->n_learned, of->coefficients, of->weights,
                                 of->room, of->room_bytes);
    }
    for (size_t c = 0; c < of->columns[k].width; c++) {
        for (size_t o = 0; o < of->n_learned; o++) {
            of->weights[c * of->n_learned + o] = of->coefficients[o * of->width + start + c];
        }
    }
    return S2_OK;
}

s2_status s2_device_settle(const s2_solving *of) {
    const s2_device *device = of->device;
    const float shift = shift_of(of);
    memset(of->total, 0, device->layout.n_outputs * sizeof *of->total);
    for (uint32_t o = 0; o < of->n_learned; o++) {
        of->total[of->learned[o]] = (double)of->bias[o] + (double)shift;
    }
    size_t start = 0;
    for (uint32_t k = 0; k < device->layout.n_taps; k++) {
        const s2_status status = find_weights(of, k, start);
        if (status != S2_OK) {
            return status;
        }
        set_tap(of, k);
        start += device->layout.tap_width[k];
    }
    for (uint32_t o = 0; o < device->layout.n_outputs; o++) {
        s2_adapter_bias(&device->adapter)[o] = (float)of->total[o];
    }
    return S2_OK;
}
