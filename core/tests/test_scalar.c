/*
 * test_scalar.c - the scalar table adds each sum in the order of a plain loop, whatever it computes side
 * by side: the bits of the loops below, for all shapes beside its tiles, in every build (two ways of
 * rounding, as a fused multiply-add has one, would differ).
 */
#include "network.h"

#include "kernels.h"

enum { MOST_SAMPLES = 70, MOST_RANK = 13, MOST_UNITS = 20 };

static s2_rng rng;
static const s2_kernels *kernels;

/* One rounding each, whatever the compiler would contract. */
static float product(float a, float b) {
    const volatile float rounded = a * b;
    return rounded;
}

static uint32_t from_one_to(uint32_t most) {
    return 1 + s2_rng_below(&rng, most);
}

static float *copy_of(const float *values, size_t count) {
    float *copy = guarded_floats(count);
    memcpy(copy, values, count * sizeof *copy);
    return copy;
}

/* ---- taps -------------------------------------------------------------------------------------- */

static void forward_by_loop(const s2_tap_pass *pass) {
    for (size_t r = 0; r < pass->rank; r++) {
        for (size_t s = 0; s < pass->count; s++) {
            float sum = 0.0f;
            for (size_t i = 0; i < pass->width; i++) {
                sum += product(pass->row[s][pass->offset + i], pass->a[r * pass->a_row + i]);
            }
            pass->hidden[r * pass->h_rank + s * pass->h_sample] = sum;
        }
    }
}

static void update_by_loop(const s2_tap_pass *pass, const s2_update *update) {
    for (size_t r = 0; r < pass->rank; r++) {
        for (size_t i = 0; i < pass->width; i++) {
            const size_t at = r * pass->a_row + i;
            float g = 0.0f;
            for (size_t s = 0; s < pass->count; s++) {
                g += product(pass->row[s][pass->offset + i],
                             pass->hidden[r * pass->h_rank + s * pass->h_sample]);
            }
            kernels->descend(1, update, &g, pass->m ? pass->m + at : NULL,
                             pass->v ? pass->v + at : NULL, pass->a + at);
        }
    }
}

static s2_update random_update(s2_rule rule) {
    const int decays = (int)s2_rng_below(&rng, 2);
    return (s2_update){.rule = rule,
                       .rate = 0.01f,
                       .keep = decays ? 0.99f : 1.0f,
                       .decay = decays ? 0.001f : 0.0f,
                       .beta1 = 0.9f,
                       .blend1 = 0.1f,
                       .beta2 = 0.99f,
                       .blend2 = 0.01f,
                       .root_scale = 1.5f,
                       .eps = 1e-8f};
}

static void test_taps(int few, s2_rule rule) {
    s2_tap_pass pass = {.count = from_one_to(MOST_SAMPLES),
                        .width = from_one_to(70),
                        .rank = from_one_to(MOST_RANK),
                        .offset = s2_rng_below(&rng, 3)};
    check_where("%u samples, width %u, rank %u, %s, rule %d", pass.count, pass.width, pass.rank,
                few ? "samples in lanes" : "units in lanes", (int)rule);
    pass.h_rank = few ? pass.count : 1;
    pass.h_sample = few ? 1 : pass.rank + s2_rng_below(&rng, 3);
    pass.a_row = pass.width + s2_rng_below(&rng, 3);
    const float *row[MOST_SAMPLES];
    for (uint32_t s = 0; s < pass.count; s++) {
        row[s] = random_floats(&rng, pass.offset + pass.width);
    }
    pass.row = row;
    const size_t n_a = (pass.rank - 1) * pass.a_row + pass.width;
    const size_t n_hidden = (pass.rank - 1) * pass.h_rank + (pass.count - 1) * pass.h_sample + 1;
    pass.a = random_floats(&rng, n_a);
    pass.hidden = random_floats(&rng, n_hidden);
    s2_tap_pass plain = pass;
    plain.a = copy_of(pass.a, n_a);
    plain.hidden = copy_of(pass.hidden, n_hidden);
    kernels->tap_forward(&pass);
    forward_by_loop(&plain);
    CHECK_SAME(pass.hidden, plain.hidden, n_hidden * sizeof(float));
    float *const zeros = memset(guarded_floats(n_a), 0, n_a * sizeof(float));
    if (rule != S2_SGD) {
        pass.m = random_floats(&rng, n_a);
        plain.m = copy_of(pass.m, n_a);
    }
    if (rule == S2_ADAM) {
        pass.v = copy_of(zeros, n_a);
        plain.v = copy_of(zeros, n_a);
    }
    const s2_update update = random_update(rule);
    kernels->tap_update(&pass, &update);
    update_by_loop(&plain, &update);
    CHECK_SAME(pass.a, plain.a, n_a * sizeof(float));
    CHECK_SAME(pass.m ? pass.m : zeros, plain.m ? plain.m : zeros, n_a * sizeof(float));
    CHECK_SAME(pass.v ? pass.v : zeros, plain.v ? plain.v : zeros, n_a * sizeof(float));
    release_guarded();
}

