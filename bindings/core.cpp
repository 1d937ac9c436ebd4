// core.cpp - the only C++: checks arrays, releases the GIL, calls the C core.
//
// Shapes and types are checked here so that no Python call can make the core read or write outside
// its arrays. Messages for people are made in Python, before these calls.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "skip2.h"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace {

using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Labels = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Flags = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void require(bool holds, const char *what) {
    if (!holds) {
        throw nb::value_error(what);
    }
}

void require_ok(s2_status status) {
    if (status != S2_OK) {
        throw std::runtime_error("the core refused its arguments, status " +
                                 std::to_string(status));
    }
}

uint32_t count_of(size_t value) {
    require(value <= INT32_MAX, "more than 2^31 - 1 rows or columns");
    return static_cast<uint32_t>(value);
}

// Room for the core, aligned as it asks; grows, never shrinks.
class Buffer {
  public:
    ~Buffer() {
        ::operator delete(data_, std::align_val_t{S2_ALIGN});
    }
    Buffer() = default;
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    void *reserve(size_t bytes) {
        if (bytes > size_) {
            ::operator delete(data_, std::align_val_t{S2_ALIGN});
            data_ = nullptr;
            size_ = 0;
            data_ = ::operator new(bytes, std::align_val_t{S2_ALIGN});
            size_ = bytes;
        }
        return data_;
    }
    void *data() const {
        return data_;
    }
    size_t size() const {
        return size_;
    }

  private:
    void *data_ = nullptr;
    size_t size_ = 0;
};

const s2_kernels *choose_kernels() {
    const char *name = std::getenv("SKIP2_KERNELS");
    const s2_kernels *kernels = s2_kernels_choose(name && *name ? name : nullptr);
    if (!kernels) {
        std::string message = std::string("SKIP2_KERNELS is '") + name + "', expected one of";
        for (const char *const *known = s2_kernels_names(); *known; known++) {
            message += s2_kernels_choose(*known) ? std::string(" ") + *known : "";
        }
        throw nb::value_error((message + ": unset it or name one of these").c_str());
    }
    return kernels;
}

class RowLayout {
  public:
    RowLayout(std::vector<uint32_t> tap_widths, uint32_t n_outputs, bool first_tap_is_input)
        : widths_(std::move(tap_widths)), offsets_(widths_.size()) {
        require_ok(s2_row_layout_init(&layout, static_cast<uint32_t>(widths_.size()),
                                      widths_.data(), n_outputs, first_tap_is_input,
                                      offsets_.data()));
    }
    RowLayout(const RowLayout &) = delete;

    // -1 for the tap that is the sample itself.
    std::vector<int64_t> tap_offsets() const {
        std::vector<int64_t> offsets;
        for (uint32_t offset : offsets_) {
            offsets.push_back(offset == S2_TAP_IS_X ? -1 : static_cast<int64_t>(offset));
        }
        return offsets;
    }
    void require_fits(const Matrix &x) const {
        require(offsets_[0] != S2_TAP_IS_X || x.shape(1) == widths_[0],
                "x does not have the width of the first tap");
    }

    s2_row_layout layout;

  private:
    std::vector<uint32_t> widths_, offsets_;
};

using LayerArrays =
    std::tuple<Matrix, Vector, std::optional<Vector>, std::optional<Vector>, std::optional<Vector>,
               std::optional<Vector>, std::optional<Matrix>, std::optional<Matrix>>;

// Refers to the caller's arrays. Only a Trainer writes them, and only those its row trains, so that
// arrays which serve inference alone may be read-only.
class Network {
  public:
    Network(std::vector<LayerArrays> arrays, float bn_eps, float bn_momentum)
        : arrays_(std::move(arrays)) {
        for (const LayerArrays &of_layer : arrays_) {
            layers_.push_back(layer(of_layer, layers_.size() + 1 < arrays_.size()));
        }
        net = {choose_kernels(), static_cast<uint32_t>(layers_.size()), layers_.data(), bn_eps,
               bn_momentum};
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
        require(first_tap + rows.layout.n_taps == layers_.size(), "taps are not the last layers");
        require(rows.layout.n_outputs == n_outputs(), "the rows have another number of outputs");
        for (uint32_t k = 0; k < rows.layout.n_taps; k++) {
            require(rows.layout.tap_width[k] == layers_[first_tap + k].n_in, "tap width differs");
        }
    }

