/* dispatch.c - which kernel table this processor runs. */
#include "kernels.h"

#ifdef S2_HAVE_NEON
/* Where the whole build is for NEON there is nothing to ask: aarch64, and ARMv7 with
 * -mfpu=neon-vfpv4 for every file, as without an operating system. */
#if defined(__aarch64__) || (defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA))
static int has_neon(void) {
    return 1;
}
#elif defined(__linux__)
#include <sys/auxv.h>
static int has_neon(void) {
    const unsigned long neon = 1UL << 12, vfp_v4 = 1UL << 16; /* Linux's bits for 32-bit ARM */
    const unsigned long both = neon | vfp_v4;
    return (getauxval(AT_HWCAP) & both) == both;
}
#else
#error "S2_HAVE_NEON without Linux: compile every file with -mfpu=neon-vfpv4, or do without it"
#endif
#endif

#ifdef S2_HAVE_X86_64_V3
#include <cpuid.h>
/* Asked here, as not every compiler's library knows: that of Zig says no to everything. `saved`: the
 * registers that the system keeps for a program, bits of XCR0. */
static int has_vectors(unsigned of_leaf_7, unsigned saved) {
    const unsigned of_leaf_1 = bit_OSXSAVE | bit_FMA | bit_F16C;
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & of_leaf_1) != of_leaf_1) {
        return 0;
    }
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & saved) != saved || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return 0;
    }
    return (b & of_leaf_7) == of_leaf_7;
}
#endif

static int runs_here(const s2_kernels *kernels) {
#ifdef S2_HAVE_X86_64_V4
    if (kernels == &s2_kernels_x86_64_v4) {
        return has_vectors(bit_AVX2 | bit_AVX512F | bit_AVX512VL | bit_AVX512BW | bit_AVX512DQ,
                           0xe6U); /* of 128, 256 and 512 bits, and masks */
    }
#endif
#ifdef S2_HAVE_X86_64_V3
    if (kernels == &s2_kernels_x86_64_v3) {
        return has_vectors(bit_AVX2, 0x6U); /* of 128 and 256 bits */
    }
#endif
#ifdef S2_HAVE_NEON
    if (kernels == &s2_kernels_neon) {
        return has_neon();
    }
#endif
#ifdef S2_HAVE_SIMD128
    if (kernels == &s2_kernels_simd128) {
        return 1; /* else the engine would have refused the module */
    }
#endif
    return kernels == &s2_kernels_scalar;
}

static const s2_kernels *const tables[] = {
#ifdef S2_HAVE_X86_64_V4
    &s2_kernels_x86_64_v4,
#endif
#ifdef S2_HAVE_X86_64_V3
    &s2_kernels_x86_64_v3,
#endif
#ifdef S2_HAVE_NEON
    &s2_kernels_neon,
#endif
#ifdef S2_HAVE_SIMD128
    &s2_kernels_simd128,
#endif
    &s2_kernels_scalar,
};

const char *const *s2_kernels_names(void) {
    static const char *const names[] = {
#ifdef S2_HAVE_X86_64_V4
        "x86-64-v4",
#endif
#ifdef S2_HAVE_X86_64_V3
        "x86-64-v3",
#endif
#ifdef S2_HAVE_NEON
        "neon",
#endif
#ifdef S2_HAVE_SIMD128
        "simd128",
#endif
        "scalar",    NULL};
    return names;
}

/* In place of strcmp, which is 0.7 KB of a board's C library. */
static int same(const char *a, const char *b) {
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

const s2_kernels *s2_kernels_choose(const char *name) {
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (runs_here(tables[i]) && (name == NULL || same(name, tables[i]->name))) {
            return tables[i];
        }
    }
    return NULL;
}

const char *s2_kernels_name(const s2_kernels *kernels) {
    return kernels->name;
}

double s2_kernels_multiply_adds(const s2_kernels *kernels, size_t rounds, float *result) {
    return kernels->multiply_adds(rounds, result);
}
