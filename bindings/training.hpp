// training.hpp - one epoch of training a call, without the interpreter lock.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <string_view>
#include <variant>

#include "profile.hpp"
#include "row_source.hpp"
#include "state.hpp"

// What one epoch gave; see s2_epoch_stats.
struct Epoch {
    int status = S2_OK; // or S2_NOT_FINITE
    s2_epoch_stats stats = {};
    double forward_seconds = 0; // in the forward pass of the samples that the cache lacked

    // As if `next` were the rest of the same epoch, of which `n_read` rows were got in `seconds`.
    Epoch then(const Epoch &next, uint32_t n_read, double seconds) const {
        Epoch both = *this;
        both.status = next.status;
        both.stats.n_seen += next.stats.n_seen;
        const double share = double(next.stats.n_seen) / both.stats.n_seen; // 1 of a first part
        both.stats.loss += (next.stats.loss - stats.loss) * share;
        both.stats.correct += next.stats.correct;
        both.stats.n_batches += next.stats.n_batches;
        both.stats.n_forward += next.stats.n_forward + n_read;
        both.forward_seconds += next.forward_seconds + seconds;
        return both;
    }
};

inline void init_optimizer(s2_optimizer *made, int rule, double beta1, double beta2, double eps,
                           double weight_decay, bool decoupled) {
    require(rule >= S2_SGD && rule <= S2_ADAM, "the rule of the optimiser is unknown");
    *made = {static_cast<s2_rule>(rule), beta1, beta2, eps, weight_decay, decoupled, 1.0, 1.0};
    require(s2_optimizer_check(made) == S2_OK, "a number of the optimiser is out of its range");
}

// What the trainers share: samples, order, optimiser, the loop of one epoch.
class Trainer {
  protected:
    Trainer(uint32_t batch_size, const s2_optimizer &optimizer, uint64_t seed, Profile *profile)
        : batch_size_(batch_size), optimizer_(optimizer), profile_(profile) {
        require(batch_size >= 1 && batch_size <= S2_MAX_BATCH, "batch size outside 1..2^24");
        s2_rng_seed(&rng_, seed, S2_STREAM_ORDER);
    }

    // A job without rows, labels and step.
    s2_job job_of(const Matrix &x) const {
        require(batch_size_ <= x.shape(0), "batch size outside 1..samples");
        s2_job job = {};
        job.n_samples = count_of(x.shape(0));
        job.n_features = count_of(x.shape(1));
        job.x = x.data();
        job.batch_size = batch_size_;
        job.smallest_batch = 1;
        job.profile = marks();
        // Machines differ in how they flush, and that table is the same on all.
        job.flushes = std::string_view(s2_kernels_name(choose_kernels())) != "scalar";
        return job;
    }

    static void set_labels(s2_job &job, const Labels &labels, uint32_t n_outputs) {
        require(job.n_samples == labels.shape(0), "x and labels have different lengths");
        uint32_t largest =
            0; // a negative label is beyond any output; one test an epoch, not a label
        for (size_t i = 0; i < labels.shape(0); i++) {
            largest = std::max(largest, static_cast<uint32_t>(labels.data()[i]));
        }
        require(largest < n_outputs, "a label is outside 0..n_outputs-1");
        job.label = labels.data();
    }
    static void set_targets(s2_job &job, const Matrix &targets, uint32_t n_outputs) {
        require(job.n_samples == targets.shape(0) && targets.shape(1) == n_outputs,
                "targets have another shape than (samples, outputs)");
        job.target = targets.data();
        job.n_outputs = n_outputs;
    }

    static void set_answers(s2_job &job, const std::variant<Labels, Matrix> &y, s2_loss loss,
                            uint32_t n_outputs) {
        require((loss == S2_SOFTMAX) == std::holds_alternative<Labels>(y),
                "softmax needs labels, the other losses targets");
        if (const Labels *labels = std::get_if<Labels>(&y)) {
            set_labels(job, *labels, n_outputs);
        } else {
            set_targets(job, std::get<Matrix>(y), n_outputs);
        }
    }

    static void set_weights(s2_job &job, const std::optional<Vector> &weight) {
        if (weight) {
            require(job.n_samples == weight->shape(0), "x and weights have different lengths");
            const float *first = weight->data(), *end = first + weight->shape(0);
            require(std::all_of(first, end, [](float w) { return w >= 0 && std::isfinite(w); }),
                    "a weight is negative or not finite");
            job.weight = first;
        }
    }

