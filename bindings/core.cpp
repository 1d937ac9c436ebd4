// core.cpp - the only C++: checks arrays, releases the GIL, calls the C core.
//
// Shapes and types are checked here so that no Python call can make the core read or write outside
// its arrays. Messages for people are made in Python, before these calls.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include "checksum.hpp"
#include "device.hpp"
#include "digest.hpp"
#include "exact.hpp"
#include "layers.hpp"
#include "novelty.hpp"
#include "numbers.hpp"
#include "pooling.hpp"
#include "primal.hpp"
#include "ridge.hpp"
#include "training.hpp"

namespace {

std::vector<std::string> kernel_tables() {
    std::vector<std::string> names;
    for (const char *const *name = s2_kernels_names(); *name; name++) {
        if (s2_kernels_choose(*name)) {
            names.emplace_back(*name);
        }
    }
    return names;
}

void bind_constants(nb::module_ &module) {
    module.attr("OK") = static_cast<int>(S2_OK);
    module.attr("NOT_FINITE") = static_cast<int>(S2_NOT_FINITE);
    module.attr("Y") = static_cast<int>(S2_Y);
    module.attr("W") = static_cast<int>(S2_W);
    module.attr("B") = static_cast<int>(S2_B);
    module.attr("X") = static_cast<int>(S2_X);
    module.attr("STATS") = static_cast<int>(S2_STATS);
    module.attr("SOFTMAX") = static_cast<int>(S2_SOFTMAX);
    module.attr("SIGMOID") = static_cast<int>(S2_SIGMOID);
    module.attr("SQUARED") = static_cast<int>(S2_SQUARED);
    module.attr("PIN") = static_cast<int>(S2_PIN);
    module.attr("FIFO") = static_cast<int>(S2_FIFO);
    module.attr("LRU") = static_cast<int>(S2_LRU);
    module.attr("SGD") = static_cast<int>(S2_SGD);
    module.attr("MOMENTUM") = static_cast<int>(S2_MOMENTUM);
    module.attr("ADAM") = static_cast<int>(S2_ADAM);
}

} // namespace

NB_MODULE(_core, module) {
    // Objects that a caught exception keeps alive until the interpreter ends are no leak.
    nb::set_leak_warnings(false);
    bind_constants(module);
    module.def("kernel_tables", kernel_tables);
    module.def("kernels", [] { return std::string(s2_kernels_name(choose_kernels())); });
    bind_checksum(module);
    bind_layers(module);
    bind_pooling(module);
    bind_network(module);
    bind_adapter(module);
    bind_profile(module);
    bind_coded(module);
    bind_row_source(module);
    bind_training(module);
    bind_ridge(module);
    bind_exact(module);
    bind_primal(module);
    bind_device(module);
    bind_novelty(module);
    bind_numbers(module);
    bind_digest(module);
}
