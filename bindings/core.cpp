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

#include "layers.hpp"
#include "pooling.hpp"
#include "training.hpp"

using nb::literals::operator""_a;

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

} // namespace

NB_MODULE(_core, module) {
    // Objects that a caught exception keeps alive until the interpreter ends are no leak.
    nb::set_leak_warnings(false);
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
    module.attr("SGD") = static_cast<int>(S2_SGD);
    module.attr("MOMENTUM") = static_cast<int>(S2_MOMENTUM);
    module.attr("ADAM") = static_cast<int>(S2_ADAM);
    module.def("kernel_tables", kernel_tables);
    module.def("peak_gflops", peak_gflops, "seconds"_a);
    module.def("fc_forward", fc_forward, "x"_a.noconvert(), "weight"_a.noconvert(),
               "bias"_a.noconvert(), "y"_a.noconvert());
    module.def("fc_backward", fc_backward, "x"_a.noconvert(), "gy"_a.noconvert(),
               "weight"_a.noconvert(), "gw"_a.noconvert().none(), "gb"_a.noconvert().none(),
               "gx"_a.noconvert().none());
    module.def("pool", pool, "map"_a.noconvert(), "grid"_a, "scale"_a, "zero_point"_a,
               "row"_a.noconvert());
    module.def("kernels", [] { return std::string(s2_kernels_name(choose_kernels())); });

    nb::class_<RowLayout>(module, "RowLayout")
        .def(nb::init<std::vector<uint32_t>, uint32_t, bool>(), "tap_widths"_a, "n_outputs"_a,
             "first_tap_is_input"_a)
        .def_prop_ro("tap_offsets", &RowLayout::tap_offsets)
        .def_prop_ro("logits_offset", [](const RowLayout &r) { return r.layout.logits_offset; })
        .def_prop_ro("row_stride", [](const RowLayout &r) { return r.layout.row_stride; });
    nb::class_<Network>(module, "Network")
        .def(nb::init<std::vector<LayerArrays>, float, float>(), "layers"_a.noconvert(), "bn_eps"_a,
             "bn_momentum"_a)
        .def("forward", &Network::forward, "x"_a.noconvert(), "layout"_a, "first_tap"_a,
             "rows"_a.noconvert(), "at_a_time"_a = SAMPLES_AT_A_TIME);
    nb::class_<SkipAdapter>(module, "SkipAdapter")
        .def(nb::init<const RowLayout &, uint32_t, int, bool>(), "layout"_a, "rank"_a,
             "loss"_a = static_cast<int>(S2_SOFTMAX), "bias"_a = false, nb::keep_alive<1, 2>())
        .def_prop_ro("n_bytes", [](const SkipAdapter &a) { return a.n_floats() * sizeof(float); })
        .def("init", &SkipAdapter::init, "seed"_a)
        .def("set", &SkipAdapter::set, "tap"_a, "lora_a"_a.noconvert(), "lora_b"_a.noconvert())
        .def("set_bias", &SkipAdapter::set_bias, "bias"_a.noconvert())
        .def("get_bias", &SkipAdapter::get_bias, "bias"_a.noconvert())
        .def("get", &SkipAdapter::get, "tap"_a, "lora_a"_a.noconvert(), "lora_b"_a.noconvert())
        .def("forward", &SkipAdapter::forward, "x"_a.noconvert(), "rows"_a.noconvert(),
             "logits"_a.noconvert(), "at_a_time"_a = SAMPLES_AT_A_TIME);
    nb::class_<RowSource>(module, "RowSource")
        .def(nb::init<const RowLayout &, Rows, Flags, nb::object>(), "layout"_a,
             "rows"_a.noconvert(), "filled"_a.noconvert(), "forward"_a, nb::keep_alive<1, 2>());
    nb::class_<Profile>(module, "Profile")
        .def(nb::init<bool, uint32_t>(), "phases"_a = true, "n_layers"_a = 0)
        .def_prop_ro("total_ns", &Profile::total_ns)
        .def_prop_ro("phases_ns", &Profile::phases_ns)
        .def_prop_ro("parts_ns", &Profile::parts_ns);
    nb::class_<SkipTrainer>(module, "SkipTrainer")
        .def(nb::init<SkipAdapter &, uint32_t, const OptimizerTuple &, uint64_t, Profile *>(),
             "adapter"_a, "batch_size"_a, "optimizer"_a, "seed"_a, "profile"_a = nb::none(),
             nb::keep_alive<1, 2>(), nb::keep_alive<1, 6>())
        .def_prop_ro("state_bytes", &SkipTrainer::state_bytes)
        .def("workspace_bytes", &SkipTrainer::workspace_bytes, "n_samples"_a, "n_features"_a)
        .def_prop_ro("reserved_bytes", &SkipTrainer::reserved_bytes)
        .def("epoch", &SkipTrainer::epoch, "x"_a.noconvert(), "y"_a.noconvert(), "source"_a,
             "learning_rate"_a);
    nb::class_<NetworkTrainer>(module, "NetworkTrainer")
        .def(nb::init<Network &, const std::vector<TypesRow> &, uint32_t, const OptimizerTuple &,
                      uint64_t, Profile *>(),
             "network"_a, "rows"_a, "batch_size"_a, "optimizer"_a, "seed"_a,
             "profile"_a = nb::none(), nb::keep_alive<1, 2>(), nb::keep_alive<1, 7>())
        .def("epoch", &NetworkTrainer::epoch, "x"_a.noconvert(), "labels"_a.noconvert(),
             "source"_a.none(), "learning_rate"_a);
}
