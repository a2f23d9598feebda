// SftModulate(features, gamma[, gamma_s], beta): see README.md for the node.
#pragma once

#include "plugin.h"

namespace allfocus::trt {

class SftModulate final : public Plugin {
public:
    static constexpr char NAME[] = "SftModulate";
    static const nvinfer1::PluginFieldCollection* field_names() noexcept;
    // Null, with the reason logged, for fields it does not know or a slope that is no number.
    static SftModulate* create(const nvinfer1::PluginFieldCollection* fields,
                               nvinfer1::TensorRTPhase phase) noexcept;

    explicit SftModulate(float slope) noexcept;

    const char* getPluginName() const noexcept override { return NAME; }
    nvinfer1::IPluginV3* clone() noexcept override;
    const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

protected:
    bool takes(int32_t inputs) const noexcept override { return inputs == 3 || inputs == 4; }
    const char* signature() const noexcept override { return "features, gamma[, gamma_s], beta"; }
    bool shapes_fit(const nvinfer1::Dims* inputs, int32_t count) const noexcept override;
    bool format_fits(int32_t pos, int32_t inputs, const nvinfer1::PluginTensorDesc& first,
                     const nvinfer1::PluginTensorDesc& tensor) const noexcept override;
    int launch(const nvinfer1::PluginTensorDesc* tensors, int32_t count, const void* const* inputs,
               void* output, cudaStream_t stream) const noexcept override;

private:
    bool expect_factor(const char* tensor, const nvinfer1::Dims& came,
                       const nvinfer1::Dims& features) const noexcept;

    const float slope_;
    const nvinfer1::PluginField stored_[2];  // version, slope; they point into this object
    const nvinfer1::PluginFieldCollection collection_;
};

}  // namespace allfocus::trt
