/*
 * kernels.h - the table of kernel functions, chosen once (dispatch.c).
 *
 * Every table offers the same functions; the scalar one is oracle and fallback. Within one table
 * an output element is always reduced in the same order, whatever the tile it falls in, so a row's
 * result does not depend on the batch it came in.
 */
#ifndef S2_KERNELS_H
#define S2_KERNELS_H

#include "skip2_codes.h"
#include "skip2_exact.h"
#include "skip2_layers.h"

/* With more outputs than this the logits lie in rows, (count, n_outputs), else with samples in lanes,
 * (n_outputs, lanes): a few outputs would leave most lanes of a vector of classes empty. */
#define S2_FEW_OUTPUTS 32u

/* A build with S2_COUNT_OPERATIONS counts the floating-point operations of the scalar table, where
 * they are done; the caller defines the counter. */
#ifdef S2_COUNT_OPERATIONS
extern uint64_t s2_operations;
#define S2_OPERATIONS(n) (s2_operations += (n))
#else
#define S2_OPERATIONS(n) ((void)0)
#endif

/* A build for a small device or a small module may leave out of its tables what nothing in it calls,
 * so that the linker leaves out the kernels: those of networks, of targets in place of labels, of
 * coded rows, of ridge regression, of s2_kernels_multiply_adds. */
#define S2_NO(kernel) (0 ? (kernel) : NULL) /* which compilers take for a use of it */
#ifdef S2_WITHOUT_NETWORKS
#define S2_OF_NETWORKS(kernel) S2_NO(kernel)
#else
#define S2_OF_NETWORKS(kernel) kernel
#endif
#ifdef S2_WITHOUT_TARGETS
#define S2_OF_TARGETS(kernel) S2_NO(kernel)
#else
#define S2_OF_TARGETS(kernel) kernel
#endif
#ifdef S2_WITHOUT_CODES
#define S2_OF_CODES(kernel) S2_NO(kernel)
#else
#define S2_OF_CODES(kernel) kernel
#endif
#ifdef S2_WITHOUT_RIDGE
#define S2_OF_RIDGE(kernel) S2_NO(kernel)
#else
#define S2_OF_RIDGE(kernel) kernel
#endif
#ifdef S2_WITHOUT_PEAK
#define S2_OF_PEAK(kernel) S2_NO(kernel)
#else
#define S2_OF_PEAK(kernel) kernel
#endif

/* Asks for the cache line at p, to be read in the next batch; p need not be readable. Into the second
 * cache: the first one is full of this batch. */
#if defined(__GNUC__)
#define S2_PREFETCH(p) __builtin_prefetch((p), 0, 2)
#else
#define S2_PREFETCH(p) ((void)(p))
#endif

/* Before loops with a small constant bound, so that accumulators stay in registers. */
#ifdef __clang__ /* clang 14 takes no notice of GCC's, and leaves accumulators in memory */
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* SIZE_MAX, more than any buffer has, where a size is too large; once so, it stays so. */
static inline size_t s2_times(size_t a, size_t b) {
    const size_t half = (size_t)1 << (4 * sizeof(size_t)); /* two below it need no division */
    return (a | b) >= half && b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}
static inline size_t s2_plus(size_t a, size_t b) {
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}
/* multiple: a power of two */
static inline size_t s2_round_up(size_t value, size_t multiple) {
    const size_t more = multiple - 1u;
    return value > SIZE_MAX - more ? SIZE_MAX : (value + more) & ~more;
}
/* Of a width up to S2_MAX_WIDTH. */
static inline uint32_t s2_padded(uint32_t width) {
    return (uint32_t)s2_round_up(width, S2_LANES);
}

/* c = start + a . b. Strides make the transpose of `a` or `b` as cheap to name as itself. */
typedef struct {
    uint32_t rows, cols, depth;
    const float *a; /* (rows, depth): element (r, k) at a[r * a_row + k * a_depth] */
    size_t a_row, a_depth;
    const float *b;        /* (depth, cols): element (k, m) at b[k * b_depth + m * b_col] */
    size_t b_depth, b_col; /* one of them is 1; with b_depth = 1, so is a_depth */
    float *c;              /* (rows, cols), row stride c_row */
    size_t c_row;
    const float *start; /* (cols) that each row starts from; NULL: zero */
    int add;            /* start from c itself instead */
    const float *ahead; /* to be fetched meanwhile, a cache line a column of `a`; NULL: nothing is.
                           Only `panel` does so */
} s2_gemm;

/* c += a . b in double: of the factors of symmetric matrices, which lose too much in float. */
typedef struct {
    uint32_t rows, cols, depth;
    const double *a; /* (rows, depth): element (r, k) at a[r * a_row + k * a_depth] */
    size_t a_row, a_depth;
    const double *b;       /* (depth, cols): element (k, m) at b[k * b_depth + m * b_col] */
    size_t b_depth, b_col; /* one of them is 1 */
    double *c;             /* (rows, cols), row stride c_row */
    size_t c_row;
} s2_gemm_double;

