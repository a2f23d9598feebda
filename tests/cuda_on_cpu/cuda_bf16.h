// The part of cuda_bf16.h that the kernels use; see cuda_runtime.h beside it.
#pragma once

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
    uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 value) {
    const uint32_t wide = uint32_t(value.bits) << 16;
    float out;
    memcpy(&out, &wide, sizeof out);
    return out;
}

inline __nv_bfloat16 __float2bfloat16_rn(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return {0x7FFF};               // NaN
    bits += 0x7FFF + (bits >> 16 & 1);                                  // to nearest, ties to even
    return {uint16_t(bits >> 16)};
}
