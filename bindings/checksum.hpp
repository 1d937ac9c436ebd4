// checksum.hpp - CRC-32 as zlib's, at the speed of memory where the processor multiplies without carry.
//
// V. Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ", Intel 2009:
// 64 bytes are folded into the next 64 until 64 are left, then these into 16, and 16 into 4 by
// Barrett's reduction. The constants are those of section 4 for the bits in reverse, as zlib has them.
#pragma once

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "arrays.hpp"
#include "skip2_model.h"

namespace checksum {

constexpr size_t FOLDED = 64, VECTOR = 16; // bytes

#if defined(__x86_64__)
#define S2_CARRYLESS __attribute__((target("pclmul,sse4.1")))

S2_CARRYLESS inline __m128i load(const uint8_t *at) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i *>(at));
}

// `sum` moved ahead by what `by` stands for, and what is there.
S2_CARRYLESS inline __m128i folded(__m128i sum, __m128i by, __m128i there) {
    const __m128i low = _mm_clmulepi64_si128(sum, by, 0x00);
    const __m128i high = _mm_clmulepi64_si128(sum, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), there);
}

// Of 64 bytes or more, a multiple of 16; the bits of `crc` are turned before and after.
S2_CARRYLESS inline uint32_t carryless(uint32_t crc, const uint8_t *data, size_t n_bytes) {
    const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
    const __m128i by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    const __m128i by_8 = _mm_set_epi64x(0, 0x163cd6124);
    const __m128i barrett = _mm_set_epi64x(0x1f7011641, 0x1db710641);
    const __m128i low_words = _mm_set_epi32(0, ~0, 0, ~0);
    __m128i sum[FOLDED / VECTOR];
    for (size_t lane = 0; lane < 4; lane++) {
        sum[lane] = load(data + VECTOR * lane);
    }
    sum[0] = _mm_xor_si128(sum[0], _mm_cvtsi32_si128(static_cast<int>(crc)));
    size_t at = FOLDED;
    for (; n_bytes - at >= FOLDED; at += FOLDED) {
        for (size_t lane = 0; lane < 4; lane++) {
            sum[lane] = folded(sum[lane], by_64, load(data + at + VECTOR * lane));
        }
    }
    __m128i all = sum[0];
    for (size_t lane = 1; lane < 4; lane++) {
        all = folded(all, by_16, sum[lane]);
    }
    for (; at < n_bytes; at += VECTOR) {
        all = folded(all, by_16, load(data + at));
    }
    // 16 bytes into 8, and 8 into 4.
    all = _mm_xor_si128(_mm_srli_si128(all, 8), _mm_clmulepi64_si128(all, by_16, 0x10));
    const __m128i low = _mm_clmulepi64_si128(_mm_and_si128(all, low_words), by_8, 0x00);
    all = _mm_xor_si128(_mm_srli_si128(all, 4), low);
    __m128i rest = _mm_clmulepi64_si128(_mm_and_si128(all, low_words), barrett, 0x10);
    rest = _mm_clmulepi64_si128(_mm_and_si128(rest, low_words), barrett, 0x00);
    return static_cast<uint32_t>(_mm_extract_epi32(_mm_xor_si128(all, rest), 1));
}
#endif

// The scalar table asks for zlib's.
inline bool is_fast() {
#if defined(__x86_64__)
    const bool scalar = std::strcmp(s2_kernels_name(choose_kernels()), "scalar") == 0;
    return !scalar && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#else
    return false;
#endif
}

} // namespace checksum

using Content = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Of `content`, behind bytes whose CRC-32 is `before`.
inline uint32_t crc32(const Content &content, uint32_t before) {
    if (!checksum::is_fast()) {
        return nb::cast<uint32_t>(nb::module_::import_("zlib").attr("crc32")(content, before));
    }
    nb::gil_scoped_release released;
    const uint8_t *data = content.data();
    size_t left = content.size();
#if defined(__x86_64__)
    if (left >= checksum::FOLDED) {
        const size_t whole = left - left % checksum::VECTOR;
        before = ~checksum::carryless(~before, data, whole);
        data += whole, left -= whole;
    }
#endif
    return s2_crc32(before, data, left);
}

inline void bind_checksum(nb::module_ &module) {
    module.def("crc32", crc32, "content"_a.noconvert(), "before"_a = 0);
}
