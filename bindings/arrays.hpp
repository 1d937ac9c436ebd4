// arrays.hpp - what the binding shares: array types, checks, room for the core, row layouts.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "skip2.h"

namespace nb = nanobind;
using nb::literals::operator""_a;

using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
// Columns in order: lora_a of a layer, which the core takes transposed.
using ColumnMatrix = nb::ndarray<const float, nb::ndim<2>, nb::f_contig, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using OutVector = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Labels = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Tables = nb::ndarray<uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Flags = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

inline void require(bool holds, const char *what) {
    if (!holds) {
        throw nb::value_error(what);
    }
}

inline void require_ok(s2_status status) {
    if (status != S2_OK) {
        throw std::runtime_error("the core refused its arguments, status " +
                                 std::to_string(status));
    }
}

inline uint32_t count_of(size_t value) {
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

inline const s2_kernels *choose_kernels() {
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
