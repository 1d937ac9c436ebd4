// novelty.hpp - how novel rows are beside a reference, and evidence of a change.
#pragma once

#include "claims.hpp"
#include "exact.hpp"
#include "skip2_novelty.h"

class Novelty {
  public:
    Novelty(const Matrix &rows, const Vector &mean, const Vector &scale, const Matrix &centres) {
        const s2_novelty_shape shape = {count_of(rows.shape(0)), count_of(rows.shape(1)),
                                        count_of(centres.shape(0))};
        require(mean.shape(0) == shape.width && scale.shape(0) == shape.width &&
                    centres.shape(1) == shape.width,
                "mean, scale or centres have another width than rows");
        const s2_reference reference = {rows.data(), mean.data(), scale.data(), centres.data()};
        const size_t bytes = s2_novelty_bytes(&shape);
        require(bytes <= PTRDIFF_MAX, "the reference is larger than memory");
        void *room = memory_.reserve(bytes);
        Claim claim;
        claim.reads(rows.data(), rows.nbytes(), "these rows are");
        s2_status status;
        {
            nb::gil_scoped_release released;
            status = s2_novelty_open(&novelty_, choose_kernels(), &shape, &reference, room, bytes);
        }
        require(status != S2_BAD_SHAPE, "a reference has 6 rows or more, and 1 mode to one a row");
        require(status != S2_BAD_VALUE, "a number of the reference is not finite");
        require_ok(status);
    }
    Novelty(const Novelty &) = delete;

    size_t n_bytes() const {
        return memory_.size();
    }

    // Of each of the rows (n, width) its p-values, in its mode and among all, and its novelty. The
    // interpreter lock is released for many alone: one takes less time than to wait for the lock.
    void judge(const Matrix &rows, const Doubles &p, const Doubles &p_all, const Doubles &novelty) {
        enum : size_t { FEW = 8 };
        const size_t n = rows.shape(0), width = novelty_.shape.width;
        require(rows.shape(1) == width, "rows have another width than the reference");
        require(p.shape(0) == n && p_all.shape(0) == n && novelty.shape(0) == n,
                "p, p_all or novelty are not one a row");
        Claim claim;
        claim.writes(this, sizeof *this, "this reference is");
        claim.reads(rows.data(), rows.nbytes(), "these rows are");
        claim.writes(p.data(), p.nbytes(), "these p-values are");
        claim.writes(p_all.data(), p_all.nbytes(), "these p-values are");
        claim.writes(novelty.data(), novelty.nbytes(), "these novelties are");
        std::optional<nb::gil_scoped_release> released;
        if (n >= FEW) {
            released.emplace();
        }
        s2_status status = S2_OK;
        for (size_t i = 0; i < n && status == S2_OK; i++) {
            s2_judged judged;
            status = s2_novelty_judge(&novelty_, rows.data() + i * width, &judged);
            if (status == S2_OK) {
                p.data()[i] = judged.p;
                p_all.data()[i] = judged.p_all;
                novelty.data()[i] = judged.novelty;
            }
        }
        released.reset();
        require(status != S2_BAD_VALUE, "a number of a row is not finite");
        require_ok(status);
    }

  private:
    Buffer memory_;
    s2_novelty novelty_;
};

class Change {
  public:
    // rows, since, alarm, which of the last were novel, statistic, rise
    using State = std::tuple<uint64_t, uint64_t, uint64_t, uint64_t, double, double>;

    Change(double limit, const std::optional<State> &state) : limit_(limit) {
        require(limit > 0, "limit is not above 0");
        if (state) {
            const auto [n_rows, since, alarm, recent, statistic, rise] = *state;
            require(since <= n_rows && alarm <= n_rows && statistic >= 0 && rise >= 0,
                    "this state is none");
            change_ = {n_rows, since, alarm, recent, statistic, rise};
        }
    }

    void add(const Doubles &p, const Doubles &p_all) {
        require(p_all.shape(0) == p.shape(0), "p_all is not one a row");
        for (const Doubles &of : {p, p_all}) {
            for (size_t i = 0; i < of.shape(0); i++) {
                require(of.data()[i] > 0 && of.data()[i] <= 1,
                        "a p-value is not above 0 and at most 1");
            }
        }
        for (size_t i = 0; i < p.shape(0); i++) {
            require_ok(s2_change_add(&change_, p.data()[i], p_all.data()[i], limit_));
        }
    }
    State state() const {
        return {change_.n_rows, change_.since,     change_.alarm,
                change_.recent, change_.statistic, change_.rise};
    }
    double share() const {
        return s2_change_share(&change_);
    }

  private:
    double limit_;
    s2_change change_ = {};
};

inline void bind_novelty(nb::module_ &module) {
    nb::class_<Novelty>(module, "Novelty")
        .def(nb::init<const Matrix &, const Vector &, const Vector &, const Matrix &>(),
             "rows"_a.noconvert(), "mean"_a.noconvert(), "scale"_a.noconvert(),
             "centres"_a.noconvert())
        .def_prop_ro("n_bytes", &Novelty::n_bytes)
        .def("judge", &Novelty::judge, "rows"_a.noconvert(), "p"_a.noconvert(),
             "p_all"_a.noconvert(), "novelty"_a.noconvert());
    nb::class_<Change>(module, "Change")
        .def(nb::init<double, const std::optional<Change::State> &>(), "limit"_a,
             "state"_a = nb::none())
        .def("add", &Change::add, "p"_a.noconvert(), "p_all"_a.noconvert())
        .def_prop_ro("state", &Change::state)
        .def_prop_ro("share", &Change::share);
}
