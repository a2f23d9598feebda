#include "sft_modulate.h"

#include <cmath>
#include <new>

#include "allfocus_kernels.h"
#include "fields.h"
#include "log.h"
#include "tensors.h"

namespace allfocus::trt {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

namespace {

constexpr int32_t GAMMA_S = 2;  // where it stands among four inputs

// The kernels' number of the memory layout, or -1. kHWC8 rounds the channels up to a multiple of 8,
// with padding of which nobody knows what is in it: it is taken where there is none.
int layout_of(const PluginTensorDesc& features) noexcept {
    const int64_t channels = features.dims.nbDims == 4 ? features.dims.d[1] : UNKNOWN;
    const bool half = features.type == DataType::kHALF || features.type == DataType::kBF16;
    switch (features.format) {
        case TensorFormat::kLINEAR: return ALLFOCUS_NCHW;
        case TensorFormat::kHWC: return features.type == DataType::kFLOAT ? ALLFOCUS_NHWC : -1;
        case TensorFormat::kHWC8:
            return half && channels > 0 && channels % 8 == 0 ? ALLFOCUS_NHWC : -1;
        default: return -1;
    }
}

// Whether gamma or beta has an element for each of the features', not one for each channel. Where
// the features are of one pixel, both are the same memory.
bool is_full(const PluginTensorDesc& factor, const PluginTensorDesc& features) noexcept {
    return agree(factor.dims, features.dims);
}

}  // namespace

SftModulate::SftModulate(float slope) noexcept
    : slope_(slope),
      stored_{version_field(), PluginField("slope", &slope_, PluginFieldType::kFLOAT32, 1)},
      collection_{2, stored_} {}

const nvinfer1::PluginFieldCollection* SftModulate::field_names() noexcept {
    static const PluginField slope("slope", nullptr, PluginFieldType::kFLOAT32, 1);
    static const nvinfer1::PluginFieldCollection names{1, &slope};
    return &names;
}

SftModulate* SftModulate::create(const nvinfer1::PluginFieldCollection* fields,
                                 nvinfer1::TensorRTPhase phase) noexcept {
    float slope = 1.0F;
    const Field known{"slope", PluginFieldType::kFLOAT32, &slope};
    if (!read_fields(NAME, fields, phase, &known, 1)) return nullptr;
    if (!std::isfinite(slope)) {
        fail(NAME, "slope %g; expected a finite number", static_cast<double>(slope));
        return nullptr;
    }
    return new (std::nothrow) SftModulate(slope);
}

nvinfer1::IPluginV3* SftModulate::clone() noexcept {
    return new (std::nothrow) SftModulate(slope_);
}

const nvinfer1::PluginFieldCollection* SftModulate::getFieldsToSerialize() noexcept {
    return &collection_;
}

bool SftModulate::shapes_fit(const Dims* inputs, int32_t count) const noexcept {
    const Dims& features = inputs[0];
    const Dims map = nchw(features.d[0], 1, features.d[2], features.d[3]);
    return expect_factor("gamma", inputs[1], features) &&
           (count == 3 || expect("gamma_s", inputs[GAMMA_S], map)) &&
           expect_factor("beta", inputs[count - 1], features);
}

bool SftModulate::expect_factor(const char* tensor, const Dims& came,
                                const Dims& features) const noexcept {
    const Dims vector = nchw(features.d[0], features.d[1], 1, 1);
    if (agree(came, vector) || agree(came, features)) return true;
    fail(NAME, "%s: shape %s; expected %s or %s", tensor, text_of(came).chars,
         text_of(vector).chars, text_of(features).chars);
    return false;
}

bool SftModulate::format_fits(int32_t pos, int32_t inputs, const PluginTensorDesc& first,
                              const PluginTensorDesc& tensor) const noexcept {
    if (dtype_of(first.type) < 0 || tensor.type != first.type || layout_of(first) < 0) return false;
    // One channel padded to eight would be eight times the memory to read.
    const bool is_map = inputs == 4 && pos == GAMMA_S;
    return tensor.format == (is_map ? TensorFormat::kLINEAR : first.format);
}

int SftModulate::launch(const PluginTensorDesc* tensors, int32_t count, const void* const* inputs,
                        void* output, cudaStream_t stream) const noexcept {
    const PluginTensorDesc &features = tensors[0], &gamma = tensors[1], &beta = tensors[count - 1];
    const Dims& dims = features.dims;
    return allfocus_sft_modulate(inputs[0], inputs[1], is_full(gamma, features),
                                 count == 4 ? inputs[GAMMA_S] : nullptr, inputs[count - 1],
                                 is_full(beta, features), output, slope_, dtype_of(features.type),
                                 layout_of(features), dims.d[0], dims.d[1], dims.d[2] * dims.d[3],
                                 stream);
}

}  // namespace allfocus::trt
