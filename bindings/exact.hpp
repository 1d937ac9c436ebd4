// exact.hpp - convex fits on rows: moments and scaling of columns, Gram matrices, the exact solver.
#pragma once

#include <cmath>
#include <optional>
#include <variant>

#include "coded.hpp"
#include "skip2_exact.h"

using Doubles = nb::ndarray<double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Panels = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using ConstPanels = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

template <class Array>
size_t bytes_of(const Array &array) {
    return array.nbytes();
}

class ColumnMoments {
  public:
    explicit ColumnMoments(uint32_t width)
        : width_(width), first_(width), sums_(2 * size_t(width)) {
        require(width > 0, "there are no columns");
        moments_ = {width, 0, 0, first_.data(), sums_.data(), sums_.data() + width};
    }
    ColumnMoments(const ColumnMoments &) = delete;

    void add(const Matrix &rows, const std::optional<Vector> &weights) {
        require(rows.shape(1) == width_, "rows are of another width than the ones before");
        require(!weights || weights->shape(0) == rows.shape(0), "a row has a weight each");
        Claim all;
        all.writes(this, sizeof *this, "these moments are");
        all.reads(rows.data(), bytes_of(rows), "these rows are");
        const s2_kernels *kernels = choose_kernels();
        const uint32_t count = count_of(rows.shape(0));
        nb::gil_scoped_release released;
        s2_moments_add(kernels, &moments_, count, rows.data(), width_,
                       weights ? weights->data() : nullptr);
    }
    double total() const {
        return moments_.total;
    }
    void finish(const Doubles &mean, const Doubles &var) const {
        Claim all;
        all.reads(this, sizeof *this, "these moments are");
        require(moments_.total > 0, "there were no rows with a weight");
        require(mean.shape(0) == width_ && var.shape(0) == width_,
                "mean and variance have a number for each column");
        s2_moments_finish(&moments_, mean.data(), var.data());
    }

  private:
    uint32_t width_;
    std::vector<float> first_;
    std::vector<double> sums_;
    s2_moments moments_;
};

inline void scale_rows(const Rows &rows, const Vector &mean, const Vector &scale) {
    require(mean.shape(0) == rows.shape(1) && scale.shape(0) == rows.shape(1),
            "mean and scale have a number for each column of a row");
    Claim all;
    all.writes(rows.data(), bytes_of(rows), "these rows are");
    const s2_kernels *kernels = choose_kernels();
    const uint32_t count = count_of(rows.shape(0));
    nb::gil_scoped_release released;
    s2_scale_rows(kernels, count, rows.shape(1), mean.data(), scale.data(), rows.data());
}

// Rows whose columns are standardised as they are read. What codes stand for and the standardisation
// are one multiply-add.
class StandardRows {
  public:
    StandardRows(const AnyRows &rows, const Vector &mean, const Vector &scale)
        : rows_(rows), mean_(mean), scale_(scale) {
        const CodedRows *const *codes = std::get_if<const CodedRows *>(&rows);
        const Matrix *floats = std::get_if<Matrix>(&rows);
        n_samples = count_of(codes ? (*codes)->n_rows() : floats->shape(0));
        stride_ = codes ? (*codes)->layout.layout.row_stride : floats->shape(1);
        require(mean.shape(0) == stride_ && scale.shape(0) == stride_,
                "mean and scale have a number for each column of a row");
        if (codes) {
            coded_ = (*codes)->coded;
            for (uint32_t c = 0; c < coded_.n_columns; c++) {
                const double by = scale.data()[c];
                scales_.push_back(static_cast<float>(coded_.scale[c] * by));
                offsets_.push_back(
                    static_cast<float>((double(coded_.offset[c]) - mean.data()[c]) * by));
            }
            coded_.scale = scales_.data();
            coded_.offset = offsets_.data();
        }
    }
    StandardRows(const StandardRows &) = delete;

    s2_columns columns(uint32_t first, uint32_t width) const {
        const Matrix *floats = std::get_if<Matrix>(&rows_);
        const s2_columns columns = {choose_kernels(),
                                    n_samples,
                                    first,
                                    width,
                                    floats ? floats->data() : nullptr,
                                    stride_,
                                    mean_.data(),
                                    scale_.data(),
                                    floats ? nullptr : &coded_};
        require(s2_columns_check(&columns) == S2_OK, "the rows do not have those columns");
        return columns;
    }
    void reads(Claim &claim) const {
        if (const Matrix *floats = std::get_if<Matrix>(&rows_)) {
            claim.reads(floats->data(), bytes_of(*floats), "these rows are");
        } else {
            std::get<const CodedRows *>(rows_)->reads(claim);
        }
    }

    uint32_t n_samples;

  private:
    AnyRows rows_;
    Vector mean_, scale_;
    size_t stride_;
    s2_coded coded_ = {};
    std::vector<float> scales_, offsets_;
};

