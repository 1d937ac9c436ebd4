/*
 * test_layers.c - every layer on numbers small enough for a hand, all of them exact in float, and
 * on sizes around the tiles, between guard pages, against a plain double loop.
 */
#include "guard.h"

#include "kernels.h"

#define SAME(got, ...)                                                                             \
    CHECK_SAME((got), ((const float[]){__VA_ARGS__}), sizeof((const float[]){__VA_ARGS__}))

static int all_untouched(const float *values, size_t count) {
    size_t untouched = 0;
    for (const unsigned char *byte = (const unsigned char *)values;
         untouched < count * sizeof(float) && byte[untouched] == 0xff; untouched++) {
    }
    return untouched == count * sizeof(float);
}

/* Table 1: each set of types writes the gradients it names and no other. */
static void test_fc(const s2_kernels *kernels) {
    static const unsigned types[] = {
        S2_Y,       S2_Y | S2_W | S2_B | S2_X, S2_Y | S2_W | S2_B, S2_Y | S2_B | S2_X, S2_Y | S2_B,
        S2_Y | S2_X};
    const float *x = FLOATS(1, 2, 3, 4, 5, 6), *weight = FLOATS(1, -1, 2, 0, -3, 4);
    const float *gy = FLOATS(1, 2, -1, 3), *bias = FLOATS(10, 20);
    float *y = guarded_floats(4);
    s2_fc_pass pass = {.count = 2,
                       .n_in = 3,
                       .n_out = 2,
                       .x = x,
                       .weight = weight,
                       .bias = bias,
                       .y = y,
                       .gy = gy};
    s2_fc_forward(kernels, &pass);
    SAME(y, 6, 31, 6, 40);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        check_where("%s, types %u", s2_kernels_name(kernels), types[t]);
        float *gw = guarded_floats(6), *gb = guarded_floats(2), *gx = guarded_floats(6);
        pass.gw = gw, pass.gb = gb, pass.gx = gx;
        s2_fc_backward(kernels, types[t], &pass);
        if (types[t] & S2_W) {
            SAME(gw, -3, 14, -3, 19, -3, 24);
        }
        if (types[t] & S2_B) {
            SAME(gb, 0, 5);
        }
        if (types[t] & S2_X) {
            SAME(gx, -1, 2, 5, -4, -2, 15);
        }
        CHECK((types[t] & S2_W) || all_untouched(gw, 6));
        CHECK((types[t] & S2_B) || all_untouched(gb, 2));
        CHECK((types[t] & S2_X) || all_untouched(gx, 6));
    }
}

static void test_lora(const s2_kernels *kernels) {
    static const unsigned types[] = {S2_Y | S2_W, S2_Y | S2_W | S2_X, S2_Y | S2_X, S2_Y};
    const float *x = FLOATS(1, 2, 3, 4, 5, 6), *gy = FLOATS(1, 2, -1, 3);
    const float *lora_a = FLOATS(1, 0, 1, 0, 1, -1), *lora_b = FLOATS(1, 2, 3, -1);
    float *hidden = guarded_floats(4), *y = FLOATS(100, 200, 300, 400);
    s2_lora_pass pass = {.count = 2,
                         .n_in = 3,
                         .n_out = 2,
                         .rank = 2,
                         .x = x,
                         .lora_a = lora_a,
                         .lora_b = lora_b,
                         .hidden = hidden,
                         .y = y,
                         .gy = gy};
    s2_lora_forward(kernels, &pass);
    SAME(hidden, 4, -1, 10, -1);
    SAME(y, 101, 209, 307, 421); /* Eq. 9 adds */
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        check_where("%s, types %u", s2_kernels_name(kernels), types[t]);
        float *gh = guarded_floats(4), *gwa = guarded_floats(6), *gwb = guarded_floats(4);
        float *gx = FLOATS(1, 1, 1, 1, 1, 1);
        pass.gh = gh, pass.gwa = gwa, pass.gwb = gwb, pass.gx = gx;
        s2_lora_backward(kernels, types[t], &pass);
        SAME(gh, 5, 1, 5, -6);
        if (types[t] & S2_W) {
            SAME(gwb, -6, 38, 0, -5);
            SAME(gwa, 25, 35, 45, -23, -28, -33);
        }
        CHECK((types[t] & S2_W) || (all_untouched(gwa, 6) && all_untouched(gwb, 4)));
        if (types[t] & S2_X) {
            SAME(gx, 6, 2, 5, 6, -5, 12); /* Eq. 14 adds */
        } else {
            SAME(gx, 1, 1, 1, 1, 1, 1);
        }
    }
}