    // Taps and base logits of each sample into its row.
    void forward(const Matrix &x, const RowLayout &layout, uint32_t first_tap,
                 const Rows &rows) const {
        require_fits(layout, first_tap);
        require(x.shape(1) == n_features(), "x has another width than the network");
        require(rows.shape(0) == x.shape(0) && rows.shape(1) == layout.layout.row_stride,
                "rows have another shape than x and the layout ask for");
        nb::gil_scoped_release released;
        constexpr size_t chunk = 64;
        Buffer room;
        const float *sample[chunk];
        for (size_t at = 0; at < x.shape(0); at += chunk) {
            const uint32_t count = static_cast<uint32_t>(std::min(chunk, x.shape(0) - at));
            for (size_t s = 0; s < count; s++) {
                sample[s] = x.data() + (at + s) * x.shape(1);
            }
            require_ok(
                run(count, sample, layout, first_tap, rows.data() + at * rows.shape(1), room));
        }
    }

    s2_status run(uint32_t count, const float *const *x, const RowLayout &layout,
                  uint32_t first_tap, float *rows, Buffer &room) const {
        room.reserve(s2_net_forward_workspace_bytes(&net, count));
        return s2_net_forward(&net, count, x, &layout.layout, first_tap, rows, room.data(),
                              room.size());
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
    SkipAdapter(const RowLayout &layout, uint32_t rank) : layout(layout) {
        adapter = {choose_kernels(), &layout.layout, rank, nullptr};
        require_ok(s2_adapter_check(&layout.layout, rank));
        adapter.packed = static_cast<float *>(
            packed_.reserve(s2_adapter_floats(&layout.layout, rank) * sizeof(float)));
        s2_adapter_init(&adapter, 0);
    }
    SkipAdapter(const SkipAdapter &) = delete;

    void init(uint64_t seed) {
        s2_adapter_init(&adapter, seed);
    }

    void set(uint32_t tap, const Matrix &lora_a, const Matrix &lora_b) {
        require_tap(tap, lora_a.shape(0), lora_a.shape(1), lora_b.shape(0), lora_b.shape(1));
        s2_adapter_pack(&adapter, tap, lora_a.data(), lora_b.data());
    }
    void get(uint32_t tap, const Rows &lora_a, const Rows &lora_b) const {
        require_tap(tap, lora_a.shape(0), lora_a.shape(1), lora_b.shape(0), lora_b.shape(1));
        s2_adapter_unpack(&adapter, tap, lora_a.data(), lora_b.data());
    }

    // Eq. 17 for rows computed before.
    void forward(const Matrix &x, const Rows &rows, const Rows &logits) const {
        layout.require_fits(x);
        require(rows.shape(0) == x.shape(0) && rows.shape(1) == layout.layout.row_stride,
                "rows have another shape than x and the layout ask for");
        require(logits.shape(0) == x.shape(0) && logits.shape(1) == layout.layout.n_outputs,
                "logits have another shape than (samples, outputs)");
        nb::gil_scoped_release released;
        constexpr size_t chunk = 64;
        Buffer room;
        room.reserve(s2_adapter_workspace_bytes(&layout.layout, adapter.rank, chunk));
        const float *sample[chunk], *row[chunk];
        for (size_t at = 0; at < x.shape(0); at += chunk) {
            const uint32_t count = static_cast<uint32_t>(std::min(chunk, x.shape(0) - at));
            for (size_t s = 0; s < count; s++) {
                sample[s] = x.data() + (at + s) * x.shape(1);
                row[s] = rows.data() + (at + s) * rows.shape(1);
            }
            const s2_batch batch = {count, sample, row, nullptr};
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
    Buffer packed_;
};

// ---- training: one epoch a call ------------------------------------------------------------------

// status, loss, correct, samples seen, batches, forwards, seconds in forward
using Epoch = std::tuple<int, double, uint32_t, uint32_t, uint32_t, uint32_t, double>;

// How the rows of samples that the cache lacks are computed: by a network here, or by Python.
struct Forward {
    const Network *network;
    nb::handle callable;
    const RowLayout &layout;
    const float *x;
    size_t n_features;
    Buffer room;
    std::vector<const float *> sample;
    std::exception_ptr error;
    double seconds = 0;

    s2_status run(const uint32_t *samples, uint32_t count, float *rows) {
        if (!network) {
            nb::gil_scoped_acquire held;
            try {
                // By reference: an array without an owner would be copied, and what is written lost.
                const nb::ndarray<nb::numpy, const uint32_t, nb::ndim<1>> indices(samples, {count});
                const nb::ndarray<nb::numpy, float, nb::ndim<2>> out(
                    rows, {count, layout.layout.row_stride});
                callable(nb::cast(indices, nb::rv_policy::reference),
                         nb::cast(out, nb::rv_policy::reference));
                return S2_OK;
            } catch (...) {
                error = std::current_exception();
                return S2_FORWARD_FAILED;
            }
        }
        sample.resize(count);
        for (uint32_t s = 0; s < count; s++) {
            sample[s] = x + samples[s] * n_features;
        }
        const uint32_t first_tap = network->net.n_layers - layout.layout.n_taps;
        return network->run(count, sample.data(), layout, first_tap, rows, room);
    }

    static s2_status call(void *context, const uint32_t *samples, uint32_t count, float *rows) {
        Forward &self = *static_cast<Forward *>(context);
        const auto start = std::chrono::steady_clock::now();
        const s2_status status = self.run(samples, count, rows);
        self.seconds +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        return status;
    }
};

void require_samples(const Matrix &x, const Labels &labels, uint32_t n_outputs,
                     uint32_t batch_size) {
    require(x.shape(0) == labels.shape(0), "x and labels have different lengths");
    require(batch_size >= 1 && batch_size <= x.shape(0), "batch size outside 1..samples");
    for (size_t i = 0; i < labels.shape(0); i++) {
        require(labels.data()[i] >= 0 && static_cast<uint32_t>(labels.data()[i]) < n_outputs,
                "a label is outside 0..n_outputs-1");
    }
    (void)count_of(x.shape(0));
    (void)count_of(x.shape(1));
}

s2_job job_of(const Matrix &x, const Labels &labels, uint32_t batch_size) {
    s2_job job = {};
    job.n_samples = static_cast<uint32_t>(x.shape(0));
    job.n_features = static_cast<uint32_t>(x.shape(1));
    job.x = x.data();
    job.label = labels.data();
    job.batch_size = batch_size;
    job.smallest_batch = 1;
    return job;
}

Epoch run_epoch(const s2_job &job, s2_rng &rng, Buffer &room) {
    s2_epoch_stats stats = {};
    room.reserve(s2_train_workspace_bytes(&job));
    const s2_status status = s2_train_epoch(&job, &rng, &stats, room.data(), room.size());
    if (status != S2_OK && status != S2_NOT_FINITE && status != S2_FORWARD_FAILED) {
        require_ok(status);
    }
    return {status, stats.loss, stats.correct, stats.n_seen, stats.n_batches, stats.n_forward, 0.0};
}

// Skip-LoRA and Skip2-LoRA (Algorithm 1): they differ only in the cache they are given.
class SkipTrainer {
  public:
    SkipTrainer(SkipAdapter &adapter, uint32_t batch_size, float learning_rate, uint64_t seed)
        : adapter_(adapter), batch_size_(batch_size), learning_rate_(learning_rate) {
        s2_rng_seed(&rng_, seed, S2_STREAM_ORDER);
        step_room_.reserve(
            s2_adapter_workspace_bytes(&adapter.layout.layout, adapter.adapter.rank, batch_size));
    }

    Epoch epoch(const Matrix &x, const Labels &labels, const Rows &rows, const Flags &filled,
                nb::object forward) {
        const RowLayout &layout = adapter_.layout;
        layout.require_fits(x);
        require_samples(x, labels, layout.layout.n_outputs, batch_size_);
        require(rows.shape(1) == layout.layout.row_stride && rows.shape(0) == filled.shape(0),
                "the cache has another shape than the layout asks for");
        const Network *network =
            nb::isinstance<Network>(forward) ? nb::cast<const Network *>(forward) : nullptr;
        if (network) {
            require(layout.layout.n_taps <= network->net.n_layers, "more taps than layers");
            network->require_fits(layout, network->net.n_layers - layout.layout.n_taps);
            require(x.shape(1) == network->n_features(), "x has another width than the network");
        }
        Forward missing{network, forward, layout, x.data(), x.shape(1), {}, {}, {}};
        s2_cache cache = {rows.data(), filled.data(), count_of(rows.shape(0)),
                          layout.layout.row_stride};
        s2_job job = job_of(x, labels, batch_size_);
        job.forward = Forward::call;
        job.forward_context = &missing;
        job.cache = &cache;
        job.step = step;
        job.step_context = this;
        Epoch done;
        {
            nb::gil_scoped_release released;
            done = run_epoch(job, rng_, room_);
        }
        if (missing.error) {
            std::rethrow_exception(missing.error);
        }
        std::get<6>(done) = missing.seconds;
        return done;
    }

  private:
    static s2_status step(void *context, const s2_batch *batch, s2_batch_stats *stats) {
        SkipTrainer &self = *static_cast<SkipTrainer *>(context);
        return s2_adapter_step(&self.adapter_.adapter, batch, self.learning_rate_, stats,
                               self.step_room_.data(), self.step_room_.size());
    }

    SkipAdapter &adapter_;
    uint32_t batch_size_;
    float learning_rate_;
    s2_rng rng_;
    Buffer room_, step_room_;
};

using TypesRow = std::tuple<unsigned, unsigned, unsigned>; // fc, lora, batch norm

// The methods that run through the network, by one row of compute types a layer.
class NetworkTrainer {
  public:
    NetworkTrainer(Network &network, const std::vector<TypesRow> &rows, uint32_t batch_size,
                   float learning_rate, uint64_t seed)
        : network_(network), batch_size_(batch_size), learning_rate_(learning_rate) {
        require(rows.size() == network.net.n_layers, "expected one row of compute types a layer");
        for (const auto &[fc, lora, bn] : rows) {
            types_.push_back(
                {static_cast<uint8_t>(fc), static_cast<uint8_t>(lora), static_cast<uint8_t>(bn)});
            smallest_batch_ = bn & S2_STATS ? 2 : smallest_batch_;
        }
        s2_rng_seed(&rng_, seed, S2_STREAM_ORDER);
        step_room_.reserve(s2_net_step_workspace_bytes(&network.net, types_.data(), batch_size));
    }

    Epoch epoch(const Matrix &x, const Labels &labels) {
        require_samples(x, labels, network_.n_outputs(), batch_size_);
        require(x.shape(1) == network_.n_features(), "x has another width than the network");
        s2_job job = job_of(x, labels, batch_size_);
        job.smallest_batch = smallest_batch_;
        job.step = step;
        job.step_context = this;
        nb::gil_scoped_release released;
        return run_epoch(job, rng_, room_);
    }

  private:
    static s2_status step(void *context, const s2_batch *batch, s2_batch_stats *stats) {
        NetworkTrainer &self = *static_cast<NetworkTrainer *>(context);
        return s2_net_step(&self.network_.net, self.types_.data(), batch, self.learning_rate_,
                           stats, self.step_room_.data(), self.step_room_.size());
    }

    Network &network_;
    std::vector<s2_compute_types> types_;
    uint32_t batch_size_, smallest_batch_ = 1;
    float learning_rate_;
    s2_rng rng_;
    Buffer room_, step_room_;
};

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
    module.def("kernel_tables", kernel_tables);
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
             "rows"_a.noconvert());
    nb::class_<SkipAdapter>(module, "SkipAdapter")
        .def(nb::init<const RowLayout &, uint32_t>(), "layout"_a, "rank"_a, nb::keep_alive<1, 2>())
        .def("init", &SkipAdapter::init, "seed"_a)
        .def("set", &SkipAdapter::set, "tap"_a, "lora_a"_a.noconvert(), "lora_b"_a.noconvert())
        .def("get", &SkipAdapter::get, "tap"_a, "lora_a"_a.noconvert(), "lora_b"_a.noconvert())
        .def("forward", &SkipAdapter::forward, "x"_a.noconvert(), "rows"_a.noconvert(),
             "logits"_a.noconvert());
    nb::class_<SkipTrainer>(module, "SkipTrainer")
        .def(nb::init<SkipAdapter &, uint32_t, float, uint64_t>(), "adapter"_a, "batch_size"_a,
             "learning_rate"_a, "seed"_a, nb::keep_alive<1, 2>())
        .def("epoch", &SkipTrainer::epoch, "x"_a.noconvert(), "labels"_a.noconvert(),
             "rows"_a.noconvert(), "filled"_a.noconvert(), "forward"_a);
    nb::class_<NetworkTrainer>(module, "NetworkTrainer")
        .def(nb::init<Network &, const std::vector<TypesRow> &, uint32_t, float, uint64_t>(),
             "network"_a, "rows"_a, "batch_size"_a, "learning_rate"_a, "seed"_a,
             nb::keep_alive<1, 2>())
        .def("epoch", &NetworkTrainer::epoch, "x"_a.noconvert(), "labels"_a.noconvert());
}