    // What every epoch writes; to be claimed before anything of it is touched.
    void claim(Claim &claim, const RowSource *source) const {
        claim.writes(this, sizeof *this, "this trainer is");
        if (profile_) {
            claim.writes(profile_, sizeof *profile_, "this profile is");
        }
        if (source) {
            source->claim(claim);
        }
    }

    Epoch run_epoch(const s2_job &job, RowSource *source, double learning_rate) {
        s2_epoch_stats stats = {};
        s2_status status;
        learning_rate_ = learning_rate;
        {
            nb::gil_scoped_release released;
            room_.reserve(s2_train_workspace_bytes(&job));
            const Profile::Epoch timed(profile_);
            status = s2_train_epoch(&job, &rng_, &stats, room_.data(), room_.size());
        }
        if (source) {
            source->rethrow();
        }
        if (status != S2_NOT_FINITE) {
            require_ok(status);
        }
        return {status, stats, source ? source->seconds : 0.0};
    }

    s2_update next_update() {
        return s2_optimizer_step(&optimizer_, learning_rate_);
    }
    // One zeroed array of `bytes` for the optimiser's state, NULL for none.
    static float *zeroed(Buffer &buffer, size_t bytes) {
        return bytes ? static_cast<float *>(std::memset(buffer.reserve(bytes), 0, bytes)) : nullptr;
    }

    State state_with(std::vector<Span> floats) {
        return {rng_, optimizer_, std::move(floats)};
    }

    size_t epoch_room() const {
        return room_.size();
    }

    // What the core marks its phases in, or NULL.
    s2_profile *marks() const {
        return profile_ ? profile_->marks() : nullptr;
    }

    uint32_t batch_size_;
    s2_optimizer optimizer_;
    Buffer step_room_;

  private:
    Profile *profile_;
    s2_rng rng_;
    double learning_rate_ = 0;
    Buffer room_;
};

// Skip-LoRA and Skip2-LoRA (Algorithm 1): they differ only in the cache of their rows.
class SkipTrainer : public Trainer {
  public:
    SkipTrainer(SkipAdapter &adapter, uint32_t batch_size, const s2_optimizer &optimizer,
                uint64_t seed, Profile *profile)
        : Trainer(batch_size, optimizer, seed, profile), adapter_(adapter) {
        require(!profile || profile->fits(0), "the fused step has no parts of layers to time");
        step_room_.reserve(s2_adapter_workspace_bytes(&adapter.adapter, batch_size));
        for (uint32_t m = 0; m < s2_optimizer_moments(optimizer_.rule); m++) {
            moments_[m] = zeroed(state_[m], adapter.n_bytes());
        }
    }

    // `y` are labels for softmax, targets for the other losses; `weight` has one number a sample.
    Epoch epoch(const Matrix &x, const std::variant<Labels, Matrix> &y, RowSource &source,
                double learning_rate, const std::optional<Vector> &weight) {
        require(&source.layout == &adapter_.layout, "the rows are of another layout");
        const uint32_t n_outputs = adapter_.layout.layout.n_outputs;
        s2_job job = job_of(x);
        set_answers(job, y, adapter_.adapter.loss, n_outputs);
        set_weights(job, weight);
        Claim all;
        claim(all, &source);
        claim_trained(all);
        source.attach(job, x);
        job.step = step;
        job.step_context = this;
        return run_epoch(job, &source, learning_rate);
    }

    void claim_trained(Claim &claim) const {
        claim.writes(adapter_.adapter.packed, adapter_.n_bytes(), "these adapters are");
    }
    // The floats that an epoch changes, and where its numbers are.
    State state() {
        const size_t count = adapter_.n_bytes() / sizeof(float);
        std::vector<Span> floats = {{adapter_.adapter.packed, count}};
        for (uint32_t m = 0; m < s2_optimizer_moments(optimizer_.rule); m++) {
            floats.emplace_back(moments_[m], count);
        }
        return state_with(std::move(floats));
    }
    size_t state_bytes() const {
        return state_[0].size() + state_[1].size();
    }
    // Of the step, and of an epoch over so many samples that all are in a cache.
    size_t workspace_bytes(uint32_t n_samples, uint32_t n_features) const {
        s2_cache cache = {nullptr, nullptr, n_samples, adapter_.layout.layout.row_stride, nullptr};
        s2_job job = {};
        job.n_samples = n_samples;
        job.n_features = n_features;
        job.batch_size = batch_size_;
        job.cache = &cache;
        job.forward = [](void *, const uint32_t *, uint32_t, float *) { return S2_FORWARD_FAILED; };
        static const int32_t label = 0; // the sizes ask only whether there are any
        static const float target = 0;
        if (adapter_.adapter.loss == S2_SOFTMAX) {
            job.label = &label;
        } else {
            job.target = &target;
        }
        const size_t bytes = s2_train_workspace_bytes(&job);
        require(bytes <= SIZE_MAX - step_room_.size(), "more samples than a size can say");
        return step_room_.size() + bytes;
    }
    // What is reserved by now: optimiser state, step, epoch.
    size_t reserved_bytes() const {
        return state_bytes() + step_room_.size() + epoch_room();
    }

