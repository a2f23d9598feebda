// IsotropicConv(image, seeds, weights): see README.md for the node.
#pragma once

#include "plugin.h"

namespace allfocus::trt {

class IsotropicConv final : public Plugin {
public:
    static constexpr char NAME[] = "IsotropicConv";
    static const nvinfer1::PluginFieldCollection* field_names() noexcept;
    // Null, with the reason logged, for fields it does not know.
    static IsotropicConv* create(const nvinfer1::PluginFieldCollection* fields,
                                 nvinfer1::TensorRTPhase phase) noexcept;

    const char* getPluginName() const noexcept override { return NAME; }
    nvinfer1::IPluginV3* clone() noexcept override;
    const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

protected:
    bool takes(int32_t inputs) const noexcept override { return inputs == 3; }
    const char* signature() const noexcept override { return "image, seeds, weights"; }
    bool shapes_fit(const nvinfer1::Dims* inputs, int32_t count) const noexcept override;
    bool format_fits(int32_t pos, int32_t inputs, const nvinfer1::PluginTensorDesc& first,
                     const nvinfer1::PluginTensorDesc& tensor) const noexcept override;
    int launch(const nvinfer1::PluginTensorDesc* tensors, int32_t count, const void* const* inputs,
               void* output, cudaStream_t stream) const noexcept override;
};

}  // namespace allfocus::trt
