// row_source.hpp - where an epoch takes the rows of its samples from.
#pragma once

#include <algorithm>
#include <chrono>
#include <exception>
#include <optional>

#include "coded.hpp"
#include "network.hpp"

// Where the rows of samples come from: the cache, or for those it lacks a network here or Python.
// Refers to the caller's arrays and keeps them alive. With `tables`, of s2_slots, the cache is one of
// any samples by `policy`; those whose row is there at the start are the first ones. Python may be
// told of the samples of a batch two batches before they are needed.
class RowSource {
  public:
    using AnyRows = std::variant<Rows, const CodedRows *>; // that may be written

    RowSource(const RowLayout &layout, AnyRows rows, Flags filled, nb::object forward, int policy,
              std::optional<Tables> tables, nb::object announce)
        : layout(layout), rows_(rows), filled_(filled), tables_(tables), callable_(forward),
          announce_(announce) {
        const Rows *floats = std::get_if<Rows>(&rows);
        const CodedRows *coded = floats ? nullptr : std::get<const CodedRows *>(rows);
        const size_t n_rows = floats ? floats->shape(0) : coded->n_rows();
        const size_t stride = floats ? floats->shape(1) : coded->layout.layout.row_stride;
        require(stride == layout.layout.row_stride && n_rows == filled.shape(0) &&
                    (floats || (coded->coded.n_columns == layout.layout.logits_offset &&
                                coded->coded.n_floats == layout.layout.n_outputs)),
                "the cache has another shape than the layout asks for");
        cache = {};
        cache.rows = floats ? floats->data() : nullptr;
        cache.filled = filled.data();
        cache.capacity = count_of(n_rows);
        cache.row_stride = layout.layout.row_stride;
        cache.coded = coded ? &coded->coded : nullptr;
        if (tables) {
            init_slots(policy);
        }
        network_ = nb::isinstance<Network>(forward) ? nb::cast<const Network *>(forward) : nullptr;
        if (network_) {
            require(layout.layout.n_taps <= network_->net.n_layers, "more taps than layers");
            network_->require_fits(layout, first_tap());
        }
    }
    RowSource(const RowSource &) = delete;

    // The rows and the marks of which are there, whoever else refers to them.
    void claim(Claim &claim) const {
        claim.writes(this, sizeof *this, "this source of rows is");
        if (const Rows *floats = std::get_if<Rows>(&rows_)) {
            claim.writes(floats->data(), floats->nbytes(), "the rows of this cache are");
        } else {
            std::get<const CodedRows *>(rows_)->writes(claim);
        }
        claim.writes(filled_.data(), filled_.nbytes(), "the rows of this cache are");
        if (tables_) {
            claim.writes(tables_->data(), tables_->nbytes(), "the rows of this cache are");
        }
        if (network_) {
            claim.reads(network_, sizeof *network_, "the network behind the rows is");
        }
    }
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
        job.announce = announce_.is_none() ? nullptr : announce;
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
    void init_slots(int policy) {
        const size_t of_slots = s2_slots_count(0, cache.capacity);
        require(tables_->size() >= of_slots, "the tables have no place for every slot");
        const uint32_t n_samples = count_of(tables_->size() - of_slots);
        const uint8_t *flags = filled_.data(), *end = flags + cache.capacity;
        const size_t n_filled = std::find(flags, end, 0) - flags;
        require(std::find_if(flags + n_filled, end, [](uint8_t flag) { return flag; }) == end,
                "rows are there behind some that are not");
        require(policy >= S2_PIN && policy <= S2_LRU, "the policy is unknown");
        require(s2_slots_init(&slots_, static_cast<s2_policy>(policy), n_samples, cache.capacity,
                              count_of(n_filled), tables_->data()) == S2_OK,
                "more rows are there than samples");
        cache.slots = &slots_;
    }
    uint32_t first_tap() const {
        return network_->net.n_layers - layout.layout.n_taps;
    }

    // By reference: an array without an owner would be copied, and what is written lost.
    static nb::object indices_of(const uint32_t *samples, uint32_t count) {
        const nb::ndarray<nb::numpy, const uint32_t, nb::ndim<1>> indices(samples, {count});
        return nb::cast(indices, nb::rv_policy::reference);
    }
    s2_status run(const uint32_t *samples, uint32_t count, float *rows) {
        if (network_) {
            sample_.resize(count);
            for (uint32_t s = 0; s < count; s++) {
                sample_[s] = x_ + samples[s] * n_features_;
            }
            return network_->run(count, sample_.data(), layout.layout, first_tap(), rows, room_);
        }
        nb::gil_scoped_acquire held;
        const nb::ndarray<nb::numpy, float, nb::ndim<2>> out(rows,
                                                             {count, layout.layout.row_stride});
        callable_(indices_of(samples, count), nb::cast(out, nb::rv_policy::reference));
        return S2_OK;
    }
    static s2_status call(void *context, const uint32_t *samples, uint32_t count, float *rows) {
        RowSource &self = *static_cast<RowSource *>(context);
        const auto start = std::chrono::steady_clock::now();
        s2_status status = S2_FORWARD_FAILED;
        if (self.error_) { // of an announcement
            return status;
        }
        try {
            status = self.run(samples, count, rows);
        } catch (...) { // kept until the C core, which knows of no exceptions, has returned
            self.error_ = std::current_exception();
        }
        self.seconds +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        return status;
    }

    static void announce(void *context, const uint32_t *samples, uint32_t count) {
        RowSource &self = *static_cast<RowSource *>(context);
        try {
            nb::gil_scoped_acquire held;
            self.announce_(indices_of(samples, count));
        } catch (...) {
            self.error_ = std::current_exception();
        }
    }

    AnyRows rows_;
    Flags filled_;
    std::optional<Tables> tables_;
    s2_slots slots_ = {};
    nb::object callable_, announce_;
    const Network *network_ = nullptr;
    const float *x_ = nullptr;
    size_t n_features_ = 0;
    std::vector<const float *> sample_;
    Buffer room_;
    std::exception_ptr error_;
};

inline void bind_row_source(nb::module_ &module) {
    nb::class_<RowSource>(module, "RowSource")
        .def(nb::init<const RowLayout &, RowSource::AnyRows, Flags, nb::object, int,
                      std::optional<Tables>, nb::object>(),
             "layout"_a, "rows"_a.noconvert(), "filled"_a.noconvert(), "forward"_a,
             "policy"_a = static_cast<int>(S2_PIN), "tables"_a.noconvert() = nb::none(),
             "announce"_a = nb::none(), nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>());
}