/* One tap of one batch in the fused step. */
typedef struct {
    uint32_t count, width, rank;
    const float *const *row; /* (count): the tap of sample s is at row[s] + offset, (width) */
    size_t offset;
    float *a; /* (rank, a_row): lora_a transposed; zero beyond width */
    size_t a_row;
    float *m, *v;  /* (rank, a_row): moments of lora_a, or NULL */
    float *hidden; /* hidden, or its gradient: (r, s) at hidden[r * h_rank + s * h_sample] */
    size_t h_rank, h_sample;   /* one of them is 1 */
    const float *const *ahead; /* (n_ahead) rows to prefetch meanwhile, like `row` */
    uint32_t n_ahead;
} s2_tap_pass;

/* The part of the fused step that sees no tap, for few outputs: hidden values to logits and back.
 * Lanes without a sample hold zeros. */
typedef struct {
    uint32_t n_hidden, n_outputs; /* n_hidden = taps * rank */
    size_t lanes;
    const float *lora_b; /* (n_hidden, n_outputs) */
    const float *hidden; /* (n_hidden, lanes) */
    float *grad_hidden;  /* (n_hidden, lanes), written by head_backward */
    float *grad_b;       /* (n_hidden, n_outputs), written by head_backward */
    float *logits;       /* (n_outputs, lanes); the loss replaces it by its gradient */
} s2_head_pass;

typedef struct {
    uint32_t count, n_outputs;
    size_t lanes;         /* of a row of lanes; for loss_rows unused */
    float *logits;        /* (n_outputs, lanes) or (count, n_outputs), becomes the gradient of the
                             mean loss */
    const int32_t *label; /* (count) */
    const float *weight;  /* (count), or NULL: all 1 */
} s2_loss_pass;

/* What the gradient of a sample is multiplied by, and with `share` = 1 its loss. */
static inline float s2_weighted(const float *weight, size_t sample, float share) {
    return weight != NULL ? weight[sample] * share : share;
}

/* Rows of s2_moments_add, few enough for a cache. */
typedef struct {
    uint32_t count;
    const float *rows; /* (count, row_stride) */
    size_t row_stride;
    const float *weight; /* (count), or NULL: 1 each */
} s2_moments_pass;

/* Codes of columns to numbers, code * scale + offset. */
typedef struct {
    s2_dtype dtype;
    size_t count, width;         /* rows and columns */
    const uint8_t *const *codes; /* (count): where the first column's code lies in a row */
    const float *scale, *offset; /* (width, padded) */
    float *out;                  /* (count, out_row), of which `width` are written */
    size_t out_row;
    const uint8_t *const *ahead; /* (n_ahead) rows to prefetch meanwhile, like `codes` */
    size_t n_ahead;
} s2_decode_pass;

struct s2_kernels {
    const char *name;
    uint32_t lanes; /* samples in lanes come in multiples of this */
    void (*gemm)(const s2_gemm *pass);
    void (*gemm_double)(const s2_gemm_double *pass);
    /* hidden = tap . lora_a */
    void (*tap_forward)(const s2_tap_pass *pass);
    /* Eqs. 12 and 15 in one: lora_a moves against tap^T . hidden gradient */
    void (*tap_update)(const s2_tap_pass *pass, const s2_update *update);
    void (*head_forward)(const s2_head_pass *pass);
    /* Eqs. 10 and 11 of all taps */
    void (*head_backward)(const s2_head_pass *pass);
    void (*loss_lanes)(const s2_loss_pass *pass, s2_batch_stats *stats);
    void (*loss_rows)(const s2_loss_pass *pass, s2_batch_stats *stats);
    /* Of one sample: the loss; its gradient times `share` replaces the outputs. */
    float (*loss_sigmoid)(size_t n_outputs, const float *target, float share, float *logits);
    float (*loss_squared)(size_t n_outputs, const float *target, float share, float *outputs);
    void (*column_sums)(uint32_t count, uint32_t width, const float *a, float *sum);
    void (*moments)(uint32_t count, uint32_t width, const float *z, float *mean, float *var);
    /* z to y */
    void (*normalize)(const s2_bn_pass *pass);
    /* ggamma, gbeta */
    void (*norm_sums)(const s2_bn_pass *pass);
    /* gz through the statistics, from ggamma and gbeta */
    void (*norm_backward)(const s2_bn_pass *pass);
    /* gz where the statistics are constants */
    void (*scale_columns)(const s2_bn_pass *pass);
    void (*relu_forward)(size_t size, float *y);
    void (*relu_backward)(size_t size, const float *y, float *gy);
    /* w moves against g (Eqs. 5, 6, 15, 16); m and v are NULL where the rule has none */
    void (*descend)(size_t size, const s2_update *update, const float *g, float *m, float *v,
                    float *w);
    /* Adds the rows to the sums */
    void (*column_moments)(const s2_moments *moments, const s2_moments_pass *pass);
    /* y = (x - mean) * scale; y may be x */
    void (*scale_row)(size_t width, const float *x, const float *mean, const float *scale,
                      float *y);
    void (*decode)(const s2_decode_pass *pass);
    /* The nearest codes of a row; width is a multiple of S2_LANES */
    void (*encode)(s2_dtype dtype, size_t width, const float *x, const float *scale,
                   const float *offset, uint8_t *codes);
    /* y = x + shift + factor * direction; y may be x */
    void (*move_along)(size_t size, const float *x, float shift, float factor,
                       const float *direction, float *y);
    /* y = factor * x; y may be x */
    void (*scaled)(size_t size, float factor, const float *x, float *y);
    /* a (rows, cols) to out (cols, rows), both with strides */
    void (*transpose)(size_t rows, size_t cols, const float *a, size_t a_row, float *out,
                      size_t out_row);
    /* c = a . b, or c + a . b with `add`, for a panel b of S2_SAMPLE_LANES columns side by side: rows
     * few and deep, with accumulators enough for one row alone. a_depth is 1, there is no start. */
    void (*panel)(const s2_gemm *pass);
    /* s2_objective_loss */
    double (*objective)(const s2_objective *pass, const float *logits, float *grad);
    /* products[i] = a . b[i] for `count` vectors: short sums of products in float, the rest in double */
    void (*dots)(size_t count, size_t size, const float *a, const float *const *b,
                 double *products);
    /* y = own * y + the sum of factors[i] * x[i] for `count` vectors */
    void (*combine)(size_t count, size_t size, float own, const float *factors,
                    const float *const *x, float *y);
    /* Independent multiply-adds, as fast as this table can; returns the operations done. */
    double (*multiply_adds)(size_t rounds, float *result);
};

