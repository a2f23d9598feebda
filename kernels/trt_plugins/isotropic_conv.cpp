#include "isotropic_conv.h"

#include <new>

#include "allfocus_kernels.h"
#include "fields.h"
#include "log.h"
#include "tensors.h"

namespace allfocus::trt {

using nvinfer1::Dims;
using nvinfer1::PluginTensorDesc;

namespace {

// 2 + 3 + ... + m seeds for m levels, as far as m is known.
int64_t seed_count(int64_t levels) noexcept {
    return levels < 0 ? UNKNOWN : levels * (levels + 1) / 2 - 1;
}

}  // namespace

const nvinfer1::PluginFieldCollection* IsotropicConv::field_names() noexcept {
    static constexpr nvinfer1::PluginFieldCollection none{};
    return &none;
}

IsotropicConv* IsotropicConv::create(const nvinfer1::PluginFieldCollection* fields,
                                     nvinfer1::TensorRTPhase phase) noexcept {
    if (!read_fields(NAME, fields, phase, nullptr, 0)) return nullptr;
    return new (std::nothrow) IsotropicConv;
}

nvinfer1::IPluginV3* IsotropicConv::clone() noexcept { return new (std::nothrow) IsotropicConv; }

const nvinfer1::PluginFieldCollection* IsotropicConv::getFieldsToSerialize() noexcept {
    static const nvinfer1::PluginField version = version_field();
    static const nvinfer1::PluginFieldCollection stored{1, &version};
    return &stored;
}

bool IsotropicConv::shapes_fit(const Dims* inputs, int32_t) const noexcept {
    const Dims& image = inputs[0];
    const int64_t n = image.d[0], height = image.d[2], width = image.d[3], levels = inputs[2].d[1];
    if (levels == 0 || levels == 1) {
        fail(NAME, "weights: shape %s; expected 2 or more levels", text_of(inputs[2]).chars);
        return false;
    }
    return expect("weights", inputs[2], nchw(n, UNKNOWN, height, width)) &&
           expect("seeds", inputs[1], nchw(n, seed_count(levels), height, width));
}

bool IsotropicConv::format_fits(int32_t, int32_t, const PluginTensorDesc& first,
                                const PluginTensorDesc& tensor) const noexcept {
    return dtype_of(first.type) >= 0 && tensor.type == first.type &&
           tensor.format == nvinfer1::TensorFormat::kLINEAR;
}

int IsotropicConv::launch(const PluginTensorDesc* tensors, int32_t, const void* const* inputs,
                          void* output, cudaStream_t stream) const noexcept {
    const Dims& image = tensors[0].dims;
    return allfocus_isotropic_conv(inputs[0], inputs[1], inputs[2], output,
                                   dtype_of(tensors[0].type), image.d[0], image.d[1], image.d[2],
                                   image.d[3], tensors[2].dims.d[1], stream);
}

}  // namespace allfocus::trt