template <class Array>
void require_gram(const Array &gram, size_t n_samples) {
    require(n_samples > 0 && gram.shape(1) == n_samples && gram.shape(2) == S2_SAMPLE_LANES &&
                gram.shape(0) == s2_sample_lanes(count_of(n_samples)) / S2_SAMPLE_LANES,
            "a Gram matrix is (lanes / 32, samples, 32)");
}

inline void gram_add(const AnyRows &rows, uint32_t first, uint32_t width, const Vector &mean,
                     const Vector &scale, const Panels &gram) {
    const StandardRows standard(rows, mean, scale);
    const s2_columns columns = standard.columns(first, width);
    require_gram(gram, columns.n_samples);
    Claim all;
    all.writes(gram.data(), bytes_of(gram), "this Gram matrix is");
    standard.reads(all);
    const size_t bytes = s2_gram_bytes(columns.n_samples);
    Buffer workspace;
    workspace.reserve(bytes);
    nb::gil_scoped_release released;
    require_ok(s2_gram_add(&columns, gram.data(), workspace.data(), bytes));
}

inline double gram_trace(const ConstPanels &gram) {
    require_gram(gram, gram.shape(1));
    return s2_gram_trace(count_of(gram.shape(1)), gram.data());
}

inline void gram_finish(const Panels &gram, float factor) {
    require_gram(gram, gram.shape(1));
    Claim all;
    all.writes(gram.data(), bytes_of(gram), "this Gram matrix is");
    const s2_kernels *kernels = choose_kernels();
    nb::gil_scoped_release released;
    s2_gram_finish(kernels, count_of(gram.shape(1)), factor, gram.data());
}

inline void column_weights(const AnyRows &rows, uint32_t first, uint32_t width, const Vector &mean,
                           const Vector &scale, const Matrix &coefficients, const Rows &weights) {
    const StandardRows standard(rows, mean, scale);
    const s2_columns columns = standard.columns(first, width);
    const uint32_t n_outputs = count_of(coefficients.shape(0));
    require(n_outputs > 0 && coefficients.shape(1) == s2_sample_lanes(columns.n_samples),
            "coefficients are (outputs, lanes)");
    require(weights.shape(0) == width && weights.shape(1) == n_outputs,
            "weights are (width, outputs)");
    Claim all;
    all.writes(weights.data(), bytes_of(weights), "these weights are");
    standard.reads(all);
    all.reads(coefficients.data(), bytes_of(coefficients), "these coefficients are");
    const size_t bytes = s2_column_weights_bytes(n_outputs);
    Buffer workspace;
    workspace.reserve(bytes);
    nb::gil_scoped_release released;
    require_ok(s2_column_weights(&columns, n_outputs, coefficients.data(), weights.data(),
                                 workspace.data(), bytes));
}

// Weighted fits on a Gram matrix, for any number of penalties: one, or with weights (problems, lanes)
// several side by side. It keeps the arrays alive, which must not change.
class DualProblem {
  public:
    DualProblem(const ConstPanels &gram, int loss, const Matrix &targets,
                const std::variant<Vector, Matrix> &weights, const std::optional<Matrix> &offsets)
        : gram_(gram), targets_(targets), weights_(weights), offsets_(offsets) {
        require_gram(gram, gram.shape(1));
        require(loss >= S2_SOFTMAX && loss <= S2_SQUARED, "the loss is unknown");
        const Matrix *several = std::get_if<Matrix>(&weights_);
        dual_.n_samples = count_of(gram.shape(1));
        dual_.n_problems = several ? count_of(several->shape(0)) : 1;
        const size_t lanes = s2_sample_lanes(dual_.n_samples);
        require(
            targets.shape(0) > 0 && targets.shape(1) == lanes && dual_.n_problems > 0 &&
                (several ? several->shape(1) : std::get<Vector>(weights_).shape(0)) == lanes &&
                (!offsets || (offsets->shape(0) == targets.shape(0) && offsets->shape(1) == lanes)),
            "targets and offsets are (outputs, lanes), weights (lanes) or (problems, lanes)");
        dual_.objective = {choose_kernels(),
                           static_cast<s2_loss>(loss),
                           count_of(targets.shape(0)),
                           lanes,
                           targets.data(),
                           lanes,
                           several ? several->data() : std::get<Vector>(weights_).data()};
        dual_.gram = gram.data();
        dual_.offset = offsets ? offsets->data() : nullptr;
        require(s2_dual_check(&dual_) == S2_OK,
                "a weight or a target is out of its range, or all weights are 0");
        workspace_.reserve(
            s2_dual_bytes(dual_.n_samples, dual_.objective.n_outputs, dual_.n_problems));
    }
    DualProblem(const DualProblem &) = delete;

