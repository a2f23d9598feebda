// The named values that a plugin is made of: a node's attributes, or what an engine stored.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>

namespace allfocus::trt {

// Of the fields that an engine stores: raise it when their meaning changes, to refuse older ones.
inline constexpr int32_t FIELDS_VERSION = 1;

struct Field {
    const char* name;
    nvinfer1::PluginFieldType type;  // kINT32 or kFLOAT32
    void* value;                     // one of that type; left as it is where the field is absent
};

// The field that states the version, for getFieldsToSerialize.
nvinfer1::PluginField version_field() noexcept;

// Read what was given into `fields` and a version; false, with the reason logged, where a field is
// unknown, of another type or length, or of another version. An engine always states its version.
bool read_fields(const char* plugin, const nvinfer1::PluginFieldCollection* given,
                 nvinfer1::TensorRTPhase phase, const Field* fields, int count) noexcept;

}  // namespace allfocus::trt
