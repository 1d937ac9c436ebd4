// primal.hpp - the exact solver with the weights of the columns as unknowns.
#pragma once

#include "exact.hpp"
#include "skip2_primal.h"

// One weighted fit on columns of rows, for any number of penalties. It keeps the arrays alive,
// which must not change.
class PrimalProblem {
  public:
    // taps: (first, width) each, of a row; side by side they are the problem's columns.
    PrimalProblem(const AnyRows &rows, const std::vector<std::pair<uint32_t, uint32_t>> &taps,
                  const Vector &mean, const Vector &scale, int loss, const Matrix &targets,
                  const Vector &weights, const std::optional<Matrix> &offsets)
        : rows_(rows, mean, scale), targets_(targets), weights_(weights), offsets_(offsets) {
        require(!taps.empty(), "there are no taps");
        for (const auto &[first, width] : taps) {
            columns_.push_back(rows_.columns(first, width));
            this->width += width;
        }
        require(loss >= S2_SOFTMAX && loss <= S2_SQUARED, "the loss is unknown");
        const size_t lanes = s2_sample_lanes(rows_.n_samples);
        require(
            targets.shape(0) > 0 && targets.shape(1) == lanes && weights.shape(0) == lanes &&
                (!offsets || (offsets->shape(0) == targets.shape(0) && offsets->shape(1) == lanes)),
            "targets and offsets are (outputs, lanes), weights (lanes)");
        primal = {{choose_kernels(), static_cast<s2_loss>(loss), count_of(targets.shape(0)), lanes,
                   targets.data(), lanes, weights.data()},
                  static_cast<uint32_t>(columns_.size()),
                  columns_.data(),
                  offsets ? offsets->data() : nullptr};
        const s2_status status = s2_primal_check(&primal);
        require(status != S2_BAD_SHAPE, "there are no samples, or more than 2^24 columns");
        require(status == S2_OK, "a weight or a target is out of its range, or all weights are 0");
    }
    PrimalProblem(const PrimalProblem &) = delete;

    size_t n_samples() const {
        return rows_.n_samples;
    }
    size_t n_outputs() const {
        return targets_.shape(0);
    }
    s2_primal_solution solution_of(const Rows &weights, const Rows &products,
                                   const OutVector &bias) const {
        require(weights.shape(0) == n_outputs() && weights.shape(1) == width &&
                    products.shape(0) == n_outputs() &&
                    products.shape(1) == primal.objective.lanes && bias.shape(0) == n_outputs(),
                "weights are (outputs, width), products (outputs, lanes), the bias (outputs)");
        return {weights.data(), products.data(), bias.data()};
    }

    void claim(Claim &all) const {
        rows_.reads(all);
    }

    s2_primal primal;
    size_t width = 0;

  private:
    StandardRows rows_;
    Matrix targets_;
    Vector weights_;
    std::optional<Matrix> offsets_;
    std::vector<s2_columns> columns_;
};

// What a fit starts from: a bound of the Hessian by all columns, or the Hessian of some samples.
class Metric {
  public:
    // Of all columns where `subset` is none.
    Metric(const PrimalProblem &problem, const std::optional<Indices> &subset)
        : width_(problem.width), n_samples_(problem.n_samples()) {
        if (subset) {
            require(subset->shape(0) > 0, "the subset has no samples");
            subset_.assign(subset->data(), subset->data() + subset->shape(0));
        }
        const uint32_t order =
            subset ? count_of(subset_.size()) : static_cast<uint32_t>(problem.width);
        const size_t floats = s2_metric_floats(order);
        require(floats <= SIZE_MAX / sizeof(double), "the metric is larger than a size can say");
        metric_ = {count_of(subset_.size()),
                   subset_.data(),
                   static_cast<float *>(gram_.reserve(floats * sizeof(float))),
                   factor_.reserve(s2_metric_factor_bytes(static_cast<uint32_t>(problem.width),
                                                          count_of(subset_.size()))),
                   0.0f,
                   0.0f};
        reserve(problem);
        Claim all;
        problem.claim(all);
        s2_status status;
        {
            nb::gil_scoped_release released;
            status =
                s2_metric_gram(&problem.primal, &metric_, workspace_.data(), workspace_.size());
        }
        require(status != S2_BAD_VALUE, "a sample of the subset is not there");
        require_ok(status);
    }
    Metric(const Metric &) = delete;

    void factorize(const PrimalProblem &problem, double penalty, const Rows &weights,
                   const Rows &products, const OutVector &bias) {
        Claim all;
        claim(all, problem, penalty);
        all.reads(products.data(), bytes_of(products), "these products are");
        all.reads(bias.data(), bytes_of(bias), "this bias is");
        const s2_primal_solution solution = problem.solution_of(weights, products, bias);
        s2_status status;
        {
            nb::gil_scoped_release released;
            status = s2_metric_factorize(&problem.primal, &metric_, penalty, &solution,
                                         workspace_.data(), workspace_.size());
        }
        factorized_ = status == S2_OK;
        require(status != S2_NOT_FINITE, "the columns are not finite");
        require_ok(status);
    }

