// The creators of the plugins, and the functions that TensorRT looks up in a plugin library.

#include <iterator>

#include "allfocus_kernels.h"
#include "isotropic_conv.h"
#include "log.h"
#include "sft_modulate.h"

namespace allfocus::trt {

namespace {

template <typename Made>
class Creator final : public nvinfer1::IPluginCreatorV3One {
public:
    nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                      nvinfer1::TensorRTPhase phase) noexcept override {
        return Made::create(fields, phase);
    }
    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override {
        return Made::field_names();
    }
    const char* getPluginName() const noexcept override { return Made::NAME; }
    const char* getPluginVersion() const noexcept override { return VERSION; }
    const char* getPluginNamespace() const noexcept override { return NAMESPACE; }
};

}  // namespace

}  // namespace allfocus::trt

extern "C" {

ALLFOCUS_API nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) noexcept {
    using namespace allfocus::trt;
    static Creator<IsotropicConv> isotropic_conv;
    static Creator<SftModulate> sft_modulate;
    static nvinfer1::IPluginCreatorInterface* const creators[] = {&isotropic_conv, &sft_modulate};
    count = static_cast<int32_t>(std::size(creators));
    return creators;
}

ALLFOCUS_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder) noexcept {
    allfocus::trt::set_logger_finder(finder);
}

// The major version of the TensorRT that this library is for: the logger of others is another.
ALLFOCUS_API int allfocus_plugins_tensorrt(void) noexcept { return NV_TENSORRT_MAJOR; }

}  // extern "C"
