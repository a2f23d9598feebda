// Where errors go: TensorRT's logger where it gave one, standard error otherwise.
#pragma once

#include <NvInferRuntime.h>

namespace allfocus::trt {

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// Log an error of a plugin, in printf's format. Returns 1, for `return fail(...)` to TensorRT.
__attribute__((format(printf, 2, 3)))
int fail(const char* plugin, const char* format, ...) noexcept;

}  // namespace allfocus::trt