extern const s2_kernels s2_kernels_scalar;
#ifdef S2_HAVE_X86_64_V3
extern const s2_kernels s2_kernels_x86_64_v3;
#endif
#ifdef S2_HAVE_X86_64_V4
extern const s2_kernels s2_kernels_x86_64_v4;
#endif
#ifdef S2_HAVE_NEON
extern const s2_kernels s2_kernels_neon;
#endif
#ifdef S2_HAVE_SIMD128
extern const s2_kernels s2_kernels_simd128;
#endif

static inline double s2_dot(const s2_kernels *kernels, size_t size, const float *a,
                            const float *b) {
    double product;
    kernels->dots(1, size, a, &b, &product);
    return product;
}

/* y += factor * x */
static inline void s2_add_scaled(const s2_kernels *kernels, size_t size, float factor,
                                 const float *x, float *y) {
    kernels->combine(1, size, 1.0f, &factor, &x, y);
}

/* c = start + a . b of row-major operands: a (rows, depth), b (depth, cols), start (cols). */
static inline void s2_multiply_from(const s2_kernels *kernels, uint32_t rows, uint32_t cols,
                                    uint32_t depth, const float *a, const float *b,
                                    const float *start, float *c) {
    kernels->gemm(&(s2_gemm){.rows = rows,
                             .cols = cols,
                             .depth = depth,
                             .a = a,
                             .a_row = depth,
                             .a_depth = 1,
                             .b = b,
                             .b_depth = cols,
                             .b_col = 1,
                             .c = c,
                             .c_row = cols,
                             .start = start});
}

/* c += a . b of row-major operands: a (rows, depth), b (depth, cols). */
static inline void s2_multiply_add(const s2_kernels *kernels, uint32_t rows, uint32_t cols,
                                   uint32_t depth, const float *a, const float *b, float *c) {
    kernels->gemm(&(s2_gemm){.rows = rows,
                             .cols = cols,
                             .depth = depth,
                             .a = a,
                             .a_row = depth,
                             .a_depth = 1,
                             .b = b,
                             .b_depth = cols,
                             .b_col = 1,
                             .c = c,
                             .c_row = cols,
                             .add = 1});
}

/* c = a^T . b, a sum over the batch: a (count, rows), b (count, cols). */
static inline void s2_multiply_first_transposed(const s2_kernels *kernels, uint32_t rows,
                                                uint32_t cols, uint32_t count, const float *a,
                                                const float *b, float *c) {
    kernels->gemm(&(s2_gemm){.rows = rows,
                             .cols = cols,
                             .depth = count,
                             .a = a,
                             .a_row = 1,
                             .a_depth = rows,
                             .b = b,
                             .b_depth = cols,
                             .b_col = 1,
                             .c = c,
                             .c_row = cols});
}

/* c = a . b^T: a (rows, depth), b (cols, depth). */
static inline void s2_multiply_second_transposed(const s2_kernels *kernels, uint32_t rows,
                                                 uint32_t cols, uint32_t depth, const float *a,
                                                 const float *b, float *c) {
    kernels->gemm(&(s2_gemm){.rows = rows,
                             .cols = cols,
                             .depth = depth,
                             .a = a,
                             .a_row = depth,
                             .a_depth = 1,
                             .b = b,
                             .b_depth = 1,
                             .b_col = depth,
                             .c = c,
                             .c_row = cols});
}

#endif
