/*
 * m4f_tiles.h - the sums of scalar_taps.h by the instructions of a Cortex-M4F, because no compiler
 * loads several floats at once there (VLDM). The additions, their order and where they round are those
 * of scalar_taps.h: the same bits.
 */

/* Four sums += x times each of four numbers; all of them numbers of registers. VMLA rounds twice, as
 * VMUL and VADD do. On a Cortex-M4 it takes 3 cycles for their 2, and half of their room. */
#ifdef __OPTIMIZE_SIZE__
#define FOUR_SUMS(s0, s1, s2, s3, a0, a1, a2, a3, x)                                               \
    "vmla.f32 s" #s0 ", s" #x ", s" #a0 "\n\t"                                                     \
    "vmla.f32 s" #s1 ", s" #x ", s" #a1 "\n\t"                                                     \
    "vmla.f32 s" #s2 ", s" #x ", s" #a2 "\n\t"                                                     \
    "vmla.f32 s" #s3 ", s" #x ", s" #a3 "\n\t"
#else
#define FOUR_SUMS(s0, s1, s2, s3, a0, a1, a2, a3, x)                                               \
    "vmul.f32 s28, s" #x ", s" #a0 "\n\t"                                                          \
    "vmul.f32 s29, s" #x ", s" #a1 "\n\t"                                                          \
    "vmul.f32 s30, s" #x ", s" #a2 "\n\t"                                                          \
    "vmul.f32 s31, s" #x ", s" #a3 "\n\t"                                                          \
    "vadd.f32 s" #s0 ", s" #s0 ", s28\n\t"                                                         \
    "vadd.f32 s" #s1 ", s" #s1 ", s29\n\t"                                                         \
    "vadd.f32 s" #s2 ", s" #s2 ", s30\n\t"                                                         \
    "vadd.f32 s" #s3 ", s" #s3 ", s31\n\t"
#endif

/* The sums, (TILE, TILE), are s0 to s15. */
#define TILE_REGISTERS                                                                             \
    "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", \
        "s15", "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24", "s25", "s28", "s29", \
        "s30", "s31", "cc", "memory"

/* clang-format off */

/* Two columns of a sample, times those of all ranks: s16, s17 of the first rank, and so on. */
#define ADD_SAMPLE(x, s0, s1, s2, s3)             \
    "vldmia %[" #x "]!, {s24, s25}\n\t"           \
    FOUR_SUMS(s0, s1, s2, s3, 16, 18, 20, 22, 24) \
    FOUR_SUMS(s0, s1, s2, s3, 17, 19, 21, 23, 25)

static void add_pairs(size_t pairs, const float *a, size_t a_row, const float *const *row,
                      size_t offset, float sum[TILE][TILE]) {
    const float *a1 = a + a_row, *a2 = a1 + a_row, *a3 = a2 + a_row;
    const float *x0 = row[0] + offset, *x1 = row[1] + offset;
    const float *x2 = row[2] + offset, *x3 = row[3] + offset;
    __asm__ volatile(
        "vldmia %[sum], {s0-s15}\n"
        "1:\n\t"
        "vldmia %[a0]!, {s16, s17}\n\t"
        "vldmia %[a1]!, {s18, s19}\n\t"
        "vldmia %[a2]!, {s20, s21}\n\t"
        "vldmia %[a3]!, {s22, s23}\n\t"
        ADD_SAMPLE(x0, 0, 4, 8, 12)
        ADD_SAMPLE(x1, 1, 5, 9, 13)
        ADD_SAMPLE(x2, 2, 6, 10, 14)
        ADD_SAMPLE(x3, 3, 7, 11, 15)
        "subs %[pairs], #1\n\t"
        "bne 1b\n\t"
        "vstmia %[sum], {s0-s15}\n"
        : [pairs] "+r"(pairs), [a0] "+r"(a), [a1] "+r"(a1), [a2] "+r"(a2), [a3] "+r"(a3),
          [x0] "+r"(x0), [x1] "+r"(x1), [x2] "+r"(x2), [x3] "+r"(x3)
        : [sum] "r"(sum)
        : TILE_REGISTERS);
}

