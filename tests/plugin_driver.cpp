// TensorRT's side of a plugin library, as far as the tests play it: a C interface for ctypes, see
// plugin_host.py. It needs TensorRT's headers, and neither TensorRT itself nor a GPU.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

using namespace nvinfer1;

namespace {

// A dimension: its value, or a symbol where negative. It is its own implementation.
class Dimension final : public IDimensionExpr, public apiv::VDimensionExpr {
public:
    explicit Dimension(int64_t given) : value(given) { mImpl = this; }
    bool isConstant() const noexcept override { return value >= 0; }
    int64_t getConstantValue() const noexcept override {
        return value >= 0 ? value : std::numeric_limits<int64_t>::min();
    }
    bool isSizeTensor() const noexcept override { return false; }
    const int64_t value;
};

// The plugins only pass dimensions on: a new one would be an error here.
class Builder final : public IExprBuilder, public apiv::VExprBuilder {
public:
    Builder() { mImpl = this; }
    const IDimensionExpr* constant(int64_t) override { return nullptr; }
    const IDimensionExpr* operation(DimensionOperation, const IDimensionExpr&,
                                    const IDimensionExpr&) override {
        return nullptr;
    }
    const IDimensionExpr* declareSizeTensor(int32_t, const IDimensionExpr&,
                                            const IDimensionExpr&) override {
        return nullptr;
    }
};

class Log final : public ILogger {
public:
    void log(Severity severity, const char* message) noexcept override {
        const std::lock_guard<std::mutex> lock(mutex);
        text += std::to_string(int(severity)) + " " + message + "\n";
    }
    std::mutex mutex;
    std::string text;
};

class Finder final : public ILoggerFinder {
public:
    ILogger* findLogger() override { return &log; }
    Log log;
};

Finder finder;
using GetCreators = IPluginCreatorInterface* const* (*)(int32_t&);

template <typename T>
T* capability(void* plugin, PluginCapabilityType type) {
    return static_cast<T*>(static_cast<IPluginV3*>(plugin)->getCapabilityInterface(type));
}
IPluginV3OneCore* core(void* p) {
    return capability<IPluginV3OneCore>(p, PluginCapabilityType::kCORE);
}
IPluginV3OneBuild* build(void* p) {
    return capability<IPluginV3OneBuild>(p, PluginCapabilityType::kBUILD);
}
IPluginV3OneRuntime* runtime(void* p) {
    return capability<IPluginV3OneRuntime>(p, PluginCapabilityType::kRUNTIME);
}

std::vector<DynamicPluginTensorDesc> dynamic(const PluginTensorDesc* tensors, int32_t count) {
    std::vector<DynamicPluginTensorDesc> out;
    for (int32_t i = 0; i < count; ++i)
        out.push_back({tensors[i], tensors[i].dims, tensors[i].dims, tensors[i].dims});
    return out;
}

int32_t copy(const PluginFieldCollection* fields, PluginField* out) {
    for (int32_t i = 0; i < fields->nbFields; ++i) out[i] = fields->fields[i];
    return fields->nbFields;
}

}  // namespace

extern "C" {

int32_t tensor_size() { return sizeof(PluginTensorDesc); }

// What was logged since the last call, a line each: severity and message.
int32_t take_log(char* out, int32_t room) {
    const std::lock_guard<std::mutex> lock(finder.log.mutex);
    const int32_t length = std::snprintf(out, size_t(room), "%s", finder.log.text.c_str());
    finder.log.text.clear();
    return length;
}

void* library_open(const char* path) {
    void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) std::fprintf(stderr, "%s\n", dlerror());
    return library;
}

void library_give_logger(void* library) {
    reinterpret_cast<void (*)(ILoggerFinder*)>(dlsym(library, "setLoggerFinder"))(&finder);
}

