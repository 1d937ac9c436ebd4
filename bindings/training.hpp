// training.hpp - one epoch of training a call, without the interpreter lock.
#pragma once

#include <chrono>
#include <cstring>
#include <exception>
#include <variant>

#include "profile.hpp"

// Where the rows of samples come from: the cache, or for those it lacks a network here or Python.
// Refers to the caller's arrays and keeps them alive.
class RowSource {
  public:
    RowSource(const RowLayout &layout, Rows rows, Flags filled, nb::object forward)
        : layout(layout), rows_(rows), filled_(filled), callable_(forward) {
        require(rows.shape(1) == layout.layout.row_stride && rows.shape(0) == filled.shape(0),
                "the cache has another shape than the layout asks for");
        cache = {rows.data(), filled.data(), count_of(rows.shape(0)), layout.layout.row_stride};
        network_ = nb::isinstance<Network>(forward) ? nb::cast<const Network *>(forward) : nullptr;
        if (network_) {
            require(layout.layout.n_taps <= network_->net.n_layers, "more taps than layers");
            network_->require_fits(layout, first_tap());
        }
    }
    RowSource(const RowSource &) = delete;

    // Makes `job` take its rows from here; x is that of the job.
    void attach(s2_job &job, const Matrix &x) {
        layout.require_fits(x);
        require(!network_ || x.shape(1) == network_->n_features(),
                "x has another width than the network");
        x_ = x.data();
        n_features_ = x.shape(1);
        seconds = 0;
        error_ = nullptr;
        job.forward = call;
        job.forward_context = this;
        job.cache = &cache;
    }
    void rethrow() {
        if (error_) {
            std::rethrow_exception(std::exchange(error_, nullptr));
        }
    }

    const RowLayout &layout;
    s2_cache cache;
    double seconds = 0; // in forward, during the last epoch

  private:
    uint32_t first_tap() const {
        return network_->net.n_layers - layout.layout.n_taps;
    }

    s2_status run(const uint32_t *samples, uint32_t count, float *rows) {
        if (network_) {
            sample_.resize(count);
            for (uint32_t s = 0; s < count; s++) {
                sample_[s] = x_ + samples[s] * n_features_;
            }
            return network_->run(count, sample_.data(), layout, first_tap(), rows, room_);
        }
        nb::gil_scoped_acquire held;
        try {
            // By reference: an array without an owner would be copied, and what is written lost.
            const nb::ndarray<nb::numpy, const uint32_t, nb::ndim<1>> indices(samples, {count});
            const nb::ndarray<nb::numpy, float, nb::ndim<2>> out(rows,
                                                                 {count, layout.layout.row_stride});
            callable_(nb::cast(indices, nb::rv_policy::reference),
                      nb::cast(out, nb::rv_policy::reference));
            return S2_OK;
        } catch (...) {
            error_ = std::current_exception();
            return S2_FORWARD_FAILED;
        }
    }
    static s2_status call(void *context, const uint32_t *samples, uint32_t count, float *rows) {
        RowSource &self = *static_cast<RowSource *>(context);
        const auto start = std::chrono::steady_clock::now();
        const s2_status status = self.run(samples, count, rows);
        self.seconds +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        return status;
    }

    Rows rows_;
    Flags filled_;
    nb::object callable_;
    const Network *network_ = nullptr;
    const float *x_ = nullptr;
    size_t n_features_ = 0;
    std::vector<const float *> sample_;
    Buffer room_;
    std::exception_ptr error_;
};

// status, loss, correct, samples seen, batches, forwards, seconds in forward
using Epoch = std::tuple<int, double, uint32_t, uint32_t, uint32_t, uint32_t, double>;
// rule, beta1, beta2, eps, weight decay, whether it is decoupled
using OptimizerTuple = std::tuple<int, double, double, double, double, bool>;

// What the trainers share: samples, order, optimiser, the loop of one epoch.
class Trainer {
  protected:
    Trainer(uint32_t batch_size, const OptimizerTuple &optimizer, uint64_t seed, Profile *profile)
        : batch_size_(batch_size), profile_(profile) {
        const auto &[rule, beta1, beta2, eps, decay, decoupled] = optimizer;
        optimizer_ = {static_cast<s2_rule>(rule), beta1, beta2, eps, decay, decoupled, 1.0, 1.0};
        require_ok(s2_optimizer_check(&optimizer_));
        s2_rng_seed(&rng_, seed, S2_STREAM_ORDER);
    }