  private:
    static s2_status step(void *context, const s2_batch *batch, s2_batch_stats *stats) {
        SkipTrainer &self = *static_cast<SkipTrainer *>(context);
        s2_adapter adapter = self.adapter_.adapter;
        adapter.moments[0] = self.moments_[0];
        adapter.moments[1] = self.moments_[1];
        adapter.profile = self.marks();
        const s2_update update = self.next_update();
        return s2_adapter_step(&adapter, batch, &update, stats, self.step_room_.data(),
                               self.step_room_.size());
    }

    SkipAdapter &adapter_;
    Buffer state_[2];
    float *moments_[2] = {nullptr, nullptr};
};

using TypesRow = std::tuple<unsigned, unsigned, unsigned>; // fc, lora, batch norm

// The methods that run through the network, by one row of compute types a layer. With a source of
// rows the network is what follows the frozen layers, and its samples are the rows' only tap.
class NetworkTrainer : public Trainer {
  public:
    NetworkTrainer(Network &network, const std::vector<TypesRow> &rows, uint32_t batch_size,
                   const s2_optimizer &optimizer, uint64_t seed, Profile *profile, int loss)
        : Trainer(batch_size, optimizer, seed, profile), network_(network), net_(network.net),
          tap_(batch_size) {
        require(loss >= S2_SOFTMAX && loss <= S2_SQUARED, "the loss is unknown");
        net_.loss = static_cast<s2_loss>(loss);
        require(rows.size() == network.net.n_layers, "expected one row of compute types a layer");
        require(!profile || profile->fits(network.net.n_layers),
                "the profile's parts are of another number of layers");
        net_.profile = marks();
        for (const auto &[fc, lora, bn] : rows) {
            require((fc | lora | bn) <= (S2_Y | S2_W | S2_B | S2_X | S2_STATS),
                    "compute types are a set of Y, W, B, X and STATS");
            types_.push_back(
                {static_cast<uint8_t>(fc), static_cast<uint8_t>(lora), static_cast<uint8_t>(bn)});
            smallest_batch_ = bn & S2_STATS ? 2 : smallest_batch_;
        }
        step_room_.reserve(s2_net_step_workspace_bytes(&network.net, types_.data(), batch_size));
        moments_ = zeroed(state_, s2_net_state_bytes(&network.net, types_.data(), optimizer_.rule));
    }

    // `y` are labels for softmax, targets for the other losses; `weight` has one number a sample.
    Epoch epoch(const Matrix &x, const std::variant<Labels, Matrix> &y, RowSource *source,
                double learning_rate, const std::optional<Vector> &weight) {
        s2_job job = job_of(x);
        set_answers(job, y, net_.loss, network_.n_outputs());
        set_weights(job, weight);
        Claim all;
        claim(all, source);
        claim_trained(all);
        job.smallest_batch = smallest_batch_;
        job.step = source ? step_on_rows : step;
        job.step_context = this;
        if (source) {
            const s2_row_layout &layout = source->layout.layout;
            require(layout.n_taps == 1 && layout.tap_offset[0] != S2_TAP_IS_X &&
                        layout.tap_width[0] == network_.n_features(),
                    "the rows' tap is not the network's input");
            tap_offset_ = layout.tap_offset[0];
            source->attach(job, x);
        } else {
            require(x.shape(1) == network_.n_features(), "x has another width than the network");
        }
        return run_epoch(job, source, learning_rate);
    }

