/* C interface of the kernel library: raw device pointers and a stream, no PyTorch, no TensorRT.
 *
 * Every launcher enqueues on `stream`, allocates nothing, waits for nothing, and returns a
 * cudaError_t as int (0: launched). Tensors are dense NCHW unless a layout is given, and of `dtype`;
 * sums are float32. Sizes were checked by the caller: n, channels, height, width >= 1, levels
 * >= 2, fewer than 2^31 pixels in a plane; offsets are 64 bits wide.
 */
#ifndef ALLFOCUS_KERNELS_H
#define ALLFOCUS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define ALLFOCUS_API __declspec(dllexport)
#else
#define ALLFOCUS_API __attribute__((visibility("default")))
#endif

struct CUstream_st;
typedef struct CUstream_st* allfocus_stream; /* a cudaStream_t */

enum { ALLFOCUS_F32 = 0, ALLFOCUS_F16 = 1, ALLFOCUS_BF16 = 2 };        /* dtype */
enum { ALLFOCUS_NCHW = 0, ALLFOCUS_NHWC = 1 };                        /* layout */

/* "0.1.0": the project's version; a library of another one is refused. */
ALLFOCUS_API const char* allfocus_version(void);
/* Such as "75,80,86,90": compute capabilities with machine code, times ten. */
ALLFOCUS_API const char* allfocus_architectures(void);

/* Per-pixel isotropic convolution (JDRL, eq. 7-9). image, out [n, channels, height, width];
 * seeds [n, 2+...+levels, height, width]; weights [n, levels, height, width]. */
ALLFOCUS_API int allfocus_isotropic_conv(const void* image, const void* seeds, const void* weights,
                                         void* out, int dtype, int64_t n, int64_t channels,
                                         int64_t height, int64_t width, int64_t levels,
                                         allfocus_stream stream);

/* Bytes of device memory that the backward pass below needs as `workspace`. */
ALLFOCUS_API size_t allfocus_isotropic_conv_workspace(int64_t n, int64_t height, int64_t width,
                                                      int64_t levels);

/* Gradients of it, given that of out. A null pointer leaves a gradient out; grad_seeds and
 * grad_weights come together or not at all. */
ALLFOCUS_API int allfocus_isotropic_conv_backward(
    const void* grad_out, const void* image, const void* seeds, const void* weights,
    void* grad_image, void* grad_seeds, void* grad_weights, void* workspace, int dtype, int64_t n,
    int64_t channels, int64_t height, int64_t width, int64_t levels, allfocus_stream stream);

/* Spatial feature transform: out = act(features * gamma * gamma_s + beta); act multiplies what is
 * negative by `slope` (1: none, 0: ReLU). features, out [n, channels, pixels] in `layout`.
 * gamma, beta: [n, channels], or of features' shape and layout where gamma_full, beta_full.
 * gamma_s: [n, pixels], or null. out may be features. n, channels, pixels < 2^31. */
ALLFOCUS_API int allfocus_sft_modulate(const void* features, const void* gamma, int gamma_full,
                                       const void* gamma_s, const void* beta, int beta_full,
                                       void* out, float slope, int dtype, int layout, int64_t n,
                                       int64_t channels, int64_t pixels, allfocus_stream stream);

/* Bytes of device memory that the backward pass below needs as `workspace`. */
ALLFOCUS_API size_t allfocus_sft_modulate_workspace(int64_t n, int64_t channels, int64_t pixels);

/* Gradients of it, each of its tensor's shape; a null pointer leaves one out. The sign of the
 * pre-activation is computed anew from the inputs (with slope 1 it is not needed, and beta may be
 * null); where that is NaN, the gradient passes whole. workspace is aligned to 32 bytes. Sums over pixels (for [n, channels] tensors) and
 * over channels (for gamma_s) are made in a fixed order: equal inputs, equally aligned, give equal bits. */
ALLFOCUS_API int allfocus_sft_modulate_backward(
    const void* grad_out, const void* features, const void* gamma, int gamma_full,
    const void* gamma_s, const void* beta, int beta_full, void* grad_features, void* grad_gamma,
    void* grad_gamma_s, void* grad_beta, void* workspace, float slope, int dtype, int layout,
    int64_t n, int64_t channels, int64_t pixels, allfocus_stream stream);

#ifdef __cplusplus
}
#endif

#endif
