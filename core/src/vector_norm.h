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

/* The pointers of a pass are read once: a vector that is stored may lie anywhere for the compiler. */
INLINE void normalize_tile(size_t c, size_t part, const s2_bn_pass *pass) {
    const size_t count = pass->count, width = pass->width;
    const float *z = pass->z;
    float *y = pass->y;
    const V centre = load_part(pass->mean + c, part), shift = load_part(pass->beta + c, part);
    const V scale = V_MUL(load_part(pass->inv_std + c, part), load_part(pass->gamma + c, part));
    for (size_t i = 0; i < count; i++) {
        const size_t at = i * width + c;
        store_part(y + at, part, V_FMA(V_SUB(load_part(z + at, part), centre), scale, shift));
    }
}

static void vector_normalize(const s2_bn_pass *pass) {
    FOR_VECTORS(pass->width, normalize_tile, pass);
}

INLINE void norm_sums_tile(size_t c, size_t part, const s2_bn_pass *pass) {
    const size_t count = pass->count, width = pass->width;
    const float *z = pass->z, *gy = pass->gy;
    const V centre = load_part(pass->mean + c, part);
    V products = V_ZERO(), total = V_ZERO();
    for (size_t i = 0; i < count; i++) {
        const V g = load_part(gy + i * width + c, part);
        products = V_FMA(g, V_SUB(load_part(z + i * width + c, part), centre), products);
        total = V_ADD(total, g);
    }
    store_part(pass->ggamma + c, part, V_MUL(products, load_part(pass->inv_std + c, part)));
    store_part(pass->gbeta + c, part, total);
}

/* ggamma = sum of gy * normalised z; gbeta = sum of gy. */
static void vector_norm_sums(const s2_bn_pass *pass) {
    FOR_VECTORS(pass->width, norm_sums_tile, pass);
}

INLINE void norm_backward_tile(size_t c, size_t part, const s2_bn_pass *pass) {
    const size_t count = pass->count, width = pass->width;
    const float *z = pass->z, *gy = pass->gy;
    float *gz = pass->gz;
    const V share = V_SET(1.0f / (float)count), deviation = load_part(pass->inv_std + c, part);
    const V centre = load_part(pass->mean + c, part),
            scale = V_MUL(load_part(pass->gamma + c, part), deviation);
    const V offset = V_MUL(share, load_part(pass->gbeta + c, part));
    const V slope = V_MUL(V_MUL(share, load_part(pass->ggamma + c, part)), deviation);
    for (size_t i = 0; i < count; i++) {
        const size_t at = i * width + c;
        const V centred = V_SUB(load_part(gy + at, part), offset);
        store_part(gz + at, part,
                   V_MUL(scale, V_FMA(slope, V_SUB(centre, load_part(z + at, part)), centred)));
    }
}

static void vector_norm_backward(const s2_bn_pass *pass) {
    FOR_VECTORS(pass->width, norm_backward_tile, pass);
}

INLINE void scale_columns_tile(size_t c, size_t part, const s2_bn_pass *pass) {
    const size_t count = pass->count, width = pass->width;
    const float *gy = pass->gy;
    float *gz = pass->gz;
    const V scale = V_MUL(load_part(pass->gamma + c, part), load_part(pass->inv_std + c, part));
    for (size_t i = 0; i < count; i++) {
        store_part(gz + i * width + c, part, V_MUL(load_part(gy + i * width + c, part), scale));
    }
}

static void vector_scale_columns(const s2_bn_pass *pass) {
    FOR_VECTORS(pass->width, scale_columns_tile, pass);
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
