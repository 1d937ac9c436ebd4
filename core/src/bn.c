/* bn.c - batch normalisation and ReLU, which follow every layer but the last (section 3.1). */
#include "same_bits.h"

#include "kernels.h"

#include <math.h>

void s2_bn_forward_batch(const s2_kernels *kernels, const s2_bn_pass *pass) {
    float *mean = pass->mean, *inv_std = pass->inv_std;
    float *running_mean = pass->running_mean, *running_var = pass->running_var;
    const float momentum = pass->momentum, eps = pass->eps;
    kernels->moments(pass->count, pass->width, pass->z, mean, inv_std);
    const float unbiased = (float)pass->count / (float)(pass->count - 1u);
    for (size_t c = 0; c < pass->width; c++) {
        const float var = inv_std[c];
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_var[c] += momentum * (var * unbiased - running_var[c]);
        inv_std[c] = 1.0f / sqrtf(var + eps);
    }
    kernels->normalize(pass);
}

void s2_bn_forward_frozen(const s2_kernels *kernels, const s2_bn_pass *pass) {
    const float eps = pass->eps;
    for (size_t c = 0; c < pass->width; c++) {
        pass->mean[c] = pass->running_mean[c];
        pass->inv_std[c] = 1.0f / sqrtf(pass->running_var[c] + eps);
    }
    kernels->normalize(pass);
}

void s2_bn_backward(const s2_kernels *kernels, unsigned types, const s2_bn_pass *pass) {
    if (types & (S2_W | S2_STATS)) {
        kernels->norm_sums(pass);
    }
    if (types & S2_STATS) {
        kernels->norm_backward(pass);
    } else {
        kernels->scale_columns(pass);
    }
}

void s2_relu_forward(const s2_kernels *kernels, size_t size, float *y) {
    kernels->relu_forward(size, y);
}

void s2_relu_backward(const s2_kernels *kernels, size_t size, const float *y, float *gy) {
    kernels->relu_backward(size, y, gy);
}