    void claim_trained(Claim &claim) const {
        claim.writes(&network_, sizeof network_, "this network is");
    }
    // The floats that an epoch may change, and where its numbers are.
    State state() {
        std::vector<Span> floats = tensors_of(net_);
        if (moments_) {
            floats.emplace_back(moments_, state_.size() / sizeof(float));
        }
        return state_with(std::move(floats));
    }

  private:
    static s2_status step(void *context, const s2_batch *batch, s2_batch_stats *stats) {
        NetworkTrainer &self = *static_cast<NetworkTrainer *>(context);
        const s2_update update = self.next_update();
        return s2_net_step(&self.net_, self.types_.data(), batch, &update, self.moments_, stats,
                           self.step_room_.data(), self.step_room_.size());
    }
    static s2_status step_on_rows(void *context, const s2_batch *batch, s2_batch_stats *stats) {
        NetworkTrainer &self = *static_cast<NetworkTrainer *>(context);
        for (uint32_t s = 0; s < batch->count; s++) {
            self.tap_[s] = batch->row[s] + self.tap_offset_;
        }
        s2_batch taps = {};
        taps.count = batch->count;
        taps.x = self.tap_.data();
        taps.label = batch->label;
        taps.target = batch->target;
        taps.weight = batch->weight;
        return step(context, &taps, stats);
    }

    Network &network_;
    s2_net net_; // with the profile
    std::vector<s2_compute_types> types_;
    std::vector<const float *> tap_;
    uint32_t smallest_batch_ = 1, tap_offset_ = 0;
    Buffer state_;
    float *moments_ = nullptr;
};

inline void bind_training(nb::module_ &module) {
    nb::class_<s2_optimizer>(module, "Optimizer")
        .def("__init__", init_optimizer, "rule"_a, "beta1"_a = 0.0, "beta2"_a = 0.0, "eps"_a = 1e-8,
             "weight_decay"_a = 0.0, "decoupled"_a = false);
    nb::class_<Epoch>(module, "Epoch")
        .def_ro("status", &Epoch::status)
        .def_prop_ro("loss", [](const Epoch &e) { return e.stats.loss; })
        .def_prop_ro(
            "accuracy",
            [](const Epoch &e) { return static_cast<double>(e.stats.correct) / e.stats.n_seen; })
        .def_prop_ro("n_correct", [](const Epoch &e) { return e.stats.correct; })
        .def_prop_ro("n_seen", [](const Epoch &e) { return e.stats.n_seen; })
        .def_prop_ro("n_batches", [](const Epoch &e) { return e.stats.n_batches; })
        .def_prop_ro("n_forward", [](const Epoch &e) { return e.stats.n_forward; })
        .def_ro("forward_seconds", &Epoch::forward_seconds)
        .def(nb::init<>())
        .def("then", &Epoch::then, "next"_a, "n_read"_a, "seconds"_a);
    nb::class_<SkipTrainer> skip(module, "SkipTrainer");
    skip.def(nb::init<SkipAdapter &, uint32_t, const s2_optimizer &, uint64_t, Profile *>(),
             "adapter"_a, "batch_size"_a, "optimizer"_a, "seed"_a, "profile"_a = nb::none(),
             nb::keep_alive<1, 2>(), nb::keep_alive<1, 6>())
        .def_prop_ro("state_bytes", &SkipTrainer::state_bytes)
        .def("workspace_bytes", &SkipTrainer::workspace_bytes, "n_samples"_a, "n_features"_a)
        .def_prop_ro("reserved_bytes", &SkipTrainer::reserved_bytes)
        .def("epoch", &SkipTrainer::epoch, "x"_a.noconvert(), "y"_a.noconvert(), "source"_a,
             "learning_rate"_a, "weight"_a.noconvert() = nb::none());
    bind_state(skip);
    nb::class_<NetworkTrainer> network(module, "NetworkTrainer");
    network
        .def(nb::init<Network &, const std::vector<TypesRow> &, uint32_t, const s2_optimizer &,
                      uint64_t, Profile *, int>(),
             "network"_a, "rows"_a, "batch_size"_a, "optimizer"_a, "seed"_a,
             "profile"_a = nb::none(), "loss"_a = static_cast<int>(S2_SOFTMAX),
             nb::keep_alive<1, 2>(), nb::keep_alive<1, 7>())
        .def("epoch", &NetworkTrainer::epoch, "x"_a.noconvert(), "y"_a.noconvert(),
             "source"_a.none(), "learning_rate"_a, "weight"_a.noconvert() = nb::none());
    bind_state(network);
}