/* Columns 1, 3 and 0, 4: variances 1 and 4, with eps 0 inverse deviations 1 and 1/2. */
static void test_bn_batch(const s2_kernels *kernels) {
    const float *z = FLOATS(1, 0, 3, 4), *gamma = FLOATS(2, 3), *beta = FLOATS(10, 20);
    const float *gy = FLOATS(1, 2, 3, 8);
    float *running_mean = FLOATS(4, 4), *running_var = FLOATS(6, 16);
    float *mean = guarded_floats(2), *inv_std = guarded_floats(2), *y = guarded_floats(4);
    s2_bn_pass pass = {.count = 2,
                       .width = 2,
                       .momentum = 0.25f,
                       .running_mean = running_mean,
                       .running_var = running_var,
                       .z = z,
                       .gamma = gamma,
                       .beta = beta,
                       .mean = mean,
                       .inv_std = inv_std,
                       .y = y,
                       .gy = gy};
    s2_bn_forward_batch(kernels, &pass);
    SAME(mean, 2, 2);
    SAME(inv_std, 1, 0.5f);
    SAME(y, 8, 17, 12, 23);
    SAME(running_mean, 3.5f, 3.5f);
    SAME(running_var, 5, 14); /* a quarter of the way to the unbiased 2 and 8 */

    float *ggamma = guarded_floats(2), *gbeta = guarded_floats(2), *gz = guarded_floats(4);
    pass.ggamma = ggamma, pass.gbeta = gbeta, pass.gz = gz;
    s2_bn_backward(kernels, S2_W | S2_STATS, &pass);
    SAME(ggamma, 2, 6);
    SAME(gbeta, 4, 10);
    SAME(gz, 0, 0, 0, 0); /* two rows are always normalised to -1 and 1 */

    /* Three rows -1, 0, 1 with mean 0 and 1 / deviation 1: centred gy minus a multiple of z. */
    const float *z3 = FLOATS(-1, 0, 1), *gy3 = FLOATS(3, 0, 0), *gamma3 = FLOATS(2);
    float *one = FLOATS(1), *none = FLOATS(0);
    float *gz3 = guarded_floats(3), *sum_gy_z = guarded_floats(1), *sum_gy = guarded_floats(1);
    s2_bn_backward(kernels, S2_STATS,
                   &(s2_bn_pass){.count = 3,
                                 .width = 1,
                                 .z = z3,
                                 .gamma = gamma3,
                                 .mean = none,
                                 .inv_std = one,
                                 .gy = gy3,
                                 .ggamma = sum_gy_z,
                                 .gbeta = sum_gy,
                                 .gz = gz3});
    const float third = 1.0f / 3.0f; /* gz = 2 (gy - 3/3 + 3/3 z), 1/3 being rounded */
    CHECK_NEAR(gz3[0], 2.0f * (3.0f - 3.0f * third - 1.0f), 1e-6);
    CHECK_NEAR(gz3[1], -2.0, 1e-6);
    CHECK_NEAR(gz3[2], 0.0, 1e-6);
}

static void test_bn_frozen(const s2_kernels *kernels) {
    const float *z = FLOATS(1, 0, 3, 4), *gamma = FLOATS(2, 3), *beta = FLOATS(10, 20);
    const float *gy = FLOATS(1, 2, 3, 8);
    float *running_mean = FLOATS(2, 2),
          *running_var = FLOATS(3, 15); /* eps 1: inverse deviations 1/2 and 1/4 */
    float *mean = guarded_floats(2), *inv_std = guarded_floats(2), *y = guarded_floats(4);
    s2_bn_pass pass = {.count = 2,
                       .width = 2,
                       .eps = 1.0f,
                       .running_mean = running_mean,
                       .running_var = running_var,
                       .z = z,
                       .gamma = gamma,
                       .beta = beta,
                       .mean = mean,
                       .inv_std = inv_std,
                       .y = y,
                       .gy = gy};
    s2_bn_forward_frozen(kernels, &pass);
    SAME(mean, 2, 2);
    SAME(inv_std, 0.5f, 0.25f);
    SAME(y, 9, 18.5f, 11, 21.5f);
    float *same = FLOATS(1, 0, 3, 4); /* in place, as inference does */
    pass.z = pass.y = same;
    s2_bn_forward_frozen(kernels, &pass);
    CHECK_SAME(same, y, 4 * sizeof *y);

    float *ggamma = guarded_floats(2), *gbeta = guarded_floats(2), *gz = guarded_floats(4);
    pass.z = z, pass.ggamma = ggamma, pass.gbeta = gbeta, pass.gz = gz;
    s2_bn_backward(kernels, S2_Y, &pass);
    SAME(gz, 1, 1.5f, 3, 6); /* gamma times inverse deviation: 1 and 3/4 */
    float *in_place = FLOATS(1, 2, 3, 8);
    pass.gy = pass.gz = in_place;
    s2_bn_backward(kernels, S2_W, &pass);
    CHECK_SAME(in_place, gz, 4 * sizeof *gz);
    SAME(ggamma, 1, 3); /* normalised z: -1/2, -1/2 and 1/2, 1/2 */
    SAME(gbeta, 4, 10);
}

