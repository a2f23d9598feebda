#include "log.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>

namespace allfocus::trt {

namespace {

// TensorRT owns the finder and may set it while other threads' plugins work.
std::atomic<nvinfer1::ILoggerFinder*> finder{nullptr};

nvinfer1::ILogger* logger() noexcept {
    auto* const found = finder.load();
    if (found == nullptr) return nullptr;
    try {
        return found->findLogger();  // the one call here that is not noexcept
    } catch (...) {
        return nullptr;
    }
}

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* given) noexcept { finder.store(given); }

int fail(const char* plugin, const char* format, ...) noexcept {
    char message[640];
    const int used = std::snprintf(message, sizeof message, "allfocus %s: ", plugin);
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message + used, sizeof message - static_cast<size_t>(used), format, arguments);
    va_end(arguments);
    if (auto* const found = logger())
        found->log(nvinfer1::ILogger::Severity::kERROR, message);
    else
        std::fprintf(stderr, "%s\n", message);
    return 1;
}

}  // namespace allfocus::trt
