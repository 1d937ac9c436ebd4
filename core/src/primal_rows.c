/* primal_rows.c - passes over all rows: products with W, loss, gradient, a block at a time. */
#include "primal_rows.h"

#include "cholesky.h"
#include "codes.h"

#include <string.h>

enum { MANY_COLUMNS = 4096 }; /* from here on blocks are half as high, to stay in a cache */

static size_t width_of(const s2_primal *primal) {
    size_t width = 0;
    for (uint32_t k = 0; k < primal->n_taps; k++) {
        width = s2_plus(width, primal->columns[k].width);
    }
    return width;
}

s2_rows_pass s2_rows_lay_out(const s2_primal *primal, uint32_t n_subset, s2_arena *arena) {
    s2_rows_pass pass = {.primal = primal,
                         .kernels = primal->objective.kernels,
                         .width = width_of(primal),
                         .n_outputs = primal->objective.n_outputs};
    pass.n_samples = primal->n_taps ? primal->columns[0].n_samples : 0;
    pass.at_once = pass.width > MANY_COLUMNS ? S2_SAMPLE_LANES : 2 * S2_SAMPLE_LANES;
    /* rows a power of two apart would meet in few lines of a cache */
    pass.row = s2_plus(s2_round_up(pass.width, S2_LANES), S2_LANES);
    pass.z = s2_take_floats(arena, pass.at_once, pass.row);
    pass.other = s2_take_floats(arena, pass.at_once, pass.row);
    pass.products = s2_take_floats(arena, pass.at_once, pass.n_outputs);
    pass.logits = s2_take_floats(arena, pass.n_outputs, pass.at_once);
    pass.ones = s2_take_floats(arena, 1, pass.at_once);
    pass.none = s2_take_floats(arena, pass.n_outputs, pass.at_once);
    pass.solved = s2_take(arena, pass.n_outputs, s2_round_up(n_subset, S2_LANES), sizeof(double));
    pass.room = s2_take(arena, 1, S2_FACTOR_ROOM, sizeof(double));
    return pass;
}

void s2_rows_begin(const s2_rows_pass *pass) {
    for (size_t s = 0; s < pass->at_once; s++) {
        pass->ones[s] = 1.0f;
    }
    memset(pass->none, 0, pass->n_outputs * pass->at_once * sizeof(float));
}

void s2_rows_standardise(const s2_rows_pass *pass, const uint32_t *subset, size_t first,
                         size_t count, float *z) {
    for (uint32_t k = 0; k < pass->primal->n_taps; k++) {
        const s2_columns *of = &pass->primal->columns[k];
        if (of->coded != NULL) {
            s2_decode_columns(of->coded, of->first, of->width, subset, first, count, z, pass->row);
        }
        for (size_t r = 0; of->coded == NULL && r < count; r++) {
            const size_t sample = subset ? subset[first + r] : first + r;
            pass->kernels->scale_row(of->width, of->rows + sample * of->row_stride + of->first,
                                     of->mean + of->first, of->scale + of->first,
                                     z + r * pass->row);
        }
        z += of->width;
    }
}

void s2_rows_multiply(const s2_rows_pass *pass, size_t count, const float *weights) {
    pass->kernels->gemm(&(s2_gemm){.rows = (uint32_t)count,
                                   .cols = (uint32_t)pass->n_outputs,
                                   .depth = (uint32_t)pass->width,
                                   .a = pass->z,
                                   .a_row = pass->row,
                                   .a_depth = 1,
                                   .b = weights,
                                   .b_depth = 1,
                                   .b_col = pass->width,
                                   .c = pass->products,
                                   .c_row = pass->n_outputs});
}

void s2_rows_add(const s2_rows_pass *pass, size_t count, const float *factors, size_t factors_row,
                 float *sum) {
    pass->kernels->gemm(&(s2_gemm){.rows = (uint32_t)pass->n_outputs,
                                   .cols = (uint32_t)pass->width,
                                   .depth = (uint32_t)count,
                                   .a = factors,
                                   .a_row = factors_row,
                                   .a_depth = 1,
                                   .b = pass->z,
                                   .b_depth = pass->row,
                                   .b_col = 1,
                                   .c = sum,
                                   .c_row = pass->width,
                                   .add = 1});
}

/* Loss and gradient by the logits of a block, whose products are there; the gradient replaces the
 * logits. */
static double look_at_block(const s2_rows_pass *pass, size_t first, size_t count,
                            const double *bias, float *products, double *sums) {
    const s2_primal *primal = pass->primal;
    const size_t lanes = primal->objective.lanes, left = lanes - first;
    s2_objective block = primal->objective;
    block.lanes = left < pass->at_once ? left : pass->at_once;
    block.target += first;
    block.weight += first;
    pass->kernels->transpose(count, pass->n_outputs, pass->products, pass->n_outputs,
                             products + first, lanes);
    for (size_t o = 0; o < pass->n_outputs; o++) {
        float *product = products + o * lanes + first;
        memset(product + count, 0, (block.lanes - count) * sizeof *product);
        pass->kernels->move_along(block.lanes, product, (float)bias[o],
                                  primal->offset ? 1.0f : 0.0f,
                                  primal->offset ? primal->offset + o * lanes + first : pass->ones,
                                  pass->logits + o * block.lanes);
    }
    const double loss = s2_objective_loss(&block, pass->logits, pass->logits);
    for (size_t o = 0; o < pass->n_outputs; o++) {
        sums[o] += s2_dot(pass->kernels, block.lanes, pass->logits + o * block.lanes, pass->ones);
    }
    return loss;
}

double s2_rows_look(const s2_rows_pass *pass, const float *weights, const double *bias,
                    float *products, float *grad, double *sums) {
    double loss = 0.0;
    memset(grad, 0, pass->n_outputs * pass->width * sizeof *grad);
    memset(sums, 0, pass->n_outputs * sizeof *sums);
    for (size_t s = 0; s < pass->n_samples; s += pass->at_once) {
        const size_t left = pass->n_samples - s, lanes = pass->primal->objective.lanes - s;
        const size_t count = left < pass->at_once ? left : pass->at_once;
        s2_rows_standardise(pass, NULL, s, count, pass->z);
        s2_rows_multiply(pass, count, weights);
        loss += look_at_block(pass, s, count, bias, products, sums);
        s2_rows_add(pass, count, pass->logits, lanes < pass->at_once ? lanes : pass->at_once, grad);
    }
    return loss;
}