static void test_relu(const s2_kernels *kernels) {
    for (size_t size = 5; size <= 37; size++) {
        float *y = guarded_floats(size), *gy = guarded_floats(size);
        for (size_t i = 0; i < size; i++) {
            y[i] = (float)((int)(i % 5) - 2); /* -2 -1 0 1 2 ... */
            gy[i] = 7.0f;
        }
        y[0] = (float)NAN;
        y[1] = -(float)INFINITY;
        y[4] = (float)INFINITY;
        s2_relu_forward(kernels, size, y);
        s2_relu_backward(kernels, size, y, gy);
        CHECK(isnan(y[0]));
        for (size_t i = 1; i < size; i++) {
            CHECK(y[i] == (i == 4 ? (float)INFINITY : i % 5 < 3 ? 0.0f : (float)(i % 5 - 2)));
            CHECK(gy[i] == (i % 5 < 3 ? 0.0f : 7.0f));
        }
    }
}

/* (rows, depth) . (depth, cols), in double; element (r, k) of a at a[r * a_row + k * a_depth]. */
static void check_product(const float *got, const float *a, size_t a_row, size_t a_depth,
                          const float *b, size_t b_depth, size_t b_col, const size_t size[3]) {
    size_t wrong = 0;
    for (size_t r = 0; r < size[0]; r++) {
        for (size_t c = 0; c < size[1]; c++) {
            double sum = 0.0;
            for (size_t k = 0; k < size[2]; k++) {
                sum += (double)a[r * a_row + k * a_depth] * (double)b[k * b_depth + c * b_col];
            }
            const double off = fabs((double)got[r * size[1] + c] - sum);
            wrong += !(off <= 1e-5 * (double)size[2]); /* a NaN is wrong, too */
        }
    }
    CHECK_EQUAL(wrong, 0);
}

static const uint32_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 24, 25, 33};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

/* Buffers of the exact size between guard pages: nothing beyond them is read or written. */
static void test_fc_sizes(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 1, 3);
    for (uint32_t i = 0; i < N_SIZES * N_SIZES; i++) {
        const uint32_t n_in = sizes[i / N_SIZES], n_out = sizes[i % N_SIZES], count = 1 + i % 9;
        check_where("%s, (%u, %u) . (%u, %u)", s2_kernels_name(kernels), count, n_in, n_in, n_out);
        const float *x = random_floats(&rng, count * n_in),
                    *gy = random_floats(&rng, count * n_out);
        const float *weight = random_floats(&rng, n_in * n_out);
        float *bias = guarded_floats(n_out), *y = guarded_floats(count * n_out);
        float *gw = guarded_floats(n_in * n_out), *gb = guarded_floats(n_out);
        float *gx = guarded_floats(count * n_in);
        memset(bias, 0, n_out * sizeof *bias);
        const s2_fc_pass pass = {.count = count,
                                 .n_in = n_in,
                                 .n_out = n_out,
                                 .x = x,
                                 .weight = weight,
                                 .bias = bias,
                                 .y = y,
                                 .gy = gy,
                                 .gw = gw,
                                 .gb = gb,
                                 .gx = gx};
        s2_fc_forward(kernels, &pass);
        check_product(y, x, n_in, 1, weight, n_out, 1, (size_t[]){count, n_out, n_in});
        s2_fc_backward(kernels, S2_W | S2_B | S2_X, &pass);
        check_product(gw, x, 1, n_in, gy, n_out, 1, (size_t[]){n_in, n_out, count});
        check_product(gx, gy, n_out, 1, weight, 1, n_out, (size_t[]){count, n_in, n_out});
        const float one = 1.0f;
        check_product(gb, &one, 0, 0, gy, n_out, 1, (size_t[]){1, n_out, count});
        release_guarded();
    }
}