    s2_dual_report solve(const PrimalProblem &problem, double penalty, double tolerance,
                         const Rows &weights, const Rows &products, const OutVector &bias) {
        Claim all;
        claim(all, problem, penalty);
        require(factorized_, "the metric has no factor yet");
        require(tolerance >= 0 && std::isfinite(tolerance),
                "penalty and tolerance are numbers from 0");
        all.writes(weights.data(), bytes_of(weights), "these weights are");
        all.writes(products.data(), bytes_of(products), "these products are");
        all.writes(bias.data(), bytes_of(bias), "this bias is");
        const s2_primal_solution solution = problem.solution_of(weights, products, bias);
        s2_dual_report report = {};
        s2_status status;
        {
            nb::gil_scoped_release released;
            status = s2_primal_solve(&problem.primal, &metric_, penalty, tolerance, &solution,
                                     &report, workspace_.data(), workspace_.size());
        }
        require(status != S2_NOT_FINITE, "the objective is not finite at the start");
        require_ok(status);
        return report;
    }

  private:
    void claim(Claim &all, const PrimalProblem &problem, double penalty) {
        require(penalty >= 0 && std::isfinite(penalty), "penalty and tolerance are numbers from 0");
        require(problem.width == width_ && problem.n_samples() == n_samples_,
                "the problem has other rows or columns than the metric");
        all.writes(this, sizeof *this, "this metric is");
        problem.claim(all);
        reserve(problem);
    }
    void reserve(const PrimalProblem &problem) {
        const size_t bytes = s2_primal_bytes(&problem.primal, metric_.n_subset);
        require(bytes < SIZE_MAX, "more outputs than a size can say");
        workspace_.reserve(bytes);
    }

    size_t width_, n_samples_;
    std::vector<uint32_t> subset_;
    Buffer gram_, factor_, workspace_;
    s2_metric metric_ = {};
    bool factorized_ = false;
};

inline int exact_choose(uint32_t n_samples, uint32_t width, uint32_t n_outputs, size_t memory) {
    require(n_samples > 0 && width > 0 && n_outputs > 0,
            "there are no samples, columns or outputs");
    return s2_exact_choose(count_of(n_samples), count_of(width), count_of(n_outputs), memory);
}

// SIZE_MAX where no size can say it.
inline size_t solver_bytes(int solver, uint32_t n_samples, uint32_t width, uint32_t n_outputs) {
    require(solver >= S2_SOLVE_DUAL && solver <= S2_SOLVE_SUBSET, "the solver is unknown");
    return s2_solver_bytes(static_cast<s2_solver>(solver), count_of(n_samples), count_of(width),
                           count_of(n_outputs));
}

inline void bind_primal(nb::module_ &module) {
    module.attr("SOLVE_NONE") = static_cast<int>(S2_SOLVE_NONE);
    module.attr("SOLVE_DUAL") = static_cast<int>(S2_SOLVE_DUAL);
    module.attr("SOLVE_PRIMAL") = static_cast<int>(S2_SOLVE_PRIMAL);
    module.attr("SOLVE_SUBSET") = static_cast<int>(S2_SOLVE_SUBSET);
    module.def("exact_choose", exact_choose, "n_samples"_a, "width"_a, "n_outputs"_a, "memory"_a);
    module.def("solver_bytes", solver_bytes, "solver"_a, "n_samples"_a, "width"_a, "n_outputs"_a);
    module.def("subset_size", s2_subset_size, "n_samples"_a);
    nb::class_<PrimalProblem>(module, "PrimalProblem")
        .def(nb::init<const AnyRows &, const std::vector<std::pair<uint32_t, uint32_t>> &,
                      const Vector &, const Vector &, int, const Matrix &, const Vector &,
                      const std::optional<Matrix> &>(),
             "rows"_a.noconvert(), "taps"_a, "mean"_a.noconvert(), "scale"_a.noconvert(), "loss"_a,
             "targets"_a.noconvert(), "weights"_a.noconvert(),
             "offsets"_a.noconvert().none() = nb::none(), nb::keep_alive<1, 2>())
        .def_prop_ro("width", [](const PrimalProblem &problem) { return problem.width; });
    nb::class_<Metric>(module, "Metric")
        .def(nb::init<const PrimalProblem &, const std::optional<Indices> &>(), "problem"_a,
             "subset"_a.noconvert().none() = nb::none())
        .def("factorize", &Metric::factorize, "problem"_a, "penalty"_a, "weights"_a.noconvert(),
             "products"_a.noconvert(), "bias"_a.noconvert())
        .def("solve", &Metric::solve, "problem"_a, "penalty"_a, "tolerance"_a,
             "weights"_a.noconvert(), "products"_a.noconvert(), "bias"_a.noconvert());
}
