// network.hpp - a network and skip adapters over the caller's arrays: forward passes.
#pragma once

#include <algorithm>
#include <optional>
#include <tuple>

#include "arrays.hpp"
#include "claims.hpp"

using LayerArrays =
    std::tuple<Matrix, Vector, std::optional<Vector>, std::optional<Vector>, std::optional<Vector>,
               std::optional<Vector>, std::optional<ColumnMatrix>, std::optional<Matrix>>;

// Samples of one pass forward, whatever the length of the arrays.
constexpr size_t SAMPLES_AT_A_TIME = 64;

inline void require_at_a_time(size_t at_a_time) {
    require(at_a_time >= 1 && at_a_time <= SAMPLES_AT_A_TIME, "expected 1 to 64 samples at a time");
}

// Refers to the caller's arrays. Only a Trainer writes them, and only those its row trains, so that
// arrays which serve inference alone may be read-only.
class Network {
  public:
    Network(std::vector<LayerArrays> arrays, float bn_eps, float bn_momentum)
        : arrays_(std::move(arrays)) {
        for (const LayerArrays &of_layer : arrays_) {
            layers_.push_back(layer(of_layer, layers_.size() + 1 < arrays_.size()));
        }
        net = {choose_kernels(), static_cast<uint32_t>(layers_.size()),
               layers_.data(),   bn_eps,
               bn_momentum,      nullptr};
        require_ok(s2_net_check(&net));
    }
    Network(const Network &) = delete;

    uint32_t n_features() const {
        return layers_.front().n_in;
    }
    uint32_t n_outputs() const {
        return layers_.back().n_out;
    }

    void require_fits(const RowLayout &rows, uint32_t first_tap) const {
        require(rows.layout.n_taps <= layers_.size() &&
                    first_tap == layers_.size() - rows.layout.n_taps,
                "taps are not the last layers");
        require(rows.layout.n_outputs >= n_outputs(),
                "the rows have fewer outputs than the network");
        for (uint32_t k = 0; k < rows.layout.n_taps; k++) {
            require(rows.layout.tap_width[k] == layers_[first_tap + k].n_in, "tap width differs");
        }
    }

    // Taps and base logits of each sample into its row, which starts at a column of `rows`.
    void forward(const Matrix &x, const RowLayout &layout, uint32_t first_tap, const Rows &rows,
                 size_t at_a_time, size_t column) const {
        require_at_a_time(at_a_time);
        require_fits(layout, first_tap);
        require(x.shape(1) == n_features(), "x has another width than the network");
        require(rows.shape(0) == x.shape(0) && column <= rows.shape(1) &&
                    rows.shape(1) - column == layout.layout.row_stride,
                "rows have another shape than x and the layout ask for");
        s2_row_layout within = layout.layout;
        within.row_stride = count_of(rows.shape(1));
        Claim claim;
        claim.reads(this, sizeof *this, "this network is");
        nb::gil_scoped_release released;
        Buffer room;
        const float *sample[SAMPLES_AT_A_TIME];
        for (size_t at = 0; at < x.shape(0); at += at_a_time) {
            const uint32_t count = static_cast<uint32_t>(std::min(at_a_time, x.shape(0) - at));
            for (size_t s = 0; s < count; s++) {
                sample[s] = x.data() + (at + s) * x.shape(1);
            }
            require_ok(run(count, sample, within, first_tap,
                           rows.data() + at * rows.shape(1) + column, room));
        }
    }

    s2_status run(uint32_t count, const float *const *x, const s2_row_layout &layout,
                  uint32_t first_tap, float *rows, Buffer &room) const {
        room.reserve(s2_net_forward_workspace_bytes(&net, count));
        return s2_net_forward(&net, count, x, &layout, first_tap, rows, room.data(), room.size());
    }

    s2_net net;