static void test_lora_sizes(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 2, 3);
    for (uint32_t i = 0; i < N_SIZES * 9; i++) {
        const uint32_t n_in = sizes[i / 9], rank = 1 + i % 9, n_out = sizes[(i * 7) % N_SIZES];
        const uint32_t count = 1 + (i * 5) % 9;
        check_where("%s, count %u, (%u, %u, %u)", s2_kernels_name(kernels), count, n_in, rank,
                    n_out);
        const float *x = random_floats(&rng, count * n_in),
                    *gy = random_floats(&rng, count * n_out);
        const float *lora_a = random_floats(&rng, n_in * rank),
                    *lora_b = random_floats(&rng, rank * n_out);
        float *hidden = guarded_floats(count * rank), *y = guarded_floats(count * n_out);
        float *gh = guarded_floats(count * rank), *gwa = guarded_floats(n_in * rank);
        float *gwb = guarded_floats(rank * n_out), *gx = guarded_floats(count * n_in);
        memset(y, 0, count * n_out * sizeof *y);
        memset(gx, 0, count * n_in * sizeof *gx);
        const s2_lora_pass pass = {.count = count,
                                   .n_in = n_in,
                                   .n_out = n_out,
                                   .rank = rank,
                                   .x = x,
                                   .lora_a = lora_a,
                                   .lora_b = lora_b,
                                   .hidden = hidden,
                                   .y = y,
                                   .gy = gy,
                                   .gh = gh,
                                   .gwa = gwa,
                                   .gwb = gwb,
                                   .gx = gx};
        s2_lora_forward(kernels, &pass);
        check_product(hidden, x, n_in, 1, lora_a, 1, n_in, (size_t[]){count, rank, n_in});
        check_product(y, hidden, rank, 1, lora_b, n_out, 1, (size_t[]){count, n_out, rank});
        s2_lora_backward(kernels, S2_W | S2_X, &pass);
        check_product(gwb, hidden, 1, rank, gy, n_out, 1, (size_t[]){rank, n_out, count});
        check_product(gh, gy, n_out, 1, lora_b, 1, n_out, (size_t[]){count, rank, n_out});
        check_product(gwa, gh, 1, rank, x, n_in, 1, (size_t[]){rank, n_in, count});
        check_product(gx, gh, rank, 1, lora_a, n_in, 1, (size_t[]){count, n_in, rank});
        release_guarded();
    }
}

/* The gradient of each sample sums to zero; each column comes out with mean beta. */
static void test_loss_and_bn_sizes(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 3, 3);
    for (uint32_t i = 0; i < N_SIZES * 16; i++) {
        const uint32_t width = sizes[i / 16], count = 2 + i % 16;
        check_where("%s, (%u, %u)", s2_kernels_name(kernels), count, width);
        const float *z = random_floats(&rng, count * width);
        const int32_t *label = random_labels(&rng, count, width);
        float *grad = guarded_copy(z, count * width * sizeof *z),
              *y = guarded_floats(count * width);
        float *scratch = guarded_floats(s2_loss_scratch_floats(kernels, count, width));
        s2_batch_stats stats;
        const float *weight = i % 2 ? NULL : random_weights(&rng, count);
        s2_loss_cross_entropy(kernels, count, width, label, weight, grad, &stats, scratch);
        CHECK(isfinite(stats.loss) && stats.correct <= count);
        float *stat[8];
        for (size_t k = 0; k < 8; k++) {
            stat[k] = random_floats(&rng, width);
        }
        const s2_bn_pass pass = {.count = count,
                                 .width = width,
                                 .eps = 1e-5f,
                                 .momentum = 0.1f,
                                 .running_mean = stat[2],
                                 .running_var = stat[3],
                                 .z = z,
                                 .gamma = stat[0],
                                 .beta = stat[1],
                                 .mean = stat[4],
                                 .inv_std = stat[5],
                                 .y = y,
                                 .gy = grad,
                                 .ggamma = stat[6],
                                 .gbeta = stat[7],
                                 .gz = y};
        s2_bn_forward_batch(kernels, &pass);
        for (size_t s = 0; s < count; s++) {
            const float ones[] = {1.0f};
            check_product((const float[]){0.0f}, grad + s * width, 0, 1, ones, 0, 0,
                          (size_t[]){1, 1, width});
        }
        for (size_t c = 0; c < width; c++) {
            double sum = 0.0;
            for (size_t s = 0; s < count; s++) {
                sum += (double)y[s * width + c];
            }
            CHECK_NEAR(sum / count, stat[1][c], 1e-4);
        }
        s2_bn_backward(kernels, S2_W | S2_STATS, &pass);
        s2_bn_backward(kernels, S2_Y, &pass);
        release_guarded();
    }
}

int main(void) {
    with_each_table(test_fc);
    with_each_table(test_lora);
    with_each_table(test_bn_batch);
    with_each_table(test_bn_frozen);
    with_each_table(test_relu);
    with_each_table(test_fc_sizes);
    with_each_table(test_lora_sizes);
    with_each_table(test_loss_and_bn_sizes);
    return check_report("test_layers");
}
