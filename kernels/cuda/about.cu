// What this library was built from and for. CMake writes allfocus_build.h; compiled without it, the
// library says that it belongs to no version and holds code for no GPU.
#include "allfocus_kernels.h"

#if __has_include("allfocus_build.h")
#include "allfocus_build.h"
#endif
#ifndef ALLFOCUS_VERSION
#define ALLFOCUS_VERSION "unknown"
#endif
#ifndef ALLFOCUS_ARCHITECTURES
#define ALLFOCUS_ARCHITECTURES ""
#endif

const char* allfocus_version(void) { return ALLFOCUS_VERSION; }
const char* allfocus_architectures(void) { return ALLFOCUS_ARCHITECTURES; }
