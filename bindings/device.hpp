// device.hpp - what an exported folder does on a device, done here: a look at it before it is written.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "skip2_device.h"
#include "training.hpp"

class Device {
  public:
    Device(const nb::bytes &blob, uint32_t capacity, int rows, uint32_t rank, bool bias,
           uint32_t batch_size, double learning_rate, uint64_t seed,
           const std::optional<std::string> &kernels)
        : kernels_(kernels.value_or(s2_kernels_name(choose_kernels()))) {
        std::memcpy(blob_.reserve(blob.size()), blob.c_str(), blob.size());
        require(s2_model_read(&model_, blob_.data(), blob.size()) == S2_OK,
                "these bytes are no network");
        s2_device_options options = {};
        options.capacity = capacity;
        options.rows = static_cast<s2_row_type>(rows);
        options.rank = rank;
        options.has_bias = bias;
        options.batch_size = batch_size;
        options.learning_rate = learning_rate;
        options.seed = seed;
        options.kernels = kernels_.c_str();
        if (model_.n_layers == 0) { // firmware's own taps: nothing runs here, but the size is known
            options.taps = [](void *, const float *, float *const *, float *) {
                return S2_FORWARD_FAILED;
            };
        }
        const size_t bytes = s2_device_bytes(&model_, &options);
        require(bytes < SIZE_MAX, "an option of the device is out of its range");
        require_ok(s2_device_init(&device_, &model_, &options, arena_.reserve(bytes), bytes));
    }
    Device(const Device &) = delete;

    size_t arena_bytes() const {
        return device_.arena_bytes;
    }
    // How many of the samples were kept.
    uint32_t add(const Matrix &x, const Labels &y) {
        require(x.shape(0) == y.shape(0) && x.shape(1) == model_.n_features,
                "x and labels have other shapes than (samples, features), (samples)");
        uint32_t kept = 0;
        for (size_t i = 0; i < x.shape(0); i++) {
            kept += s2_device_add_sample(&device_, x.data() + i * x.shape(1), y.data()[i]) == S2_OK;
        }
        return kept;
    }
    Epoch epoch() {
        Epoch of;
        of.status = s2_device_train_epoch(&device_, &of.stats);
        if (of.status != S2_NOT_FINITE) {
            require_ok(static_cast<s2_status>(of.status));
        }
        return of;
    }
    void predict(const Matrix &x, const Rows &logits) {
        require(x.shape(0) == logits.shape(0) && x.shape(1) == model_.n_features &&
                    logits.shape(1) == model_.n_outputs,
                "x and logits have other shapes than (samples, features), (samples, outputs)");
        for (size_t i = 0; i < x.shape(0); i++) {
            require_ok(s2_device_predict(&device_, x.data() + i * x.shape(1),
                                         logits.data() + i * logits.shape(1)));
        }
    }
    // Taps as rows keep them, and base logits, of each sample side by side.
    void rows(const Matrix &x, const Rows &out) {
        const s2_row_layout &layout = device_.layout;
        size_t width = layout.n_outputs;
        for (uint32_t k = 0; k < layout.n_taps; k++) {
            width += layout.tap_width[k];
        }
        require(x.shape(0) == out.shape(0) && x.shape(1) == model_.n_features &&
                    out.shape(1) == width,
                "x and rows have other shapes than (samples, features), (samples, taps + outputs)");
        std::vector<float> logits(layout.n_outputs);
        float *to = out.data();
        for (size_t i = 0; i < x.shape(0); i++) {
            const float *sample = x.data() + i * x.shape(1);
            require_ok(s2_device_predict(&device_, sample, logits.data()));
            for (uint32_t k = 0; k < layout.n_taps; k++) {
                const bool is_x = layout.tap_offset[k] == S2_TAP_IS_X;
                const float *from = is_x ? sample : device_.row + layout.tap_offset[k];
                to = std::copy_n(from, layout.tap_width[k], to);
            }
            to = std::copy_n(device_.row + layout.logits_offset, layout.n_outputs, to);
        }
    }
    nb::bytes adapters() const {
        Buffer record;
        const size_t bytes = s2_device_adapters_bytes(&device_);
        require_ok(s2_device_adapters_write(&device_, record.reserve(bytes), bytes));
        return nb::bytes(record.data(), bytes);
    }

  private:
    std::string kernels_;
    Buffer blob_, arena_;
    s2_model model_;
    s2_device device_;
};

inline void bind_device(nb::module_ &module) {
    nb::class_<Device>(module, "Device")
        .def(nb::init<const nb::bytes &, uint32_t, int, uint32_t, bool, uint32_t, double, uint64_t,
                      const std::optional<std::string> &>(),
             "blob"_a, "capacity"_a, "rows"_a, "rank"_a, "bias"_a, "batch_size"_a,
             "learning_rate"_a, "seed"_a, "kernels"_a = nb::none())
        .def_prop_ro("arena_bytes", &Device::arena_bytes)
        .def("add", &Device::add, "x"_a.noconvert(), "y"_a.noconvert())
        .def("epoch", &Device::epoch)
        .def("predict", &Device::predict, "x"_a.noconvert(), "logits"_a.noconvert())
        .def("rows", &Device::rows, "x"_a.noconvert(), "out"_a.noconvert())
        .def("adapters", &Device::adapters);
}