  private:
    static s2_layer layer(const LayerArrays &arrays, bool hidden) {
        const auto &[weight, bias, gamma, beta, mean, var, lora_a, lora_b] = arrays;
        s2_layer made = {};
        made.n_in = count_of(weight.shape(0));
        made.n_out = count_of(weight.shape(1));
        made.weight = const_cast<float *>(weight.data());
        made.bias = vector_of(bias, made.n_out);
        made.gamma = gamma ? vector_of(*gamma, made.n_out) : nullptr;
        made.beta = beta ? vector_of(*beta, made.n_out) : nullptr;
        made.mean = mean ? vector_of(*mean, made.n_out) : nullptr;
        made.var = var ? vector_of(*var, made.n_out) : nullptr;
        if (lora_a && lora_b) {
            made.rank = count_of(lora_a->shape(1));
            require(lora_a->shape(0) == made.n_in && lora_b->shape(0) == made.rank &&
                        lora_b->shape(1) == made.n_out,
                    "an adapter does not fit its layer");
            made.lora_a = const_cast<float *>(lora_a->data());
            made.lora_b = const_cast<float *>(lora_b->data());
        }
        made.relu = hidden;
        return made;
    }
    static float *vector_of(const Vector &array, uint32_t width) {
        require(array.shape(0) == width, "a vector does not have the width of its layer");
        return const_cast<float *>(array.data());
    }

    std::vector<LayerArrays> arrays_; // keeps them alive
    std::vector<s2_layer> layers_;
};

class SkipAdapter {
  public:
    SkipAdapter(const RowLayout &layout, uint32_t rank, int loss, bool bias) : layout(layout) {
        require(loss >= S2_SOFTMAX && loss <= S2_SQUARED, "the loss is unknown");
        adapter = {};
        adapter.kernels = choose_kernels();
        adapter.layout = &layout.layout;
        adapter.rank = rank;
        adapter.has_bias = bias;
        adapter.loss = static_cast<s2_loss>(loss);
        require_ok(s2_adapter_check(&layout.layout, rank));
        adapter.packed = static_cast<float *>(packed_.reserve(n_bytes()));
        s2_adapter_init(&adapter, 0);
    }
    SkipAdapter(const SkipAdapter &) = delete;

    void init(uint64_t seed) {
        s2_adapter_init(&adapter, seed);
    }

    void pack(uint32_t tap, const Matrix &lora_a, const Matrix &lora_b) {
        require_tap(tap, lora_a.shape(0), lora_a.shape(1), lora_b.shape(0), lora_b.shape(1));
        s2_adapter_pack(&adapter, tap, lora_a.data(), lora_b.data());
    }
    void unpack(uint32_t tap, const Rows &lora_a, const Rows &lora_b) const {
        require_tap(tap, lora_a.shape(0), lora_a.shape(1), lora_b.shape(0), lora_b.shape(1));
        s2_adapter_unpack(&adapter, tap, lora_a.data(), lora_b.data());
    }

    void set_bias(const Vector &bias) {
        require_bias(bias.shape(0));
        std::copy_n(bias.data(), bias.shape(0), s2_adapter_bias(&adapter));
    }
    void get_bias(const OutVector &bias) const {
        require_bias(bias.shape(0));
        std::copy_n(s2_adapter_bias(&adapter), bias.shape(0), bias.data());
    }
    size_t n_bytes() const {
        return s2_adapter_floats(&layout.layout, adapter.rank, adapter.has_bias) * sizeof(float);
    }

