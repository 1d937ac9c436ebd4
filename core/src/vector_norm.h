/* vector_norm.h - batch norm and ReLU, a vector of columns at a time; included by kernels_vector.h.
 * Outputs may be their inputs: a row is read before it is written. */

INLINE void column_sums_tile(size_t c, size_t part, size_t count, size_t width, const float *a,
                             float *sum) {
    V total = V_ZERO();
    for (size_t i = 0; i < count; i++) {
        total = V_ADD(total, load_part(a + i * width + c, part));
    }
    store_part(sum + c, part, total);
}

static void vector_column_sums(uint32_t count, uint32_t width, const float *a, float *sum) {
    FOR_VECTORS(width, column_sums_tile, count, width, a, sum);
}

INLINE void moments_tile(size_t c, size_t part, size_t count, size_t width, const float *z,
                         float *mean, float *var) {
    const V share = V_SET(1.0f / (float)count);
    V total = V_ZERO(), squares = V_ZERO();
    for (size_t i = 0; i < count; i++) {
        total = V_ADD(total, load_part(z + i * width + c, part));
    }
    total = V_MUL(total, share);
    for (size_t i = 0; i < count; i++) {
        const V d = V_SUB(load_part(z + i * width + c, part), total);
        squares = V_FMA(d, d, squares);
    }
    store_part(mean + c, part, total);
    store_part(var + c, part, V_MUL(squares, share));
}

/* Mean and biased variance of each column. */
static void vector_moments(uint32_t count, uint32_t width, const float *z, float *mean,
                           float *var) {
    FOR_VECTORS(width, moments_tile, count, width, z, mean, var);
}

INLINE void normalize_tile(size_t c, size_t part, size_t count, size_t width, const float *z,
                           const float *mean, const float *inv_std, const float *gamma,
                           const float *beta, float *y) {
    const V centre = load_part(mean + c, part), shift = load_part(beta + c, part);
    const V scale = V_MUL(load_part(inv_std + c, part), load_part(gamma + c, part));
    for (size_t i = 0; i < count; i++) {
        const size_t at = i * width + c;
        store_part(y + at, part, V_FMA(V_SUB(load_part(z + at, part), centre), scale, shift));
    }
}

static void vector_normalize(uint32_t count, uint32_t width, const float *z, const float *mean,
                             const float *inv_std, const float *gamma, const float *beta,
                             float *y) {
    FOR_VECTORS(width, normalize_tile, count, width, z, mean, inv_std, gamma, beta, y);
}

INLINE void norm_sums_tile(size_t c, size_t part, size_t count, size_t width, const float *z,
                           const float *gy, const float *mean, const float *inv_std, float *ggamma,
                           float *gbeta) {
    const V centre = load_part(mean + c, part);
    V products = V_ZERO(), total = V_ZERO();
    for (size_t i = 0; i < count; i++) {
        const V g = load_part(gy + i * width + c, part);
        products = V_FMA(g, V_SUB(load_part(z + i * width + c, part), centre), products);
        total = V_ADD(total, g);
    }
    store_part(ggamma + c, part, V_MUL(products, load_part(inv_std + c, part)));
    store_part(gbeta + c, part, total);
}

/* ggamma = sum of gy * normalised z; gbeta = sum of gy. */
static void vector_norm_sums(uint32_t count, uint32_t width, const float *z, const float *gy,
                             const float *mean, const float *inv_std, float *ggamma, float *gbeta) {
    FOR_VECTORS(width, norm_sums_tile, count, width, z, gy, mean, inv_std, ggamma, gbeta);
}

INLINE void norm_backward_tile(size_t c, size_t part, size_t count, size_t width, const float *z,
                               const float *gy, const float *gamma, const float *mean,
                               const float *inv_std, const float *ggamma, const float *gbeta,
                               float *gz) {
    const V share = V_SET(1.0f / (float)count), deviation = load_part(inv_std + c, part);
    const V centre = load_part(mean + c, part),
            scale = V_MUL(load_part(gamma + c, part), deviation);
    const V offset = V_MUL(share, load_part(gbeta + c, part));
    const V slope = V_MUL(V_MUL(share, load_part(ggamma + c, part)), deviation);
    for (size_t i = 0; i < count; i++) {
        const size_t at = i * width + c;
        const V centred = V_SUB(load_part(gy + at, part), offset);
        store_part(gz + at, part,
                   V_MUL(scale, V_FMA(slope, V_SUB(centre, load_part(z + at, part)), centred)));
    }
}

/* gz through the batch's mean and variance. */
static void vector_norm_backward(uint32_t count, uint32_t width, const float *z, const float *gy,
                                 const float *gamma, const float *mean, const float *inv_std,
                                 const float *ggamma, const float *gbeta, float *gz) {
    FOR_VECTORS(width, norm_backward_tile, count, width, z, gy, gamma, mean, inv_std, ggamma, gbeta,
                gz);
}

INLINE void scale_columns_tile(size_t c, size_t part, size_t count, size_t width, const float *gy,
                               const float *gamma, const float *inv_std, float *gz) {
    const V scale = V_MUL(load_part(gamma + c, part), load_part(inv_std + c, part));
    for (size_t i = 0; i < count; i++) {
        store_part(gz + i * width + c, part, V_MUL(load_part(gy + i * width + c, part), scale));
    }
}

/* gz where the statistics are constants. */
static void vector_scale_columns(uint32_t count, uint32_t width, const float *gy,
                                 const float *gamma, const float *inv_std, float *gz) {
    FOR_VECTORS(width, scale_columns_tile, count, width, gy, gamma, inv_std, gz);
}

INLINE void relu_forward_tile(size_t i, size_t part, float *y) {
    const V value = load_part(y + i, part);
    store_part(y + i, part, choose(V_LESS(value, V_ZERO()), V_ZERO(), value)); /* NaN stays NaN */
}

static void vector_relu_forward(size_t size, float *y) {
    FOR_VECTORS(size, relu_forward_tile, y);
}

INLINE void relu_backward_tile(size_t i, size_t part, const float *y, float *gy) {
    const VI on = V_LESS(V_ZERO(), load_part(y + i, part));
    store_part(gy + i, part, choose(on, load_part(gy + i, part), V_ZERO()));
}

static void vector_relu_backward(size_t size, const float *y, float *gy) {
    FOR_VECTORS(size, relu_backward_tile, y, gy);
}
