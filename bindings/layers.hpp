// layers.hpp - single layers and the speed of one core, for benchmarks.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

#include "arrays.hpp"

// The most multiply-adds a second that one core was seen to do, in 10^9 operations a second.
inline double peak_gflops(double seconds) {
    const s2_kernels *kernels = choose_kernels();
    require(seconds > 0 && seconds <= 60, "seconds are outside 0..60");
    nb::gil_scoped_release released;
    using clock = std::chrono::steady_clock;
    const auto start = clock::now();
    double best = 0;
    for (auto at = start; std::chrono::duration<double>(at - start).count() < seconds;) {
        float result = 0.5f;
        const double operations = s2_kernels_multiply_adds(kernels, 20000, &result);
        const auto end = clock::now();
        require(result == result, "the multiply-adds ended as NaN");
        best = std::max(best, operations / std::chrono::duration<double>(end - at).count());
        at = end;
    }
    return best * 1e-9;
}

inline void fc_forward(const Matrix &x, const Matrix &weight, const Vector &bias, const Rows &y) {
    require(x.shape(1) == weight.shape(0) && y.shape(0) == x.shape(0) &&
                y.shape(1) == weight.shape(1) && bias.shape(0) == weight.shape(1),
            "shapes of a layer do not fit each other");
    const s2_kernels *kernels = choose_kernels();
    nb::gil_scoped_release released;
    s2_fc_forward(kernels, count_of(x.shape(0)), count_of(x.shape(1)), count_of(weight.shape(1)),
                  x.data(), weight.data(), bias.data(), y.data());
}

// Those of gw, gb and gx that are given.
inline void fc_backward(const Matrix &x, const Matrix &gy, const Matrix &weight,
                        const std::optional<Rows> &gw, const std::optional<OutVector> &gb,
                        const std::optional<Rows> &gx) {
    const size_t count = x.shape(0), n_in = weight.shape(0), n_out = weight.shape(1);
    require(x.shape(1) == n_in && gy.shape(0) == count && gy.shape(1) == n_out &&
                (!gw || (gw->shape(0) == n_in && gw->shape(1) == n_out)) &&
                (!gb || gb->shape(0) == n_out) &&
                (!gx || (gx->shape(0) == count && gx->shape(1) == n_in)),
            "shapes of a layer do not fit each other");
    const unsigned types = (gw ? S2_W : 0u) | (gb ? S2_B : 0u) | (gx ? S2_X : 0u);
    const s2_kernels *kernels = choose_kernels();
    nb::gil_scoped_release released;
    s2_fc_backward(kernels, types, count_of(count), count_of(n_in), count_of(n_out), x.data(),
                   gy.data(), weight.data(), gw ? gw->data() : nullptr, gb ? gb->data() : nullptr,
                   gx ? gx->data() : nullptr);
}
