// What the plugins have in common: one output of the first input's shape and type, and no state but
// their fields and, in the clone that an execution context owns, the number of inputs.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>

namespace allfocus::trt {

constexpr char NAMESPACE[] = "allfocus";
constexpr char VERSION[] = "1";

class Plugin : public nvinfer1::IPluginV3,
               public nvinfer1::IPluginV3OneCore,
               public nvinfer1::IPluginV3OneBuild,
               public nvinfer1::IPluginV3OneRuntime {
public:
    Plugin() = default;
    // Clones are made by clone(): the fields of a copied object would point into the original.
    Plugin(const Plugin&) = delete;
    Plugin& operator=(const Plugin&) = delete;

    nvinfer1::IPluginCapability* getCapabilityInterface(
        nvinfer1::PluginCapabilityType type) noexcept override;

    const char* getPluginVersion() const noexcept override { return VERSION; }
    const char* getPluginNamespace() const noexcept override { return NAMESPACE; }

    int32_t getNbOutputs() const noexcept override { return 1; }
    int32_t getOutputDataTypes(nvinfer1::DataType* outputTypes, int32_t nbOutputs,
                               const nvinfer1::DataType* inputTypes,
                               int32_t nbInputs) const noexcept override;
    int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t nbInputs,
                            const nvinfer1::DimsExprs* shapeInputs, int32_t nbShapeInputs,
                            nvinfer1::DimsExprs* outputs, int32_t nbOutputs,
                            nvinfer1::IExprBuilder& exprBuilder) noexcept override;
    bool supportsFormatCombination(int32_t pos, const nvinfer1::DynamicPluginTensorDesc* inOut,
                                   int32_t nbInputs, int32_t nbOutputs) noexcept override;
    int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, int32_t nbInputs,
                            const nvinfer1::DynamicPluginTensorDesc* out,
                            int32_t nbOutputs) noexcept override;
    // The forward kernels need none.
    size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc*, int32_t,
                            const nvinfer1::DynamicPluginTensorDesc*,
                            int32_t) const noexcept override {
        return 0;
    }
    // Equal shapes and formats take equal time, whatever the fields are.
    const char* getTimingCacheID() noexcept override { return getPluginName(); }

    int32_t onShapeChange(const nvinfer1::PluginTensorDesc* in, int32_t nbInputs,
                          const nvinfer1::PluginTensorDesc* out,
                          int32_t nbOutputs) noexcept override;
    int32_t enqueue(const nvinfer1::PluginTensorDesc* inputDesc,
                    const nvinfer1::PluginTensorDesc* outputDesc, const void* const* inputs,
                    void* const* outputs, void* workspace, cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override {
        return clone();
    }

protected:
    static constexpr int32_t MAX_INPUTS = 4;

    virtual bool takes(int32_t inputs) const noexcept = 0;
    // The inputs by name, for errors: "image, seeds, weights".
    virtual const char* signature() const noexcept = 0;
    // Whether these shapes of rank 4, UNKNOWN in places, can belong together; logs why not.
    virtual bool shapes_fit(const nvinfer1::Dims* inputs, int32_t count) const noexcept = 0;
    // Whether the tensor at `pos` (the inputs, then the output) may be so beside the first input.
    virtual bool format_fits(int32_t pos, int32_t inputs, const nvinfer1::PluginTensorDesc& first,
                             const nvinfer1::PluginTensorDesc& tensor) const noexcept = 0;
    // Enqueue the kernel on tensors that were checked and are not empty; its CUDA error.
    virtual int launch(const nvinfer1::PluginTensorDesc* tensors, int32_t count,
                       const void* const* inputs, void* output,
                       cudaStream_t stream) const noexcept = 0;

    // Whether the shape can be the expected one; logs both where it cannot.
    bool expect(const char* tensor, const nvinfer1::Dims& came,
                const nvinfer1::Dims& expected) const noexcept;

private:
    bool counts_fit(int32_t inputs, int32_t outputs) const noexcept;
    bool inputs_fit(const nvinfer1::Dims* inputs, int32_t count) const noexcept;
    bool run_time_fits(const nvinfer1::PluginTensorDesc* in, int32_t count,
                       const nvinfer1::PluginTensorDesc& out) const noexcept;

    int32_t inputs_ = 0;  // as onShapeChange saw them, which enqueue is not told; 0 before that
};

}  // namespace allfocus::trt
