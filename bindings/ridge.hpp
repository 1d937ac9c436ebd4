// ridge.hpp - ridge regression on a Gram matrix, sample by sample.
#pragma once

#include "exact.hpp"
#include "skip2_ridge.h"

// Arrays of outputs are (outputs, lanes), lanes at least the samples.
class Ridge {
  public:
    explicit Ridge(uint32_t capacity) {
        require(capacity >= 1 && capacity <= S2_MAX_WIDTH, "capacity outside 1..2^24 samples");
        ridge_ = {choose_kernels(), capacity, 0, 1.0, nullptr};
        ridge_.factor = static_cast<double *>(factor_.reserve(s2_ridge_factor_bytes(capacity)));
    }
    Ridge(const Ridge &) = delete;

    uint32_t n_samples() const {
        return ridge_.n_samples;
    }
    size_t n_bytes() const {
        return factor_.size() + workspace_.size();
    }

    void factorize(const ConstPanels &gram, const std::optional<Vector> &weights, double shift) {
        Alone alone(this);
        alone.claim.reads(gram.data(), bytes_of(gram), "this Gram matrix is");
        const size_t n = gram.shape(1);
        require_gram(gram, n);
        require(n <= ridge_.capacity, "the Gram matrix has more samples than there is room for");
        require(!weights || weights->shape(0) == n, "weights are not one a sample");
        ridge_.n_samples = static_cast<uint32_t>(n);
        ridge_.shift = shift;
        const s2_status status = run(0, 0, [&](void *room, size_t size) {
            return s2_ridge_factorize(&ridge_, gram.data(), weights ? weights->data() : nullptr,
                                      room, size);
        });
        ridge_.n_samples = status == S2_OK ? ridge_.n_samples : 0;
        require_solvable(status);
    }

    // No interpreter lock is released: a sample takes less time than that would.
    void append(const Vector &products, float weight) {
        const Alone alone(this);
        require(ridge_.n_samples < ridge_.capacity, "there is room for no further sample");
        require(products.shape(0) == ridge_.n_samples + 1u,
                "products are not one a sample and one for the new sample itself");
        const size_t size = reserve(0, 0);
        require_solvable(
            s2_ridge_append(&ridge_, products.data(), weight, workspace_.data(), size));
    }
    void remove(uint32_t sample) {
        const Alone alone(this);
        require(sample < ridge_.n_samples, "there is no such sample");
        const size_t size = reserve(0, 0);
        require_ok(s2_ridge_remove(&ridge_, sample, workspace_.data(), size));
    }

    void solve(const Matrix &targets, const Rows &coefficients, const OutVector &bias) {
        Alone alone(this);
        alone.claim.reads(targets.data(), bytes_of(targets), "these targets are");
        alone.claim.writes(coefficients.data(), bytes_of(coefficients), "these coefficients are");
        alone.claim.writes(bias.data(), bytes_of(bias), "this bias is");
        const s2_ridge_fit fit = fit_of(coefficients, &targets, &bias, 1);
        const s2_status status = run(fit.n_outputs, 0, [&](void *room, size_t size) {
            return s2_ridge_solve(&ridge_, &fit, room, size);
        });
        require(status != S2_BAD_VALUE, "a target is not finite");
        require_ok(status);
    }

    void leave_one_out(const Rows &coefficients, const Rows &residuals) {
        Alone alone(this);
        alone.claim_residuals(coefficients, residuals);
        const s2_ridge_fit fit = fit_of(coefficients, nullptr, nullptr, 2);
        require(residuals.shape(0) == fit.n_outputs && residuals.shape(1) == fit.lanes,
                "residuals have another shape than the coefficients");
        require_ok(run(fit.n_outputs, 0, [&](void *room, size_t size) {
            return s2_ridge_leave_one_out(&ridge_, &fit, residuals.data(), room, size);
        }));
    }

