// coded.hpp - rows of the Skip-Cache as float16, bfloat16, int8 or int4.
#pragma once

#include <variant>

#include "arrays.hpp"
#include "claims.hpp"
#include "skip2_codes.h"

using Bytes = nb::ndarray<uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

inline s2_dtype dtype_of(int dtype) {
    require(dtype >= S2_CODE_FLOAT16 && dtype <= S2_CODE_INT4, "the dtype is unknown");
    return static_cast<s2_dtype>(dtype);
}

inline size_t coded_row_bytes(const RowLayout &layout, int dtype) {
    return s2_coded_row_bytes(dtype_of(dtype), layout.layout.logits_offset,
                              layout.layout.n_outputs);
}

inline size_t code_bytes(int dtype, size_t n_columns) {
    return s2_code_bytes(dtype_of(dtype), n_columns);
}

inline float code_limit(int dtype) {
    return s2_code_limit(dtype_of(dtype));
}

inline void code_scales(int dtype, const Vector &ranges, const OutVector &scales) {
    require(ranges.shape(0) == scales.shape(0), "a column has a range and a scale each");
    const s2_dtype of = dtype_of(dtype);
    for (size_t c = 0; c < ranges.shape(0); c++) {
        scales.data()[c] = s2_code_scale(of, ranges.data()[c]);
    }
}

// Refers to the caller's arrays and keeps them alive: what is written there counts from then on.
class CodedRows {
  public:
    CodedRows(const RowLayout &layout, int dtype, Bytes rows, Vector scale, Vector offset)
        : layout(layout), rows_(rows), scale_(scale), offset_(offset) {
        const uint32_t n_columns = layout.layout.logits_offset;
        require(rows.shape(1) == coded_row_bytes(layout, dtype) && count_of(rows.shape(0)) >= 0,
                "the rows have another size than the layout and the dtype ask for");
        require(scale.shape(0) == n_columns && offset.shape(0) == n_columns,
                "scale and offset have a number for each column before the logits");
        coded = {choose_kernels(), dtype_of(dtype), n_columns,    layout.layout.n_outputs,
                 rows.data(),      scale.data(),    offset.data()};
        require_ok(s2_coded_check(&coded));
    }
    CodedRows(const CodedRows &) = delete;

    size_t n_rows() const {
        return rows_.shape(0);
    }
    void reads(Claim &claim) const {
        claim.reads(rows_.data(), rows_.nbytes(), "these rows are");
        claim.reads(scale_.data(), scale_.nbytes(), "these rows are");
        claim.reads(offset_.data(), offset_.nbytes(), "these rows are");
    }
    void writes(Claim &claim) const {
        claim.writes(rows_.data(), rows_.nbytes(), "these rows are");
    }
    void encode(size_t first, const Matrix &rows) {
        require_part(first, rows.shape(0));
        require_stride(rows.shape(1));
        Claim all;
        writes(all);
        all.reads(rows.data(), rows.nbytes(), "these rows are");
        nb::gil_scoped_release released;
        s2_coded_encode(&coded, first, rows.shape(0), rows.data(), rows.shape(1));
    }
    void decode(size_t first, const Rows &rows) const {
        require_part(first, rows.shape(0));
        decode_into(nullptr, first, rows);
    }
    void gather(const Indices &places, const Rows &rows) const {
        require(places.shape(0) == rows.shape(0), "a place has a row each");
        for (size_t i = 0; i < places.shape(0); i++) {
            require_part(places.data()[i], 1);
        }
        decode_into(places.data(), 0, rows);
    }

    const RowLayout &layout;
    s2_coded coded;

  private:
    void require_part(size_t first, size_t count) const {
        require(first <= n_rows() && count <= n_rows() - first, "there are fewer rows");
    }
    void require_stride(size_t stride) const {
        require(stride == layout.layout.row_stride, "rows are of another width than the layout's");
    }
    void decode_into(const uint32_t *places, size_t first, const Rows &rows) const {
        require_stride(rows.shape(1));
        Claim all;
        reads(all);
        all.writes(rows.data(), rows.nbytes(), "these rows are");
        nb::gil_scoped_release released;
        s2_coded_decode(&coded, places, first, rows.shape(0), rows.data(), rows.shape(1));
    }

    Bytes rows_;
    Vector scale_, offset_;
};

// Rows as floats, or as codes.
using AnyRows = std::variant<Matrix, const CodedRows *>;

inline void bind_coded(nb::module_ &module) {
    module.attr("FLOAT16") = static_cast<int>(S2_CODE_FLOAT16);
    module.attr("BFLOAT16") = static_cast<int>(S2_CODE_BFLOAT16);
    module.attr("INT8") = static_cast<int>(S2_CODE_INT8);
    module.attr("INT4") = static_cast<int>(S2_CODE_INT4);
    module.def("coded_row_bytes", coded_row_bytes, "layout"_a, "dtype"_a);
    module.def("code_bytes", code_bytes, "dtype"_a, "n_columns"_a);
    module.def("code_limit", code_limit, "dtype"_a);
    module.def("code_scales", code_scales, "dtype"_a, "ranges"_a.noconvert(),
               "scales"_a.noconvert());
    nb::class_<CodedRows>(module, "CodedRows")
        .def(nb::init<const RowLayout &, int, Bytes, Vector, Vector>(), "layout"_a, "dtype"_a,
             "rows"_a.noconvert(), "scale"_a.noconvert(), "offset"_a.noconvert(),
             nb::keep_alive<1, 2>())
        .def("encode", &CodedRows::encode, "first"_a, "rows"_a.noconvert())
        .def("decode", &CodedRows::decode, "first"_a, "rows"_a.noconvert())
        .def("gather", &CodedRows::gather, "places"_a.noconvert(), "rows"_a.noconvert());
}
