/* novelty.c - how far a row lies from those of a reference, as a p-value. */
#include "same_bits.h"

#include "skip2_novelty.h"

#include "arena.h"

#include <math.h>
#include <string.h>

/* Squared distances of so many columns stay far below what a float holds. */
#define MOST 1e6f

static int all_finite(size_t size, const float *values) {
    for (size_t i = 0; i < size; i++) {
        if (!isfinite(values[i])) {
            return 0;
        }
    }
    return 1;
}

static s2_novelty lay_out(const s2_novelty_shape *shape, s2_arena *arena) {
    const size_t n = s2_plus(shape->n_modes, shape->n_rows);
    const size_t padded = s2_round_up(shape->width, S2_LANES);
    s2_novelty novelty = {.shape = *shape};
    novelty.mean = s2_take_floats(arena, 1, padded);
    novelty.scale = s2_take_floats(arena, 1, padded);
    novelty.scaled = s2_take_floats(arena, n, padded);
    novelty.vectors = s2_take(arena, n, 1, sizeof *novelty.vectors);
    novelty.squares = s2_take(arena, n, 1, sizeof *novelty.squares);
    novelty.products = s2_take(arena, n, 1, sizeof *novelty.products);
    novelty.near = s2_take(arena, shape->n_rows, 1, sizeof *novelty.near);
    novelty.mode = s2_take(arena, shape->n_rows, 1, sizeof *novelty.mode);
    novelty.row = s2_take_floats(arena, 1, padded);
    return novelty;
}

/* As rows are compared, (padded); out of bounds is as far away as can be. */
static void scale_row(const s2_novelty *novelty, const float *row, float *scaled) {
    const size_t width = novelty->shape.width, padded = s2_round_up(width, S2_LANES);
    novelty->kernels->scale_row(width, row, novelty->mean, novelty->scale, scaled);
    for (size_t c = 0; c < width; c++) {
        const float bounded = scaled[c] < MOST ? scaled[c] : MOST; /* which NaN is not below */
        scaled[c] = bounded > -MOST ? bounded : -MOST;
    }
    for (size_t c = width; c < padded; c++) {
        scaled[c] = 0.0f;
    }
}

/* Products of a scaled row with all centres and rows. */
static void multiply(const s2_novelty *novelty, const float *scaled) {
    const s2_novelty_shape *shape = &novelty->shape;
    const size_t n = (size_t)shape->n_modes + shape->n_rows;
    novelty->kernels->dots(n, s2_round_up(shape->width, S2_LANES), scaled, novelty->vectors,
                           novelty->products);
}

/* The squared distance to vector number `at` of a row of that squared length. So near are copies,
 * whose products may have been summed in another order. */
static double distance(const s2_novelty *novelty, size_t at, double square) {
    const double squares = square + novelty->squares[at];
    const double d = squares - 2.0 * novelty->products[at];
    return d > 1e-6 * squares ? d : 0.0;
}

static uint32_t nearest_mode(const s2_novelty *novelty, double square) {
    uint32_t nearest = 0;
    for (uint32_t m = 1; m < novelty->shape.n_modes; m++) {
        if (distance(novelty, m, square) < distance(novelty, nearest, square)) {
            nearest = m;
        }
    }
    return nearest;
}

/* Keeps the S2_NEIGHBOURS least in ascending order. */
static void keep_least(double *least, double value) {
    size_t at = S2_NEIGHBOURS;
    if (value >= least[at - 1]) {
        return;
    }
    for (at--; at > 0 && least[at - 1] > value; at--) {
        least[at] = least[at - 1];
    }
    least[at] = value;
}

static void forget_least(double *least) {
    for (size_t i = 0; i < S2_NEIGHBOURS; i++) {
        least[i] = (double)INFINITY;
    }
}

