// Shapes and types as TensorRT gives them: compared as far as they are known, and printed.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>

namespace allfocus::trt {

static_assert(NV_TENSORRT_MAJOR >= 10, "IPluginV3 needs the headers of TensorRT 10 or later");

// A dimension that is not known yet: at build time any may be.
constexpr int64_t UNKNOWN = -1;

// Text of a fixed size: an error must not allocate.
struct Text {
    char chars[160];
};

// "[1, 3, ?, 400]".
Text text_of(const nvinfer1::Dims& dims) noexcept;

// "float16 [1, 3, 600, 400] kLINEAR".
Text text_of(const nvinfer1::PluginTensorDesc& tensor) noexcept;

// "float16".
Text text_of(nvinfer1::DataType type) noexcept;

// The dimensions, UNKNOWN where the expression is not a constant.
nvinfer1::Dims constants_of(const nvinfer1::DimsExprs& expressions) noexcept;

nvinfer1::Dims nchw(int64_t n, int64_t channels, int64_t height, int64_t width) noexcept;

// Whether two shapes can be the same: of one rank, and equal where both are known.
bool agree(const nvinfer1::Dims& a, const nvinfer1::Dims& b) noexcept;

bool is_known(const nvinfer1::Dims& dims) noexcept;
bool is_empty(const nvinfer1::Dims& dims) noexcept;

// The kernels' number of a type (ALLFOCUS_F32 ...), or -1 where they have no such type.
int dtype_of(nvinfer1::DataType type) noexcept;

}  // namespace allfocus::trt