    // A job without rows, labels and step.
    s2_job job_of(const Matrix &x) const {
        require(batch_size_ >= 1 && batch_size_ <= x.shape(0), "batch size outside 1..samples");
        s2_job job = {};
        job.n_samples = count_of(x.shape(0));
        job.n_features = count_of(x.shape(1));
        job.x = x.data();
        job.batch_size = batch_size_;
        job.smallest_batch = 1;
        job.profile = marks();
        return job;
    }

    static void set_labels(s2_job &job, const Labels &labels, uint32_t n_outputs) {
        require(job.n_samples == labels.shape(0), "x and labels have different lengths");
        for (size_t i = 0; i < labels.shape(0); i++) {
            require(labels.data()[i] >= 0 && static_cast<uint32_t>(labels.data()[i]) < n_outputs,
                    "a label is outside 0..n_outputs-1");
        }
        job.label = labels.data();
    }
    static void set_targets(s2_job &job, const Matrix &targets, uint32_t n_outputs) {
        require(job.n_samples == targets.shape(0) && targets.shape(1) == n_outputs,
                "targets have another shape than (samples, outputs)");
        job.target = targets.data();
        job.n_outputs = n_outputs;
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
        return {status,
                stats.loss,
                stats.correct,
                stats.n_seen,
                stats.n_batches,
                stats.n_forward,
                source ? source->seconds : 0.0};
    }

    s2_update next_update() {
        return s2_optimizer_step(&optimizer_, learning_rate_);
    }
    // One zeroed array of `bytes` for the optimiser's state, NULL for none.
    static float *zeroed(Buffer &buffer, size_t bytes) {
        return bytes ? static_cast<float *>(std::memset(buffer.reserve(bytes), 0, bytes)) : nullptr;
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
    SkipTrainer(SkipAdapter &adapter, uint32_t batch_size, const OptimizerTuple &optimizer,
                uint64_t seed, Profile *profile)
        : Trainer(batch_size, optimizer, seed, profile), adapter_(adapter) {
        require(!profile || profile->fits(0), "the fused step has no parts of layers to time");
        step_room_.reserve(s2_adapter_workspace_bytes(&adapter.adapter, batch_size));
        for (uint32_t m = 0; m < s2_optimizer_moments(&optimizer_); m++) {
            moments_[m] = zeroed(state_[m], adapter.n_floats() * sizeof(float));
        }
    }

    // `y` are labels for softmax, targets for the other losses.
    Epoch epoch(const Matrix &x, const std::variant<Labels, Matrix> &y, RowSource &source,
                double learning_rate) {
        require(&source.layout == &adapter_.layout, "the rows are of another layout");
        const uint32_t n_outputs = adapter_.layout.layout.n_outputs;
        s2_job job = job_of(x);
        require((adapter_.adapter.loss == S2_SOFTMAX) == std::holds_alternative<Labels>(y),
                "softmax needs labels, the other losses targets");
        if (const Labels *labels = std::get_if<Labels>(&y)) {
            set_labels(job, *labels, n_outputs);
        } else {
            set_targets(job, std::get<Matrix>(y), n_outputs);
        }
        source.attach(job, x);
        job.step = step;
        job.step_context = this;
        return run_epoch(job, &source, learning_rate);
    }

    size_t state_bytes() const {
        return state_[0].size() + state_[1].size();
    }
    // Of the step, and of an epoch over so many samples that all are in a cache.
    size_t workspace_bytes(uint32_t n_samples, uint32_t n_features) const {
        s2_cache cache = {nullptr, nullptr, n_samples, adapter_.layout.layout.row_stride};
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
        return step_room_.size() + s2_train_workspace_bytes(&job);
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
                   const OptimizerTuple &optimizer, uint64_t seed, Profile *profile)
        : Trainer(batch_size, optimizer, seed, profile), network_(network), net_(network.net),
          tap_(batch_size) {
        require(rows.size() == network.net.n_layers, "expected one row of compute types a layer");
        require(!profile || profile->fits(network.net.n_layers),
                "the profile's parts are of another number of layers");
        net_.profile = marks();
        for (const auto &[fc, lora, bn] : rows) {
            types_.push_back(
                {static_cast<uint8_t>(fc), static_cast<uint8_t>(lora), static_cast<uint8_t>(bn)});
            smallest_batch_ = bn & S2_STATS ? 2 : smallest_batch_;
        }
        step_room_.reserve(s2_net_step_workspace_bytes(&network.net, types_.data(), batch_size));
        moments_ = zeroed(state_, s2_net_state_bytes(&network.net, types_.data(), optimizer_.rule));
    }

    Epoch epoch(const Matrix &x, const Labels &labels, RowSource *source, double learning_rate) {
        s2_job job = job_of(x);
        set_labels(job, labels, network_.n_outputs());
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
