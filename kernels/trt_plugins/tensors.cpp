#include "tensors.h"

#include <algorithm>
#include <cstdio>

#include "allfocus_kernels.h"

namespace allfocus::trt {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::TensorFormat;

namespace {

// printf at the end of what is there; what does not fit is cut.
template <typename... Arguments>
int append(Text& text, int used, const char* format, Arguments... arguments) noexcept {
    const int room = static_cast<int>(sizeof text.chars) - used;
    char* const end = text.chars + used;
    const int wanted = std::snprintf(end, static_cast<size_t>(room), format, arguments...);
    return used + std::clamp(wanted, 0, room - 1);
}

int append(Text& text, int used, const Dims& dims) noexcept {
    used = append(text, used, "[");
    for (int i = 0; i < dims.nbDims; ++i) {
        used = append(text, used, "%s", i ? ", " : "");
        used = dims.d[i] < 0 ? append(text, used, "?")
                             : append(text, used, "%lld", static_cast<long long>(dims.d[i]));
    }
    return append(text, used, "]");
}

int append(Text& text, int used, DataType type) noexcept {
    switch (type) {
        case DataType::kFLOAT: return append(text, used, "float32");
        case DataType::kHALF: return append(text, used, "float16");
        case DataType::kBF16: return append(text, used, "bfloat16");
        default: return append(text, used, "type %d", static_cast<int>(type));
    }
}

int append(Text& text, int used, TensorFormat format) noexcept {
    switch (format) {
        case TensorFormat::kLINEAR: return append(text, used, "kLINEAR");
        case TensorFormat::kHWC: return append(text, used, "kHWC");
        case TensorFormat::kHWC8: return append(text, used, "kHWC8");
        default: return append(text, used, "format %d", static_cast<int>(format));
    }
}

}  // namespace

Text text_of(const Dims& dims) noexcept {
    Text text;
    append(text, 0, dims);
    return text;
}

Text text_of(DataType type) noexcept {
    Text text;
    append(text, 0, type);
    return text;
}

Text text_of(const nvinfer1::PluginTensorDesc& tensor) noexcept {
    Text text;
    int used = append(text, 0, tensor.type);
    used = append(text, used, " ");
    used = append(text, used, tensor.dims);
    used = append(text, used, " ");
    append(text, used, tensor.format);
    return text;
}

Dims constants_of(const nvinfer1::DimsExprs& expressions) noexcept {
    Dims dims{};
    dims.nbDims = std::min(expressions.nbDims, Dims::MAX_DIMS);
    for (int i = 0; i < dims.nbDims; ++i) {
        const auto* expression = expressions.d[i];
        dims.d[i] = expression->isConstant() ? expression->getConstantValue() : UNKNOWN;
    }
    return dims;
}

Dims nchw(int64_t n, int64_t channels, int64_t height, int64_t width) noexcept {
    return Dims{4, {n, channels, height, width}};
}

bool agree(const Dims& a, const Dims& b) noexcept {
    if (a.nbDims != b.nbDims) return false;
    for (int i = 0; i < a.nbDims; ++i)
        if (a.d[i] >= 0 && b.d[i] >= 0 && a.d[i] != b.d[i]) return false;
    return true;
}

bool is_known(const Dims& dims) noexcept {
    const auto known = [](int64_t size) { return size >= 0; };
    return dims.nbDims >= 0 && std::all_of(dims.d, dims.d + dims.nbDims, known);
}

bool is_empty(const Dims& dims) noexcept {
    return std::any_of(dims.d, dims.d + dims.nbDims, [](int64_t d) { return d == 0; });
}

int dtype_of(DataType type) noexcept {
    switch (type) {
        case DataType::kFLOAT: return ALLFOCUS_F32;
        case DataType::kHALF: return ALLFOCUS_F16;
        case DataType::kBF16: return ALLFOCUS_BF16;
        default: return -1;
    }
}

}  // namespace allfocus::trt
