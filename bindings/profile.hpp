// profile.hpp - the clock and the counts behind the core's phase timers.
#pragma once

#include <chrono>

#include "network.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#include <x86intrin.h>
#endif

// Where the time of training goes, of whoever passes it to a trainer. Four looks at steady_clock show
// in a fused step of two microseconds, so that phases are counted in ticks of the processor's own
// counter where it has a quick one, and scaled by what steady_clock says of whole epochs.
class Profile {
  public:
    // phases false: whole epochs alone, without a mark inside. n_layers > 0: parts of layers too.
    Profile(bool phases, uint32_t n_layers) : phases_(phases), parts_(n_layers) {
        require(n_layers <= S2_MAX_LAYERS, "more layers than a network may have");
        require(phases || n_layers == 0, "parts of layers without phases");
        profile_.now = ticks;
        profile_.part = n_layers ? &parts_.data()->of : nullptr;
    }
    Profile(const Profile &) = delete;

    s2_profile *marks() {
        return phases_ ? &profile_ : nullptr;
    }
    // n_layers: that are told apart in what is trained, 0 for none.
    bool fits(uint32_t n_layers) const {
        return parts_.empty() || parts_.size() == n_layers;
    }

    // Times one epoch in the core; nothing for NULL.
    class Epoch {
      public:
        explicit Epoch(Profile *profile) : profile_(profile) {
            if (profile_) {
                start_ = std::chrono::steady_clock::now();
                first_ = ticks();
            }
        }
        Epoch(const Epoch &) = delete;
        ~Epoch() {
            if (profile_) {
                profile_->ticks_ += ticks() - first_;
                profile_->total_ += std::chrono::steady_clock::now() - start_;
            }
        }

      private:
        Profile *profile_;
        std::chrono::steady_clock::time_point start_;
        uint64_t first_ = 0;
    };

    double total_ns() const {
        return std::chrono::duration<double, std::nano>(total_).count();
    }
    std::vector<double> phases_ns() const {
        std::vector<double> found;
        for (uint64_t count : profile_.phase) {
            found.push_back(nanoseconds(count));
        }
        return found;
    }
    // (n_layers, 2, 4): forward and backward; FC, LoRA, batch norm, activation.
    std::vector<std::vector<std::vector<double>>> parts_ns() const {
        std::vector<std::vector<std::vector<double>>> found;
        for (const Part &layer : parts_) {
            auto &directions = found.emplace_back();
            for (const auto &direction : layer.of) {
                auto &parts = directions.emplace_back();
                for (uint64_t count : direction) {
                    parts.push_back(nanoseconds(count));
                }
            }
        }
        return found;
    }

  private:
    struct Part {
        uint64_t of[2][S2_N_PARTS] = {};
    };

    static uint64_t ticks() {
#if defined(__x86_64__) && defined(__GNUC__)
        return __rdtsc();
#else
        return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
    }
    double nanoseconds(uint64_t count) const {
        return ticks_ ? total_ns() * static_cast<double>(count) / static_cast<double>(ticks_) : 0.0;
    }

    bool phases_;
    std::vector<Part> parts_;
    s2_profile profile_ = {};
    uint64_t ticks_ = 0;
    std::chrono::steady_clock::duration total_{};
};

inline void bind_profile(nb::module_ &module) {
    nb::class_<Profile>(module, "Profile")
        .def(nb::init<bool, uint32_t>(), "phases"_a = true, "n_layers"_a = 0)
        .def_prop_ro("total_ns", &Profile::total_ns)
        .def_prop_ro("phases_ns", &Profile::phases_ns)
        .def_prop_ro("parts_ns", &Profile::parts_ns);
}