static void look_at_reference(const s2_novelty *novelty) {
    const s2_novelty_shape *shape = &novelty->shape;
    double least[S2_NEIGHBOURS];
    for (uint32_t r = 0; r < shape->n_rows; r++) {
        const size_t own = (size_t)shape->n_modes + r;
        const double square = novelty->squares[own];
        multiply(novelty, novelty->vectors[own]);
        novelty->mode[r] = nearest_mode(novelty, square);
        forget_least(least);
        for (size_t other = 0; other < shape->n_rows; other++) {
            if (other != r) {
                keep_least(least, distance(novelty, shape->n_modes + other, square));
            }
        }
        novelty->near[r][0] = least[S2_NEIGHBOURS - 2];
        novelty->near[r][1] = least[S2_NEIGHBOURS - 1];
    }
}

size_t s2_novelty_bytes(const s2_novelty_shape *shape) {
    s2_arena arena = {0};
    (void)lay_out(shape, &arena);
    return arena.used;
}

s2_status s2_novelty_open(s2_novelty *novelty, const s2_kernels *kernels,
                          const s2_novelty_shape *shape, const s2_reference *reference,
                          void *memory, size_t size) {
    const size_t width = shape->width, n_modes = shape->n_modes, n_rows = shape->n_rows;
    if (width == 0 || width > S2_MAX_WIDTH || n_rows <= S2_NEIGHBOURS || n_rows > S2_MAX_WIDTH ||
        n_modes == 0 || n_modes > n_rows) {
        return S2_BAD_SHAPE;
    }
    s2_arena arena = {.base = memory, .size = size};
    *novelty = lay_out(shape, &arena);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    if (!all_finite(n_rows * width, reference->rows) || !all_finite(width, reference->mean) ||
        !all_finite(width, reference->scale) || !all_finite(n_modes * width, reference->centres)) {
        return S2_BAD_VALUE;
    }
    novelty->kernels = kernels;
    memcpy(novelty->mean, reference->mean, width * sizeof(float));
    memcpy(novelty->scale, reference->scale, width * sizeof(float));
    for (size_t v = 0; v < n_modes + n_rows; v++) {
        const float *from =
            v < n_modes ? reference->centres + v * width : reference->rows + (v - n_modes) * width;
        float *scaled = novelty->scaled + v * s2_round_up(width, S2_LANES);
        scale_row(novelty, from, scaled);
        novelty->vectors[v] = scaled;
        novelty->squares[v] = s2_dot(kernels, s2_round_up(width, S2_LANES), scaled, scaled);
    }
    look_at_reference(novelty);
    return S2_OK;
}

s2_status s2_novelty_judge(const s2_novelty *novelty, const float *row, s2_judged *judged) {
    const s2_novelty_shape *shape = &novelty->shape;
    if (!all_finite(shape->width, row)) {
        return S2_BAD_VALUE;
    }
    scale_row(novelty, row, novelty->row);
    multiply(novelty, novelty->row);
    const double square =
        s2_dot(novelty->kernels, s2_round_up(shape->width, S2_LANES), novelty->row, novelty->row);
    double least[S2_NEIGHBOURS];
    forget_least(least);
    double *distances = novelty->products; /* in their place */
    const uint32_t mode = nearest_mode(novelty, square);
    for (size_t r = 0; r < shape->n_rows; r++) {
        const double d = distance(novelty, shape->n_modes + r, square);
        distances[shape->n_modes + r] = d;
        keep_least(least, d);
    }
    const double own = least[S2_NEIGHBOURS - 1];
    uint32_t count = 0, as_novel = 0, all_as_novel = 0;
    for (size_t r = 0; r < shape->n_rows; r++) {
        const double d = distances[shape->n_modes + r];
        const double *near = novelty->near[r];
        /* the 5th nearest with this row among the others */
        const double with_it = d >= near[1] ? near[1] : (d > near[0] ? d : near[0]);
        const uint32_t is_in_mode = novelty->mode[r] == mode, is_as_novel = with_it >= own;
        count += is_in_mode;
        as_novel += is_in_mode & is_as_novel;
        all_as_novel += is_as_novel;
    }
    judged->novelty = sqrt(own);
    judged->p = (as_novel + 1.0) / (count + 1.0);
    judged->p_all = (all_as_novel + 1.0) / (shape->n_rows + 1.0);
    judged->mode = mode;
    return S2_OK;
}