/* Four columns of a sample, s16 to s19, times its gradients of all ranks, s20 to s23. */
#define ADD_COLUMNS                              \
    FOUR_SUMS(0, 1, 2, 3, 16, 17, 18, 19, 20)    \
    FOUR_SUMS(4, 5, 6, 7, 16, 17, 18, 19, 21)    \
    FOUR_SUMS(8, 9, 10, 11, 16, 17, 18, 19, 22)  \
    FOUR_SUMS(12, 13, 14, 15, 16, 17, 18, 19, 23)

static const float no_sums[TILE][TILE];

/* Of gradients with samples side by side. */
static void gradient_of_lanes(size_t count, const float *const *row, size_t bytes, const float *g,
                              size_t h_rank, float sum[TILE][TILE]) {
    const float *g1 = g + h_rank, *g2 = g1 + h_rank, *g3 = g2 + h_rank, *x;
    __asm__ volatile(
        "vldmia %[none], {s0-s15}\n"
        "1:\n\t"
        "ldr %[x], [%[row]], #4\n\t"
        "vldmia %[g0]!, {s20}\n\t"
        "vldmia %[g1]!, {s21}\n\t"
        "add %[x], %[bytes]\n\t"
        "vldmia %[g2]!, {s22}\n\t"
        "vldmia %[g3]!, {s23}\n\t"
        "vldmia %[x], {s16-s19}\n\t"
        ADD_COLUMNS
        "subs %[count], #1\n\t"
        "bne 1b\n\t"
        "vstmia %[sum], {s0-s15}\n"
        : [count] "+r"(count), [row] "+r"(row), [x] "=&r"(x), [g0] "+r"(g), [g1] "+r"(g1),
          [g2] "+r"(g2), [g3] "+r"(g3)
        : [bytes] "r"(bytes), [none] "r"(no_sums), [sum] "r"(sum)
        : TILE_REGISTERS);
}

/* Of gradients with ranks side by side. */
static void gradient_of_rows(size_t count, const float *const *row, size_t bytes, const float *g,
                             size_t h_sample, float sum[TILE][TILE]) {
    const float *x;
    __asm__ volatile(
        "vldmia %[none], {s0-s15}\n"
        "1:\n\t"
        "ldr %[x], [%[row]], #4\n\t"
        "vldmia %[g], {s20-s23}\n\t"
        "add %[x], %[bytes]\n\t"
        "add %[g], %[step]\n\t"
        "vldmia %[x], {s16-s19}\n\t"
        ADD_COLUMNS
        "subs %[count], #1\n\t"
        "bne 1b\n\t"
        "vstmia %[sum], {s0-s15}\n"
        : [count] "+r"(count), [row] "+r"(row), [x] "=&r"(x), [g] "+r"(g)
        : [bytes] "r"(bytes), [none] "r"(no_sums), [sum] "r"(sum),
          [step] "r"(h_sample * sizeof(float))
        : TILE_REGISTERS);
}

/* clang-format on */

static void forward_sums(const s2_tap_pass *pass, size_t rank, size_t sample,
                         float sum[TILE][TILE]) {
    const float *a = pass->a + rank * pass->a_row;
    const float *const *row = pass->row + sample;
    memset(sum, 0, sizeof no_sums);
    if (pass->width > 1) {
        add_pairs(pass->width / 2, a, pass->a_row, row, pass->offset, sum);
    }
    if (pass->width % 2 != 0) { /* the last column */
        const size_t i = pass->width - 1u;
        for (size_t r = 0; r < TILE; r++) {
            for (size_t s = 0; s < TILE; s++) {
                sum[r][s] += row[s][pass->offset + i] * a[r * pass->a_row + i];
            }
        }
    }
}

static void gradient_sums(const s2_tap_pass *pass, size_t rank, size_t column,
                          float sum[TILE][TILE]) {
    const float *g = pass->hidden + rank * pass->h_rank;
    const size_t bytes = (pass->offset + column) * sizeof(float);
    if (pass->h_sample == 1) {
        gradient_of_lanes(pass->count, pass->row, bytes, g, pass->h_rank, sum);
    } else {
        gradient_of_rows(pass->count, pass->row, bytes, g, pass->h_sample, sum);
    }
}
