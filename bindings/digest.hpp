// digest.hpp - sums by which samples that were hashed before are known again, faster than by SHA-256.
//
// NH of UMAC (RFC 4418, section 5.2.2): of each block of 1,024 words w, and of four keys k that each
// begin two words after the one before, the sum of (w[2i] + k[2i]) * (w[2i+1] + k[2i+1]), words mod
// 2^32 and sums mod 2^64. With keys by chance two blocks that differ have the same four sums with a
// probability of at most 2^-128.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "arrays.hpp"

namespace digest {

constexpr size_t BLOCK = 1024, PASSES = 4, KEY = BLOCK + 2 * (PASSES - 1); // words
constexpr size_t AHEAD = 4096; // bytes that are fetched early: the processor stops at a page
using Sums = std::array<uint64_t, PASSES>;

inline Sums plain(const uint8_t *data, const uint32_t *key) {
    Sums sums{};
    for (size_t i = 0; i < BLOCK; i += 2) {
        uint32_t word[2];
        std::memcpy(word, data + 4 * i, sizeof word);
        for (size_t pass = 0; pass < PASSES; pass++) {
            const uint32_t *of = key + i + 2 * pass;
            sums[pass] += static_cast<uint64_t>(word[0] + of[0]) * (word[1] + of[1]);
        }
    }
    return sums;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) inline Sums avx2(const uint8_t *data, const uint32_t *key) {
    const auto load = [](const void *at) __attribute__((target("avx2"))) {
        return _mm256_loadu_si256(static_cast<const __m256i *>(at));
    };
    __m256i sum[PASSES] = {};
    for (size_t i = 0; i < BLOCK; i += 8) {
        const __m256i words = load(data + 4 * i);
        __builtin_prefetch(data + 4 * i + AHEAD);
        for (size_t pass = 0; pass < PASSES; pass++) {
            const __m256i both = _mm256_add_epi32(words, load(key + i + 2 * pass));
            const __m256i product = _mm256_mul_epu32(both, _mm256_srli_epi64(both, 32));
            sum[pass] = _mm256_add_epi64(sum[pass], product);
        }
    }
    Sums sums{};
    for (size_t pass = 0; pass < PASSES; pass++) {
        for (int lane = 0; lane < 4; lane++) {
            uint64_t lanes[4];
            std::memcpy(lanes, &sum[pass], sizeof lanes);
            sums[pass] += lanes[lane];
        }
    }
    return sums;
}
#endif

using Of = Sums (*)(const uint8_t *data, const uint32_t *key);

// The scalar table asks for the plain one.
inline Of fastest() {
#if defined(__x86_64__)
    const bool scalar = std::strcmp(s2_kernels_name(choose_kernels()), "scalar") == 0;
    return !scalar && __builtin_cpu_supports("avx2") ? avx2 : plain;
#else
    return plain;
#endif
}

} // namespace digest

using SampleBytes = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using OutSums = nb::ndarray<uint64_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

// Samples (n, bytes), the last block filled up with 0, to sums (n, blocks, 4).
inline void block_sums(const SampleBytes &samples, const Indices &key, const OutSums &sums) {
    const size_t size = samples.shape(1), block = 4 * digest::BLOCK;
    require(key.shape(0) == digest::KEY, "the key does not have its words");
    require(sums.shape(0) == samples.shape(0) && sums.shape(2) == digest::PASSES &&
                sums.shape(1) == size / block + (size % block != 0),
            "sums do not have a place for each block of each sample");
    const digest::Of of = digest::fastest();
    nb::gil_scoped_release released;
    uint8_t rest[4 * digest::BLOCK] = {};
    uint64_t *out = sums.data();
    for (size_t sample = 0; sample < samples.shape(0); sample++) {
        const uint8_t *data = samples.data() + sample * size;
        for (size_t at = 0; at < size; at += block, out += digest::PASSES) {
            const bool whole = size - at >= block;
            if (!whole) { // the same bytes of every sample
                std::memcpy(rest, data + at, size - at);
            }
            const digest::Sums of_block = of(whole ? data + at : rest, key.data());
            std::copy(of_block.begin(), of_block.end(), out);
        }
    }
}

inline void bind_digest(nb::module_ &module) {
    module.def("block_sums", block_sums, "samples"_a.noconvert(), "key"_a.noconvert(),
               "sums"_a.noconvert());
}
