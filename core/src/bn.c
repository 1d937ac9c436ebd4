/* bn.c - batch normalisation and ReLU, which follow every layer but the last (section 3.1). */
#include "kernels.h"

#include <math.h>

void s2_bn_forward_batch(const s2_kernels *kernels, uint32_t count, uint32_t width, float eps,
                         float momentum, const float *z, const float *gamma, const float *beta,
                         float *running_mean, float *running_var, float *mean, float *inv_std,
                         float *y) {
    kernels->moments(count, width, z, mean, inv_std);
    const float unbiased = (float)count / (float)(count - 1u);
    for (size_t c = 0; c < width; c++) {
        const float var = inv_std[c];
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_var[c] += momentum * (var * unbiased - running_var[c]);
        inv_std[c] = 1.0f / sqrtf(var + eps);
    }
    kernels->normalize(count, width, z, mean, inv_std, gamma, beta, y);
}

void s2_bn_forward_frozen(const s2_kernels *kernels, uint32_t count, uint32_t width, float eps,
                          const float *z, const float *gamma, const float *beta,
                          const float *running_mean, const float *running_var, float *mean,
                          float *inv_std, float *y) {
    for (size_t c = 0; c < width; c++) {
        mean[c] = running_mean[c];
        inv_std[c] = 1.0f / sqrtf(running_var[c] + eps);
    }
    kernels->normalize(count, width, z, mean, inv_std, gamma, beta, y);
}

void s2_bn_backward(const s2_kernels *kernels, unsigned types, uint32_t count, uint32_t width,
                    const float *z, const float *gy, const float *gamma, const float *mean,
                    const float *inv_std, float *ggamma, float *gbeta, float *gz) {
    if (types & (S2_W | S2_STATS)) {
        kernels->norm_sums(count, width, z, gy, mean, inv_std, ggamma, gbeta);
    }
    if (types & S2_STATS) {
        kernels->norm_backward(count, width, z, gy, gamma, mean, inv_std, ggamma, gbeta, gz);
    } else {
        kernels->scale_columns(count, width, gy, gamma, inv_std, gz);
    }
}

void s2_relu_forward(const s2_kernels *kernels, size_t size, float *y) {
    kernels->relu_forward(size, y);
}

void s2_relu_backward(const s2_kernels *kernels, size_t size, const float *y, float *gy) {
    kernels->relu_backward(size, y, gy);
}
