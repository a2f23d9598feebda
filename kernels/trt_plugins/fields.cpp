#include "fields.h"

#include <cstdio>
#include <cstring>

#include "log.h"

namespace allfocus::trt {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

namespace {

constexpr char VERSION_FIELD[] = "version";
constexpr int32_t ABSENT = -1;

const char* name_of(PluginFieldType type) noexcept {
    return type == PluginFieldType::kINT32 ? "int32" : "float32";
}

const Field* find(const char* name, const Field* fields, int count) noexcept {
    for (int i = 0; i < count; ++i)
        if (std::strcmp(fields[i].name, name) == 0) return &fields[i];
    return nullptr;
}

bool read(const char* plugin, const PluginField& given, const Field& field) noexcept {
    if (given.type != field.type || given.length != 1 || given.data == nullptr) {
        fail(plugin, "field %s: expected one %s; came %d of PluginFieldType %d", field.name,
             name_of(field.type), given.length, static_cast<int>(given.type));
        return false;
    }
    static_assert(sizeof(float) == sizeof(int32_t));
    std::memcpy(field.value, given.data, sizeof(int32_t));
    return true;
}

bool is_read_here(const char* plugin, int32_t version) noexcept {
    if (version == FIELDS_VERSION) return true;
    char came[32] = "no version";
    if (version != ABSENT) std::snprintf(came, sizeof came, "version %d", version);
    fail(plugin, "fields of %s; expected version %d: build the engine anew, or load the library "
         "that it was built with", came, FIELDS_VERSION);
    return false;
}

}  // namespace

PluginField version_field() noexcept {
    return {VERSION_FIELD, &FIELDS_VERSION, PluginFieldType::kINT32, 1};
}

bool read_fields(const char* plugin, const nvinfer1::PluginFieldCollection* given,
                 nvinfer1::TensorRTPhase phase, const Field* fields, int count) noexcept {
    const bool stored = phase == nvinfer1::TensorRTPhase::kRUNTIME;
    const int32_t length = given ? given->nbFields : 0;
    int32_t version = stored ? ABSENT : FIELDS_VERSION;
    const Field own = {VERSION_FIELD, PluginFieldType::kINT32, &version};
    for (int32_t i = 0; i < length; ++i) {
        const PluginField& one = given->fields[i];
        const char* const name = one.name ? one.name : "";
        const Field* field = find(name, &own, 1);
        if (field == nullptr) field = find(name, fields, count);
        if (field == nullptr) {
            fail(plugin, "unknown field '%.64s'; expected %s", name,
                 count ? fields[0].name : "none");
            return false;
        }
        if (!read(plugin, one, *field)) return false;
    }
    if (!is_read_here(plugin, version)) return false;
    if (!stored || length == count + 1) return true;
    fail(plugin, "%d fields in an engine; expected %d: it is damaged", length, count + 1);
    return false;
}

}  // namespace allfocus::trt
