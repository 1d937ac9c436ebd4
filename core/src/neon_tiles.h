/* neon_tiles.h - the innermost loops over cached rows, in the processor's own language; included by
 * kernels_neon.c.
 *
 * From C, compilers spill the sums of these tiles, load one vector where two could be, and mix loads
 * among the multiply-adds, where a Cortex-A53 waits for each. Here all that a round needs is loaded
 * in pairs, then multiplied. The order of every sum is that of the loops in C, which do the rest. */
/* clang-format off */

#ifdef __aarch64__

enum { DOT_COLUMNS = 4 * V_WIDTH, UPDATE_SAMPLES = 2, FACTOR_FLOATS = TAP_RANKS };

/* Sums are the operands 0 to 15; the rest lies in registers by number. */
#define ZERO(sum) "movi %" #sum ".4s, 0\n\t"
#define ZERO_FOUR(i, j, k, l) ZERO(i) ZERO(j) ZERO(k) ZERO(l)
#define ZERO_ALL                                                                                   \
    ZERO_FOUR(0, 1, 2, 3) ZERO_FOUR(4, 5, 6, 7) ZERO_FOUR(8, 9, 10, 11) ZERO_FOUR(12, 13, 14, 15)
#define FOUR_OF(sum) "=&w"((sum)[0]), "=&w"((sum)[1]), "=&w"((sum)[2]), "=&w"((sum)[3])
#define ALL_OF(sum) FOUR_OF((sum)[0]), FOUR_OF((sum)[1]), FOUR_OF((sum)[2]), FOUR_OF((sum)[3])

#define MULTIPLY(sum, a, b) "fmla %" #sum ".4s, v" #a ".4s, v" #b "\n\t"
#define FOUR(i, j, k, l, a, b, c, d, factor)                                                       \
    MULTIPLY(i, a, factor) MULTIPLY(j, b, factor) MULTIPLY(k, c, factor) MULTIPLY(l, d, factor)

/* v0 to v7: two vectors of each sample; v8 to v15: two of each rank. */
#define LOAD_PAIRS(at)                                                                             \
    "ldp q0, q1, [x9, " #at "]\n\t"                                                                \
    "ldp q2, q3, [x10, " #at "]\n\t"                                                               \
    "ldp q4, q5, [x11, " #at "]\n\t"                                                               \
    "ldp q6, q7, [x12, " #at "]\n\t"                                                               \
    "ldp q8, q9, [x13, " #at "]\n\t"                                                               \
    "ldp q10, q11, [x14, " #at "]\n\t"                                                             \
    "ldp q12, q13, [x15, " #at "]\n\t"                                                             \
    "ldp q14, q15, [x16, " #at "]\n\t"
#define MULTIPLY_PAIRS                                                                             \
    FOUR(0, 1, 2, 3, 0, 2, 4, 6, 8.4s)                                                             \
    FOUR(4, 5, 6, 7, 0, 2, 4, 6, 10.4s)                                                            \
    FOUR(8, 9, 10, 11, 0, 2, 4, 6, 12.4s)                                                          \
    FOUR(12, 13, 14, 15, 0, 2, 4, 6, 14.4s)                                                        \
    FOUR(0, 1, 2, 3, 1, 3, 5, 7, 9.4s)                                                             \
    FOUR(4, 5, 6, 7, 1, 3, 5, 7, 11.4s)                                                            \
    FOUR(8, 9, 10, 11, 1, 3, 5, 7, 13.4s)                                                          \
    FOUR(12, 13, 14, 15, 1, 3, 5, 7, 15.4s)

/* sum[r][s] = row[s] . b[r] over `rounds` * DOT_COLUMNS columns, which start at `at` floats in a row;
 * rounds > 0. */