int32_t library_creators(void* library, IPluginCreatorV3One** out) {
    int32_t count = 0;
    auto* const* const found = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"))(count);
    for (int32_t i = 0; i < count; ++i) {
        if (std::strcmp(found[i]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE")) return -1;
        out[i] = static_cast<IPluginCreatorV3One*>(found[i]);
    }
    return count;
}

const char* creator_name(void* c) { return static_cast<IPluginCreatorV3One*>(c)->getPluginName(); }
const char* creator_version(void* c) {
    return static_cast<IPluginCreatorV3One*>(c)->getPluginVersion();
}
const char* creator_namespace(void* c) {
    return static_cast<IPluginCreatorV3One*>(c)->getPluginNamespace();
}
int32_t creator_fields(void* c, PluginField* out) {
    return copy(static_cast<IPluginCreatorV3One*>(c)->getFieldNames(), out);
}
void* creator_create(void* c, const PluginField* fields, int32_t count, int32_t phase) {
    const PluginFieldCollection collection{count, fields};
    return static_cast<IPluginCreatorV3One*>(c)->createPlugin("test", &collection,
                                                              TensorRTPhase(phase));
}

const char* plugin_name(void* p) { return core(p)->getPluginName(); }
const char* plugin_version(void* p) { return core(p)->getPluginVersion(); }
const char* plugin_namespace(void* p) { return core(p)->getPluginNamespace(); }
void* plugin_clone(void* p) { return static_cast<IPluginV3*>(p)->clone(); }
void* plugin_attach(void* p) { return runtime(p)->attachToContext(nullptr); }
void plugin_destroy(void* p) { delete static_cast<IPluginV3*>(p); }
int32_t plugin_fields(void* p, PluginField* out) {
    return copy(runtime(p)->getFieldsToSerialize(), out);
}

int32_t plugin_type(void* p, const int32_t* inputs, int32_t count, int32_t* out) {
    std::vector<DataType> types;
    for (int32_t i = 0; i < count; ++i) types.push_back(DataType(inputs[i]));
    DataType type = DataType::kINT8;
    const int32_t code = build(p)->getOutputDataTypes(&type, 1, types.data(), count);
    *out = int32_t(type);
    return code;
}

// Negative dimensions are symbols; a symbol in the output is that of the input it came from.
int32_t plugin_shape(void* p, const Dims* inputs, int32_t count, Dims* out) {
    std::deque<Dimension> dimensions;
    std::vector<DimsExprs> shapes(size_t(count), DimsExprs{});
    for (int32_t i = 0; i < count; ++i) {
        shapes[i].nbDims = inputs[i].nbDims;
        for (int32_t d = 0; d < inputs[i].nbDims; ++d)
            shapes[i].d[d] = &dimensions.emplace_back(inputs[i].d[d]);
    }
    DimsExprs shape{};
    Builder builder;
    const int32_t code =
        build(p)->getOutputShapes(shapes.data(), count, nullptr, 0, &shape, 1, builder);
    out->nbDims = shape.nbDims;
    for (int32_t d = 0; d < shape.nbDims; ++d)
        out->d[d] = static_cast<const Dimension*>(shape.d[d])->value;
    return code;
}

// Inputs, then the output.
int32_t plugin_supports(void* p, int32_t pos, const PluginTensorDesc* tensors, int32_t inputs) {
    return build(p)->supportsFormatCombination(pos, dynamic(tensors, pos + 1).data(), inputs, 1);
}
int32_t plugin_configure(void* p, const PluginTensorDesc* tensors, int32_t inputs) {
    const auto all = dynamic(tensors, inputs + 1);
    return build(p)->configurePlugin(all.data(), inputs, all.data() + inputs, 1);
}
int64_t plugin_workspace(void* p, const PluginTensorDesc* tensors, int32_t inputs) {
    const auto all = dynamic(tensors, inputs + 1);
    return int64_t(build(p)->getWorkspaceSize(all.data(), inputs, all.data() + inputs, 1));
}
int32_t plugin_shape_change(void* p, const PluginTensorDesc* tensors, int32_t inputs) {
    return runtime(p)->onShapeChange(tensors, inputs, tensors + inputs, 1);
}
int32_t plugin_enqueue(void* p, const PluginTensorDesc* tensors, int32_t inputs,
                       const void* const* data, void* output) {
    return runtime(p)->enqueue(tensors, tensors + inputs, data, &output, nullptr, nullptr);
}

}  // extern "C"
