#include "plugin.h"

#include <cuda_runtime_api.h>

#include "log.h"
#include "tensors.h"

namespace allfocus::trt {

using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

namespace {

constexpr int64_t MAX_PIXELS = (int64_t{1} << 31) - 1;  // of a plane: the kernels' limit

}  // namespace

nvinfer1::IPluginCapability* Plugin::getCapabilityInterface(
    nvinfer1::PluginCapabilityType type) noexcept {
    switch (type) {
        case nvinfer1::PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
        case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME:
            return static_cast<IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

int32_t Plugin::getOutputDataTypes(nvinfer1::DataType* outputTypes, int32_t nbOutputs,
                                   const nvinfer1::DataType* inputTypes,
                                   int32_t nbInputs) const noexcept {
    if (!counts_fit(nbInputs, nbOutputs)) return 1;
    for (int32_t i = 0; i < nbInputs; ++i)
        if (dtype_of(inputTypes[i]) < 0 || inputTypes[i] != inputTypes[0])
            return fail(getPluginName(), "input %d is %s, the first %s; expected %s of one type: "
                        "float32, float16 or bfloat16", i, text_of(inputTypes[i]).chars,
                        text_of(inputTypes[0]).chars, signature());
    outputTypes[0] = inputTypes[0];
    return 0;
}

int32_t Plugin::getOutputShapes(const DimsExprs* inputs, int32_t nbInputs, const DimsExprs*,
                                int32_t nbShapeInputs, DimsExprs* outputs, int32_t nbOutputs,
                                nvinfer1::IExprBuilder&) noexcept {
    if (!counts_fit(nbInputs, nbOutputs)) return 1;
    if (nbShapeInputs != 0)
        return fail(getPluginName(), "%d shape inputs; expected none", nbShapeInputs);
    Dims shapes[MAX_INPUTS];
    for (int32_t i = 0; i < nbInputs; ++i) shapes[i] = constants_of(inputs[i]);
    if (!inputs_fit(shapes, nbInputs)) return 1;
    outputs[0] = inputs[0];
    return 0;
}

bool Plugin::supportsFormatCombination(int32_t pos, const DynamicPluginTensorDesc* inOut,
                                       int32_t nbInputs, int32_t nbOutputs) noexcept {
    return takes(nbInputs) && nbOutputs == 1 && pos >= 0 && pos <= nbInputs &&
           format_fits(pos, nbInputs, inOut[0].desc, inOut[pos].desc);
}

int32_t Plugin::configurePlugin(const DynamicPluginTensorDesc* in, int32_t nbInputs,
                                const DynamicPluginTensorDesc*, int32_t nbOutputs) noexcept {
    if (!counts_fit(nbInputs, nbOutputs)) return 1;
    Dims shapes[MAX_INPUTS];
    for (int32_t i = 0; i < nbInputs; ++i) shapes[i] = in[i].desc.dims;
    return inputs_fit(shapes, nbInputs) ? 0 : 1;
}

int32_t Plugin::onShapeChange(const PluginTensorDesc* in, int32_t nbInputs,
                              const PluginTensorDesc* out, int32_t nbOutputs) noexcept {
    inputs_ = 0;  // so that enqueue refuses what is refused here
    if (!counts_fit(nbInputs, nbOutputs) || !run_time_fits(in, nbInputs, out[0])) return 1;
    inputs_ = nbInputs;
    return 0;
}

int32_t Plugin::enqueue(const PluginTensorDesc* inputDesc, const PluginTensorDesc* outputDesc,
                        const void* const* inputs, void* const* outputs, void*,
                        cudaStream_t stream) noexcept {
    if (inputs_ == 0)
        return fail(getPluginName(), "enqueue without shapes: expected onShapeChange to come first "
                    "and to succeed");
    if (is_empty(outputDesc[0].dims)) return 0;
    const int error = launch(inputDesc, inputs_, inputs, outputs[0], stream);
    if (error == cudaSuccess) return 0;
    return fail(getPluginName(), "the kernel was not launched on %s: CUDA error %d, %s",
                text_of(inputDesc[0]).chars, error,
                cudaGetErrorString(static_cast<cudaError_t>(error)));
}

bool Plugin::expect(const char* tensor, const Dims& came, const Dims& expected) const noexcept {
    if (agree(came, expected)) return true;
    fail(getPluginName(), "%s: shape %s; expected %s", tensor, text_of(came).chars,
         text_of(expected).chars);
    return false;
}

bool Plugin::counts_fit(int32_t inputs, int32_t outputs) const noexcept {
    if (takes(inputs) && outputs == 1) return true;
    fail(getPluginName(), "%d inputs and %d outputs; expected the inputs %s and one output",
         inputs, outputs, signature());
    return false;
}

bool Plugin::inputs_fit(const Dims* inputs, int32_t count) const noexcept {
    for (int32_t i = 0; i < count; ++i) {
        if (inputs[i].nbDims == 4) continue;
        fail(getPluginName(), "input %d: shape %s; expected %s of 4 dimensions, NCHW", i,
             text_of(inputs[i]).chars, signature());
        return false;
    }
    return shapes_fit(inputs, count);
}

bool Plugin::run_time_fits(const PluginTensorDesc* in, int32_t count,
                           const PluginTensorDesc& out) const noexcept {
    Dims shapes[MAX_INPUTS];
    for (int32_t pos = 0; pos <= count; ++pos) {
        const PluginTensorDesc& tensor = pos < count ? in[pos] : out;
        if (pos < count) shapes[pos] = tensor.dims;
        if (is_known(tensor.dims) && format_fits(pos, count, in[0], tensor)) continue;
        fail(getPluginName(), "%s %d: %s beside %s; expected a known shape, and the types and "
             "formats that supportsFormatCombination accepts", pos < count ? "input" : "output",
             pos < count ? pos : 0, text_of(tensor).chars, text_of(in[0]).chars);
        return false;
    }
    if (!inputs_fit(shapes, count) || !expect("output", out.dims, in[0].dims)) return false;
    if (shapes[0].d[2] * shapes[0].d[3] <= MAX_PIXELS) return true;
    fail(getPluginName(), "shape %s; expected a plane of at most %lld pixels",
         text_of(shapes[0]).chars, static_cast<long long>(MAX_PIXELS));
    return false;
}

}  // namespace allfocus::trt