static inline __attribute__((always_inline)) void
dot_rounds(const float *const *row, size_t at, const float *b, size_t b_row, size_t rounds,
           float32x4_t (*sum)[TAP_SAMPLES]) {
    __asm__("ldp x9, x10, [%[row]]\n\t"
            "ldp x11, x12, [%[row], 16]\n\t"
            "add x9, x9, %[at]\n\t"
            "add x10, x10, %[at]\n\t"
            "add x11, x11, %[at]\n\t"
            "add x12, x12, %[at]\n\t"
            "mov x13, %[b]\n\t"
            "add x14, %[b], %[b_row]\n\t"
            "add x15, x14, %[b_row]\n\t"
            "add x16, x15, %[b_row]\n\t"
            "mov x17, %[rounds]\n\t"
            ZERO_ALL
            "0:\n\t"
            "subs x17, x17, 1\n\t"
            LOAD_PAIRS(0)
            MULTIPLY_PAIRS
            LOAD_PAIRS(32)
            "add x9, x9, 64\n\t"
            "add x10, x10, 64\n\t"
            "add x11, x11, 64\n\t"
            "add x12, x12, 64\n\t"
            "add x13, x13, 64\n\t"
            "add x14, x14, 64\n\t"
            "add x15, x15, 64\n\t"
            "add x16, x16, 64\n\t"
            MULTIPLY_PAIRS
            "b.ne 0b"
            : ALL_OF(sum)
            : [row] "r"(row), [at] "r"(at * sizeof(float)), [b] "r"(b),
              [b_row] "r"(b_row * sizeof *b), [rounds] "r"(rounds)
            : "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "v0", "v1", "v2", "v3",
              "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "cc",
              "memory");
}

/* Of one sample: its vectors a to d, its factors the lanes of `factors`. */
#define MULTIPLY_SAMPLE(a, b, c, d, factors)                                                       \
    FOUR(0, 4, 8, 12, a, b, c, d, factors.s[0])                                                    \
    FOUR(1, 5, 9, 13, a, b, c, d, factors.s[1])                                                    \
    FOUR(2, 6, 10, 14, a, b, c, d, factors.s[2])                                                   \
    FOUR(3, 7, 11, 15, a, b, c, d, factors.s[3])

/* sum[v][r] = vector v of columns of each row times its factor r, over the first `rounds` *
 * UPDATE_SAMPLES rows; rounds > 0. `at`: where the columns stand in a row, in floats. */
static inline __attribute__((always_inline)) void
update_rounds(const float *const *row, size_t at, const float *factors, size_t rounds,
              float32x4_t (*sum)[TAP_RANKS]) {
    __asm__("mov x11, %[row]\n\t"
            "mov x12, %[factors]\n\t"
            "mov x13, %[rounds]\n\t"
            ZERO_ALL
            "0:\n\t"
            "ldp x9, x10, [x11], 16\n\t"
            "ldp q0, q1, [x12], 32\n\t"
            "add x9, x9, %[at]\n\t"
            "add x10, x10, %[at]\n\t"
            "subs x13, x13, 1\n\t"
            "ldp q2, q3, [x9]\n\t"
            "ldp q4, q5, [x9, 32]\n\t"
            "ldp q6, q7, [x10]\n\t"
            "ldp q8, q9, [x10, 32]\n\t"
            MULTIPLY_SAMPLE(2, 3, 4, 5, 0)
            MULTIPLY_SAMPLE(6, 7, 8, 9, 1)
            "b.ne 0b"
            : ALL_OF(sum)
            : [row] "r"(row), [at] "r"(at * sizeof(float)), [factors] "r"(factors),
              [rounds] "r"(rounds)
            : "x9", "x10", "x11", "x12", "x13", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7",
              "v8", "v9", "cc", "memory");
}

#else

enum { DOT_COLUMNS = 2 * V_WIDTH, UPDATE_SAMPLES = 2, FACTOR_FLOATS = TAP_RANKS * V_WIDTH };

/* Sums are the operands 0 to 7, q8 to q15. */
#define ZERO(sum) "vmov.i32 %q" #sum ", #0\n\t"
#define ZERO_ALL ZERO(0) ZERO(1) ZERO(2) ZERO(3) ZERO(4) ZERO(5) ZERO(6) ZERO(7)
#define FOUR_OF(sum) "=&w"((sum)[0]), "=&w"((sum)[1]), "=&w"((sum)[2]), "=&w"((sum)[3])
#define TWO_OF(sum) "=&w"((sum)[0]), "=&w"((sum)[1])