    void leave_out(const Indices &samples, const Rows &coefficients, const Rows &residuals) {
        Alone alone(this);
        alone.claim_residuals(coefficients, residuals);
        const s2_ridge_fit fit = fit_of(coefficients, nullptr, nullptr, 2);
        const uint32_t count = count_of(samples.shape(0));
        require(count >= 1 && count < ridge_.n_samples,
                "samples left out are none or all there are");
        require(residuals.shape(0) == fit.n_outputs && residuals.shape(1) == count,
                "residuals have another shape than (outputs, samples left out)");
        const s2_status status = run(fit.n_outputs, count, [&](void *room, size_t size) {
            return s2_ridge_leave_out(&ridge_, &fit, count, samples.data(), residuals.data(), room,
                                      size);
        });
        require(status != S2_BAD_VALUE, "a sample left out is not there or named twice");
        require_ok(status);
    }

  private:
    // One call at a time: every one of them uses the workspace.
    struct Alone {
        explicit Alone(const Ridge *ridge) {
            claim.writes(ridge, sizeof *ridge, "this ridge regression is");
        }
        void claim_residuals(const Rows &coefficients, const Rows &residuals) {
            claim.reads(coefficients.data(), bytes_of(coefficients), "these coefficients are");
            claim.writes(residuals.data(), bytes_of(residuals), "these residuals are");
        }
        Claim claim;
    };

    static void require_solvable(s2_status status) {
        require(status != S2_BAD_VALUE, "a weight or the shift is not above 0 and finite");
        require(status != S2_NOT_FINITE,
                "the Gram matrix is not finite, or not positive definite with this shift");
        require_ok(status);
    }

    size_t reserve(uint32_t n_outputs, uint32_t left_out) {
        const size_t size = s2_ridge_workspace_bytes(&ridge_, n_outputs, left_out);
        workspace_.reserve(size);
        return size;
    }

    template <class Call>
    s2_status run(uint32_t n_outputs, uint32_t left_out, const Call &call) {
        nb::gil_scoped_release released;
        const size_t size = reserve(n_outputs, left_out);
        return call(workspace_.data(), size);
    }

    s2_ridge_fit fit_of(const Rows &coefficients, const Matrix *targets, const OutVector *bias,
                        uint32_t least) const {
        const size_t outputs = coefficients.shape(0), lanes = coefficients.shape(1);
        require(ridge_.n_samples >= least, "the regression has too few samples");
        require(outputs >= 1 && lanes >= ridge_.n_samples,
                "coefficients are not (outputs, at least the samples)");
        require(!targets || (targets->shape(0) == outputs && targets->shape(1) == lanes),
                "targets have another shape than the coefficients");
        require(!bias || bias->shape(0) == outputs, "the bias is not one number an output");
        return {count_of(outputs), lanes, targets ? targets->data() : nullptr, coefficients.data(),
                bias ? bias->data() : nullptr};
    }

    s2_ridge ridge_;
    Buffer factor_, workspace_;
};

inline void bind_ridge(nb::module_ &module) {
    nb::class_<Ridge>(module, "Ridge")
        .def(nb::init<uint32_t>(), "capacity"_a)
        .def_prop_ro("n_samples", &Ridge::n_samples)
        .def_prop_ro("n_bytes", &Ridge::n_bytes)
        .def("factorize", &Ridge::factorize, "gram"_a.noconvert(), "weights"_a.noconvert().none(),
             "shift"_a)
        .def("append", &Ridge::append, "products"_a.noconvert(), "weight"_a = 1.0f)
        .def("remove", &Ridge::remove, "sample"_a)
        .def("solve", &Ridge::solve, "targets"_a.noconvert(), "coefficients"_a.noconvert(),
             "bias"_a.noconvert())
        .def("leave_one_out", &Ridge::leave_one_out, "coefficients"_a.noconvert(),
             "residuals"_a.noconvert())
        .def("leave_out", &Ridge::leave_out, "samples"_a.noconvert(), "coefficients"_a.noconvert(),
             "residuals"_a.noconvert());
}