/* ---- products of matrices ---------------------------------------------------------------------- */

static void gemm_by_loop(const s2_gemm *pass) {
    for (size_t r = 0; r < pass->rows; r++) {
        for (size_t m = 0; m < pass->cols; m++) {
            float *c = pass->c + r * pass->c_row + m;
            float sum = pass->add ? *c : pass->start ? pass->start[m] : 0.0f;
            for (size_t k = 0; k < pass->depth; k++) {
                sum += product(pass->a[r * pass->a_row + k * pass->a_depth],
                               pass->b[k * pass->b_depth + m * pass->b_col]);
            }
            *c = sum;
        }
    }
}

/* a . b, a^T . b or a . b^T; c starts from zero, a row, or itself. */
static void test_gemm(int kind, int from) {
    const uint32_t rows = from_one_to(9), cols = from_one_to(20), depth = from_one_to(14);
    check_where("%u x %u of %u, kind %d from %d", rows, cols, depth, kind, from);
    s2_gemm pass = {.rows = rows,
                    .cols = cols,
                    .depth = depth,
                    .a = random_floats(&rng, (size_t)rows * depth),
                    .a_row = kind == 1 ? 1 : depth,
                    .a_depth = kind == 1 ? rows : 1,
                    .b = random_floats(&rng, (size_t)depth * cols),
                    .b_depth = kind == 2 ? 1 : cols,
                    .b_col = kind == 2 ? depth : 1,
                    .c = random_floats(&rng, (size_t)rows * cols),
                    .c_row = cols,
                    .start = from == 1 ? random_floats(&rng, cols) : NULL,
                    .add = from == 2};
    s2_gemm plain = pass;
    plain.c = copy_of(pass.c, (size_t)rows * cols);
    kernels->gemm(&pass);
    gemm_by_loop(&plain);
    CHECK_SAME(pass.c, plain.c, (size_t)rows * cols * sizeof(float));
    release_guarded();
}

/* ---- from hidden values to logits, and back ---------------------------------------------------- */

static void test_head(void) {
    const uint32_t n_hidden = from_one_to(MOST_UNITS), n_outputs = from_one_to(9);
    const size_t lanes = from_one_to(23);
    check_where("%u units, %u outputs, %zu lanes", n_hidden, n_outputs, lanes);
    const s2_head_pass pass = {.n_hidden = n_hidden,
                               .n_outputs = n_outputs,
                               .lanes = lanes,
                               .lora_b = random_floats(&rng, (size_t)n_hidden * n_outputs),
                               .hidden = random_floats(&rng, n_hidden * lanes),
                               .grad_hidden = random_floats(&rng, n_hidden * lanes),
                               .grad_b = random_floats(&rng, (size_t)n_hidden * n_outputs),
                               .logits = random_floats(&rng, n_outputs * lanes)};
    float *const logits = copy_of(pass.logits, n_outputs * lanes);
    kernels->head_forward(&pass);
    for (size_t o = 0; o < n_outputs; o++) {
        for (size_t s = 0; s < lanes; s++) {
            for (size_t j = 0; j < n_hidden; j++) {
                logits[o * lanes + s] +=
                    product(pass.hidden[j * lanes + s], pass.lora_b[j * n_outputs + o]);
            }
        }
    }
    CHECK_SAME(pass.logits, logits, n_outputs * lanes * sizeof(float));
    kernels->head_backward(&pass);
    for (size_t j = 0; j < n_hidden; j++) {
        for (size_t s = 0; s < lanes; s++) {
            float sum = 0.0f;
            for (size_t o = 0; o < n_outputs; o++) {
                sum += product(logits[o * lanes + s], pass.lora_b[j * n_outputs + o]);
            }
            CHECK_SAME(&pass.grad_hidden[j * lanes + s], &sum, sizeof sum);
        }
        for (size_t o = 0; o < n_outputs; o++) {
            float sum = 0.0f;
            for (size_t s = 0; s < lanes; s++) {
                sum += product(pass.hidden[j * lanes + s], logits[o * lanes + s]);
            }
            CHECK_SAME(&pass.grad_b[j * n_outputs + o], &sum, sizeof sum);
        }
    }
    release_guarded();
}

int main(void) {
    enum { TRIES = 60 };
    kernels = s2_kernels_choose("scalar");
    s2_rng_seed(&rng, 11, 3);
    for (int i = 0; i < TRIES; i++) {
        test_taps(i % 2, (s2_rule)(i % 3));
        test_gemm(i % 3, i / 3 % 3);
        test_head();
    }
    return check_report("test_scalar");
}