    // Eq. 17 for rows computed before.
    void forward(const Matrix &x, const Rows &rows, const Rows &logits, size_t at_a_time) const {
        require_at_a_time(at_a_time);
        layout.require_fits(x);
        require(rows.shape(0) == x.shape(0) && rows.shape(1) == layout.layout.row_stride,
                "rows have another shape than x and the layout ask for");
        require(logits.shape(0) == x.shape(0) && logits.shape(1) == layout.layout.n_outputs,
                "logits have another shape than (samples, outputs)");
        Claim claim;
        claim.reads(adapter.packed, n_bytes(), "these adapters are");
        nb::gil_scoped_release released;
        Buffer room;
        room.reserve(s2_adapter_workspace_bytes(&adapter, static_cast<uint32_t>(at_a_time)));
        const float *sample[SAMPLES_AT_A_TIME], *row[SAMPLES_AT_A_TIME];
        for (size_t at = 0; at < x.shape(0); at += at_a_time) {
            const uint32_t count = static_cast<uint32_t>(std::min(at_a_time, x.shape(0) - at));
            for (size_t s = 0; s < count; s++) {
                sample[s] = x.data() + (at + s) * x.shape(1);
                row[s] = rows.data() + (at + s) * rows.shape(1);
            }
            s2_batch batch = {};
            batch.count = count;
            batch.x = sample;
            batch.row = row;
            require_ok(s2_adapter_forward(&adapter, &batch, logits.data() + at * logits.shape(1),
                                          room.data(), room.size()));
        }
    }

    const RowLayout &layout;
    s2_adapter adapter;

  private:
    void require_tap(uint32_t tap, size_t width, size_t rank, size_t rank_b, size_t outputs) const {
        require(tap < layout.layout.n_taps && width == layout.layout.tap_width[tap] &&
                    rank == adapter.rank && rank_b == rank && outputs == layout.layout.n_outputs,
                "lora_a or lora_b has another shape than its tap");
    }
    void require_bias(size_t outputs) const {
        require(adapter.has_bias && outputs == layout.layout.n_outputs,
                "there is no bias, or it has another shape than the outputs");
    }
    Buffer packed_;
};

inline void bind_network(nb::module_ &module) {
    nb::class_<RowLayout>(module, "RowLayout")
        .def(nb::init<std::vector<uint32_t>, uint32_t, bool>(), "tap_widths"_a, "n_outputs"_a,
             "first_tap_is_input"_a)
        .def_prop_ro("tap_offsets", &RowLayout::tap_offsets)
        .def_prop_ro("logits_offset", [](const RowLayout &r) { return r.layout.logits_offset; })
        .def_prop_ro("n_outputs", [](const RowLayout &r) { return r.layout.n_outputs; })
        .def_prop_ro("row_stride", [](const RowLayout &r) { return r.layout.row_stride; });
    nb::class_<Network>(module, "Network")
        .def(nb::init<std::vector<LayerArrays>, float, float>(), "layers"_a.noconvert(), "bn_eps"_a,
             "bn_momentum"_a)
        .def("forward", &Network::forward, "x"_a.noconvert(), "layout"_a, "first_tap"_a,
             "rows"_a.noconvert(), "at_a_time"_a = SAMPLES_AT_A_TIME, "column"_a = 0);
}

inline void bind_adapter(nb::module_ &module) {
    nb::class_<SkipAdapter>(module, "SkipAdapter")
        .def(nb::init<const RowLayout &, uint32_t, int, bool>(), "layout"_a, "rank"_a,
             "loss"_a = static_cast<int>(S2_SOFTMAX), "bias"_a = false, nb::keep_alive<1, 2>())
        .def_prop_ro("n_bytes", &SkipAdapter::n_bytes)
        .def("init", &SkipAdapter::init, "seed"_a)
        .def("pack", &SkipAdapter::pack, "tap"_a, "lora_a"_a.noconvert(), "lora_b"_a.noconvert())
        .def("unpack", &SkipAdapter::unpack, "tap"_a, "lora_a"_a.noconvert(),
             "lora_b"_a.noconvert())
        .def("set_bias", &SkipAdapter::set_bias, "bias"_a.noconvert())
        .def("get_bias", &SkipAdapter::get_bias, "bias"_a.noconvert())
        .def("forward", &SkipAdapter::forward, "x"_a.noconvert(), "rows"_a.noconvert(),
             "logits"_a.noconvert(), "at_a_time"_a = SAMPLES_AT_A_TIME);
}
