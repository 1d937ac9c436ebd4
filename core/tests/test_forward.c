/* test_forward.c - the frozen forward pass: what a row holds, and that it does not depend on the
 * batch it came in. */
#include "network.h"

#include "skip2_layers.h"

enum { MOST_SAMPLES = 70 };

/* Row 0 is what the layer functions give one after the other; padding is nobody's. */
static void test_forward_is_the_layers(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 5, 3);
    network net;
    new_network(&net, kernels, 1, 7, &rng);
    const float *x[1];
    new_samples(x, 1, &rng);
    float in[32], out[32], hidden[RANK], mean[32], inv_std[32];
    for (uint32_t first_tap = 0; first_tap < DEPTH; first_tap++) {
        rows_of rows;
        new_layout(&rows, first_tap, 0);
        float *const row = forward(&net, 1, x, &rows.layout, first_tap);
        float *const rebuilt = guarded_floats(rows.layout.row_stride);
        memcpy(in, x[0], widths[0] * sizeof *in);
        for (uint32_t k = 0; k < DEPTH; k++) {
            const s2_layer *l = &net.layers[k];
            if (k >= first_tap) {
                memcpy(rebuilt + rows.offset[k - first_tap], in, l->n_in * sizeof *in);
            }
            s2_fc_forward(kernels, &(s2_fc_pass){.count = 1,
                                                 .n_in = l->n_in,
                                                 .n_out = l->n_out,
                                                 .x = in,
                                                 .weight = l->weight,
                                                 .bias = l->bias,
                                                 .y = out});
            s2_lora_forward(kernels, &(s2_lora_pass){.count = 1,
                                                     .n_in = l->n_in,
                                                     .n_out = l->n_out,
                                                     .rank = RANK,
                                                     .x = in,
                                                     .lora_a = l->lora_a,
                                                     .lora_b = l->lora_b,
                                                     .hidden = hidden,
                                                     .y = out});
            if (l->gamma != NULL) {
                s2_bn_forward_frozen(kernels, &(s2_bn_pass){.count = 1,
                                                            .width = l->n_out,
                                                            .eps = 1e-5f,
                                                            .running_mean = l->mean,
                                                            .running_var = l->var,
                                                            .z = out,
                                                            .gamma = l->gamma,
                                                            .beta = l->beta,
                                                            .mean = mean,
                                                            .inv_std = inv_std,
                                                            .y = out});
                s2_relu_forward(kernels, l->n_out, out);
            }
            memcpy(in, out, l->n_out * sizeof *in);
        }
        memcpy(rebuilt + rows.layout.logits_offset, in, widths[DEPTH] * sizeof *in);
        CHECK_SAME(row, rebuilt, rows.layout.row_stride * sizeof *row);
        if (first_tap == 0) { /* the same without a copy of the sample */
            rows_of shorter;
            new_layout(&shorter, 0, 1);
            const float *rest = forward(&net, 1, x, &shorter.layout, 0);
            CHECK_SAME(rest, row + rows.offset[1], shorter.layout.row_stride * sizeof *row);
        }
    }
}

static void test_forward_refuses(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 6, 3);
    network net;
    new_network(&net, kernels, 1, 0, &rng);
    const float *x[3];
    new_samples(x, 3, &rng);
    rows_of rows;
    new_layout(&rows, 1, 0);
    const size_t room = s2_net_forward_workspace_bytes(&net.net, 3);
    float *out = guarded_floats(3 * rows.layout.row_stride);
    void *workspace = guarded(room);
    const s2_row_layout *layout = &rows.layout;
    CHECK_EQUAL(s2_net_forward(&net.net, 3, x, layout, 1, out, workspace, room - 1), S2_NO_ROOM);
    CHECK_EQUAL(s2_net_forward(&net.net, 3, x, layout, 0, out, workspace, room), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_net_forward(&net.net, 3, x, layout, 2, out, workspace, room), S2_BAD_SHAPE);
    CHECK(isnan(out[0]));
    CHECK_EQUAL(s2_net_forward(&net.net, 3, x, layout, 1, out, workspace, room), S2_OK);
    CHECK(isfinite(out[0]));
}

/* A row has the same bits alone and in any place of a batch of any size, LoRA in layers or not. */
static void test_same_bits_anywhere(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 7, 3);
    for (unsigned variant = 0; variant < 4; variant++) {
        network net;
        new_network(&net, kernels, variant & 1, variant & 2 ? 7 : 0, &rng);
        const float *x[MOST_SAMPLES];
        new_samples(x, MOST_SAMPLES, &rng);
        rows_of rows;
        new_layout(&rows, 0, 1);
        const size_t stride = rows.layout.row_stride;
        float *alone = guarded_floats(MOST_SAMPLES * stride);
        for (uint32_t s = 0; s < MOST_SAMPLES; s++) {
            memcpy(alone + s * stride, forward(&net, 1, x + s, &rows.layout, 0), stride * 4);
        }
        for (uint32_t count = 1; count <= MOST_SAMPLES; count++) {
            check_where("%s, variant %u, count %u", s2_kernels_name(kernels), variant, count);
            const uint32_t first = count * 7 % (MOST_SAMPLES - count + 1);
            const float *got = forward(&net, count, x + first, &rows.layout, 0);
            CHECK_SAME(got, alone + first * stride, count * stride * sizeof *got);
        }
        release_guarded();
    }
}

int main(void) {
    with_each_table(test_forward_is_the_layers);
    with_each_table(test_forward_refuses);
    with_each_table(test_same_bits_anywhere);
    return check_report("test_forward");
}