#define MULTIPLY(sum, a, b) "vfma.f32 %q" #sum ", q" #a ", q" #b "\n\t"

/* q0, q1 and q2, q3: two vectors of each sample; b, c: two of a rank. */
#define MULTIPLY_PAIRS(i, j, b, c) MULTIPLY(i, 0, b) MULTIPLY(j, 2, b) MULTIPLY(i, 1, c) MULTIPLY(j, 3, c)

static inline __attribute__((always_inline)) void
dot_rounds(const float *const *row, size_t at, const float *b, size_t b_row, size_t rounds,
           float32x4_t (*sum)[TAP_SAMPLES]) {
    const float *x0 = row[0] + at, *x1 = row[1] + at, *b0 = b, *b1 = b + b_row, *b2 = b1 + b_row,
                *b3 = b2 + b_row;
    __asm__(ZERO_ALL
            "0:\n\t"
            "subs %[rounds], %[rounds], #1\n\t"
            "vld1.32 {d0-d3}, [%[x0]]!\n\t"
            "vld1.32 {d4-d7}, [%[x1]]!\n\t"
            "vld1.32 {d8-d11}, [%[b0]]!\n\t"
            "vld1.32 {d12-d15}, [%[b1]]!\n\t"
            MULTIPLY_PAIRS(0, 1, 4, 5)
            "vld1.32 {d8-d11}, [%[b2]]!\n\t"
            MULTIPLY_PAIRS(2, 3, 6, 7)
            "vld1.32 {d12-d15}, [%[b3]]!\n\t"
            MULTIPLY_PAIRS(4, 5, 4, 5)
            MULTIPLY_PAIRS(6, 7, 6, 7)
            "bne 0b"
            : TWO_OF(sum[0]), TWO_OF(sum[1]), TWO_OF(sum[2]), TWO_OF(sum[3]), [x0] "+r"(x0),
              [x1] "+r"(x1), [b0] "+r"(b0), [b1] "+r"(b1), [b2] "+r"(b2), [b3] "+r"(b3),
              [rounds] "+r"(rounds)
            :
            : "d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9", "d10", "d11", "d12",
              "d13", "d14", "d15", "cc", "memory");
}

/* q0, q1: vectors of the sample; q2 to q5: its factors, each in all lanes. */
#define LOAD_SAMPLE(row)                                                                           \
    "vld1.32 {d0-d3}, [%[" #row "]]\n\t"                                                           \
    "vld1.32 {d4-d7}, [%[factors]]!\n\t"                                                           \
    "vld1.32 {d8-d11}, [%[factors]]!\n\t"
#define MULTIPLY_SAMPLE                                                                            \
    MULTIPLY(0, 0, 2) MULTIPLY(4, 1, 2) MULTIPLY(1, 0, 3) MULTIPLY(5, 1, 3)                        \
    MULTIPLY(2, 0, 4) MULTIPLY(6, 1, 4) MULTIPLY(3, 0, 5) MULTIPLY(7, 1, 5)

static inline __attribute__((always_inline)) void
update_rounds(const float *const *row, size_t at, const float *factors, size_t rounds,
              float32x4_t (*sum)[TAP_RANKS]) {
    const float *first, *second;
    __asm__(ZERO_ALL
            "0:\n\t"
            "ldr %[first], [%[row]], #4\n\t"
            "ldr %[second], [%[row]], #4\n\t"
            "subs %[rounds], %[rounds], #1\n\t"
            "add %[first], %[first], %[at]\n\t"
            "add %[second], %[second], %[at]\n\t"
            LOAD_SAMPLE(first)
            MULTIPLY_SAMPLE
            LOAD_SAMPLE(second)
            MULTIPLY_SAMPLE
            "bne 0b"
            : FOUR_OF(sum[0]), FOUR_OF(sum[1]), [first] "=&r"(first), [second] "=&r"(second),
              [row] "+r"(row), [factors] "+r"(factors), [rounds] "+r"(rounds)
            : [at] "r"(at * sizeof(float))
            : "d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9", "d10", "d11", "cc",
              "memory");
}

#endif
/* clang-format on */