    std::vector<s2_dual_report> solve_all(double penalty, double tolerance,
                                          const Rows &coefficients, const Rows &products,
                                          const OutVector &bias) {
        const size_t lanes = dual_.objective.lanes;
        const size_t n_rows = size_t(dual_.n_problems) * dual_.objective.n_outputs;
        require(coefficients.shape(0) == n_rows && coefficients.shape(1) == lanes &&
                    products.shape(0) == n_rows && products.shape(1) == lanes &&
                    bias.shape(0) == n_rows,
                "coefficients and products are (problems * outputs, lanes), the bias (problems * "
                "outputs)");
        require(penalty >= 0 && std::isfinite(penalty) && tolerance >= 0 &&
                    std::isfinite(tolerance),
                "penalty and tolerance are numbers from 0");
        Claim all;
        all.writes(this, sizeof *this, "this problem is");
        all.writes(coefficients.data(), bytes_of(coefficients), "these coefficients are");
        all.writes(products.data(), bytes_of(products), "these products are");
        all.writes(bias.data(), bytes_of(bias), "this bias is");
        all.reads(gram_.data(), bytes_of(gram_), "this Gram matrix is");
        const s2_dual_solution solution = {coefficients.data(), products.data(), bias.data()};
        std::vector<s2_dual_report> reports(dual_.n_problems);
        s2_status status;
        {
            nb::gil_scoped_release released;
            status = s2_dual_solve(&dual_, penalty, tolerance, &solution, reports.data(),
                                   workspace_.data(), workspace_.size());
        }
        require(status != S2_NOT_FINITE, "the objective is not finite at the start");
        require_ok(status);
        return reports;
    }
    s2_dual_report solve(double penalty, double tolerance, const Rows &coefficients,
                         const Rows &products, const OutVector &bias) {
        require(dual_.n_problems == 1, "there are several problems: solve all of them");
        return solve_all(penalty, tolerance, coefficients, products, bias)[0];
    }

  private:
    ConstPanels gram_;
    Matrix targets_;
    std::variant<Vector, Matrix> weights_;
    std::optional<Matrix> offsets_;
    s2_dual dual_ = {};
    Buffer workspace_;
};

inline size_t dual_bytes(uint32_t n_samples, uint32_t n_outputs, uint32_t n_problems) {
    const size_t bytes =
        s2_dual_bytes(count_of(n_samples), count_of(n_outputs), count_of(n_problems));
    require(bytes < SIZE_MAX, "more samples than a size can say");
    return bytes;
}

inline void bind_exact(nb::module_ &module) {
    module.attr("SAMPLE_LANES") = S2_SAMPLE_LANES;
    nb::class_<ColumnMoments>(module, "ColumnMoments")
        .def(nb::init<uint32_t>(), "width"_a)
        .def("add", &ColumnMoments::add, "rows"_a.noconvert(),
             "weights"_a.noconvert().none() = nb::none())
        .def_prop_ro("total", &ColumnMoments::total)
        .def("finish", &ColumnMoments::finish, "mean"_a.noconvert(), "var"_a.noconvert());
    module.def("scale_rows", scale_rows, "rows"_a.noconvert(), "mean"_a.noconvert(),
               "scale"_a.noconvert());
    module.def("gram_add", gram_add, "rows"_a.noconvert(), "first"_a, "width"_a,
               "mean"_a.noconvert(), "scale"_a.noconvert(), "gram"_a.noconvert());
    module.def("gram_trace", gram_trace, "gram"_a.noconvert());
    module.def("gram_finish", gram_finish, "gram"_a.noconvert(), "factor"_a);
    module.def("column_weights", column_weights, "rows"_a.noconvert(), "first"_a, "width"_a,
               "mean"_a.noconvert(), "scale"_a.noconvert(), "coefficients"_a.noconvert(),
               "weights"_a.noconvert());
    nb::class_<s2_dual_report>(module, "DualReport")
        .def_ro("iterations", &s2_dual_report::iterations)
        .def_ro("objective", &s2_dual_report::objective)
        .def_ro("decrement", &s2_dual_report::decrement)
        .def_prop_ro("converged", [](const s2_dual_report &r) { return r.converged != 0; });
    module.def("dual_bytes", dual_bytes, "n_samples"_a, "n_outputs"_a, "n_problems"_a = 1);
    nb::class_<DualProblem>(module, "DualProblem")
        .def(nb::init<const ConstPanels &, int, const Matrix &,
                      const std::variant<Vector, Matrix> &, const std::optional<Matrix> &>(),
             "gram"_a.noconvert(), "loss"_a, "targets"_a.noconvert(), "weights"_a.noconvert(),
             "offsets"_a.noconvert().none() = nb::none())
        .def("solve", &DualProblem::solve, "penalty"_a, "tolerance"_a, "coefficients"_a.noconvert(),
             "products"_a.noconvert(), "bias"_a.noconvert())
        .def("solve_all", &DualProblem::solve_all, "penalty"_a, "tolerance"_a,
             "coefficients"_a.noconvert(), "products"_a.noconvert(), "bias"_a.noconvert());
}
