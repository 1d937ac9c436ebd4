// layers.hpp - single layers and the speed of one core, for benchmarks.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

#include "arrays.hpp"
#include "skip2_layers.h"

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

inline s2_fc_pass fc_pass(const Matrix &x, const Matrix &weight) {
    s2_fc_pass pass = {};
    pass.count = count_of(x.shape(0));
    pass.n_in = count_of(weight.shape(0));
    pass.n_out = count_of(weight.shape(1));
    pass.x = x.data();
    pass.weight = weight.data();
    return pass;
}

inline void fc_forward(const Matrix &x, const Matrix &weight, const Vector &bias, const Rows &y) {
    require(x.shape(1) == weight.shape(0) && y.shape(0) == x.shape(0) &&
                y.shape(1) == weight.shape(1) && bias.shape(0) == weight.shape(1),
            "shapes of a layer do not fit each other");
    s2_fc_pass pass = fc_pass(x, weight);
    pass.bias = bias.data();
    pass.y = y.data();
    const s2_kernels *kernels = choose_kernels();
    nb::gil_scoped_release released;
    s2_fc_forward(kernels, &pass);
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
    s2_fc_pass pass = fc_pass(x, weight);
    pass.gy = gy.data();
    pass.gw = gw ? gw->data() : nullptr;
    pass.gb = gb ? gb->data() : nullptr;
    pass.gx = gx ? gx->data() : nullptr;
    const s2_kernels *kernels = choose_kernels();
    nb::gil_scoped_release released;
    s2_fc_backward(kernels, types, &pass);
}

inline void bind_layers(nb::module_ &module) {
    module.def("peak_gflops", peak_gflops, "seconds"_a);
    module.def("fc_forward", fc_forward, "x"_a.noconvert(), "weight"_a.noconvert(),
               "bias"_a.noconvert(), "y"_a.noconvert());
    module.def("fc_backward", fc_backward, "x"_a.noconvert(), "gy"_a.noconvert(),
               "weight"_a.noconvert(), "gw"_a.noconvert().none(), "gb"_a.noconvert().none(),
               "gx"_a.noconvert().none());
}
