// Isotropic per-pixel convolution and its gradients for any number of levels. One thread a pixel,
// everything read through the caches, values of kernels computed where they are needed. The kernels
// for 8 levels are what is fast; these are what makes other numbers of levels right.
#include "isotropic_any.h"

#include "isotropic.cuh"

namespace allfocus {
namespace {

constexpr int BLOCK = 256;

struct Pixel {
    int64_t n, place;  // place: within a plane
    int y, x;
};

__device__ __forceinline__ bool own_pixel(const Any& p, Pixel& pixel) {
    const int64_t index = int64_t(blockIdx.x) * BLOCK + threadIdx.x;
    if (index >= p.pixels()) return false;
    pixel.n = index / p.plane();
    pixel.place = index % p.plane();
    pixel.y = int(pixel.place / p.width);
    pixel.x = int(pixel.place % p.width);
    return true;
}

// Seed `i` of a level at a pixel, scaled for exp2. `seeds` is that of channel 0 at the pixel.
template <typename T>
__device__ __forceinline__ float radial(const T* seeds, int64_t plane, int level, int i) {
    return LOG2_E * fabsf(to_float(seeds[(first_seed(level) + i) * plane]));
}

template <typename T>
__device__ __forceinline__ float highest(const T* seeds, int64_t plane, int level) {
    float most = 0;
    for (int i = 0; i < level; ++i) most = fmaxf(most, radial(seeds, plane, level, i));
    return most;
}

struct Distance {
    bool inside;
    int inner;
    float fraction;
};

__device__ __forceinline__ Distance distance(int level, int y, int x) {
    const int square = y * y + x * x;
    if (square > (level - 1) * (level - 1)) return {false, 0, 0};
    const float root = sqrtf(float(square));
    return {true, int(root), root - int(root)};
}

// exp of a kernel's element at (y, x), less the level's highest.
template <typename T>
__device__ __forceinline__ float raised(const T* seeds, int64_t plane, int level, int y, int x, float most) {
    const Distance at = distance(level, y, x);
    if (!at.inside) return exp2f(-most);
    float value = radial(seeds, plane, level, at.inner);
    if (at.fraction > 0)
        value += at.fraction * (radial(seeds, plane, level, at.inner + 1) - value);
    return exp2f(value - most);
}

template <typename T>
__device__ __forceinline__ float total(const T* seeds, int64_t plane, int level, float most) {
    float sum = 0;
    for (int dx = 0; dx < level; ++dx)
        for (int dy = 0; dy <= dx; ++dy)
            sum += ring_size(dy, dx) * raised(seeds, plane, level, dy, dx, most);
    return sum;
}

// One pixel of a channel; zero outside.
template <typename T>
__device__ __forceinline__ float tap(const T* channel, const Any& p, int y, int x) {
    const bool in = y >= 0 && y < p.height && x >= 0 && x < p.width;
    return in ? to_float(channel[int64_t(y) * p.width + x]) : 0.0f;
}

// Sum of a channel over the ring (dy, dx) around a pixel: each element once.
template <typename T>
__device__ __forceinline__ float ring_sum(const T* channel, const Any& p, const Pixel& at, int dy, int dx) {
    float sum = 0;
    for (int turned = 0; turned < (dy == dx ? 1 : 2); ++turned) {
        const int y = turned ? dx : dy, x = turned ? dy : dx;
        for (int down = 0; down < (y ? 2 : 1); ++down)
            for (int right = 0; right < (x ? 2 : 1); ++right)
                sum += tap(channel, p, at.y + (down ? -y : y), at.x + (right ? -x : x));
    }
    return sum;
}

template <typename T>
__global__ void __launch_bounds__(BLOCK, 2)
    forward(const T* __restrict__ image, const T* __restrict__ seeds,
            const T* __restrict__ weights, T* __restrict__ out, Any p) {
    Pixel at;
    if (!own_pixel(p, at)) return;
    const int64_t plane = p.plane();
    const T* seed = seeds + at.n * p.seeds() * plane + at.place;
    const T* weight = weights + at.n * p.levels * plane + at.place;
    for (int64_t c = 0; c < p.channels; ++c) {
        const int64_t offset = (at.n * p.channels + c) * plane;
        float sum = to_float(weight[0]) * to_float(image[offset + at.place]);
        for (int level = 2; level <= p.levels; ++level) {
            const float most = highest(seed, plane, level);
            float blurred = 0, norm = 0;
            for (int dx = 0; dx < level; ++dx)
                for (int dy = 0; dy <= dx; ++dy) {
                    const float value = raised(seed, plane, level, dy, dx, most);
                    blurred += value * ring_sum(image + offset, p, at, dy, dx);
                    norm += ring_size(dy, dx) * value;
                }
            sum += to_float(weight[(level - 1) * plane]) * (blurred / norm);
        }
        store(&out[offset + at.place], sum);
    }
}

// Of each pixel and level: the highest seed, and weight / total, for the neighbours to use.
template <typename T>
__global__ void __launch_bounds__(BLOCK, 2)
    prepare(const T* __restrict__ seeds, const T* __restrict__ weights, float* __restrict__ shares,
            Any p) {
    Pixel at;
    if (!own_pixel(p, at)) return;
    const int64_t plane = p.plane();
    const T* seed = seeds + at.n * p.seeds() * plane + at.place;
    const T* weight = weights + at.n * p.levels * plane + at.place;
    float* share = shares + at.n * 2 * p.levels * plane + at.place;
    for (int level = 1; level <= p.levels; ++level) {
        const float most = level > 1 ? highest(seed, plane, level) : 0;
        const float norm = level > 1 ? total(seed, plane, level, most) : 1;
        share[(level - 1) * plane] = most;
        share[(p.levels + level - 1) * plane] = to_float(weight[(level - 1) * plane]) / norm;
    }
}

// The mixed kernel of the pixel at `place`, at the element (y, x).
template <typename T>
__device__ __forceinline__ float mixed(const T* seeds, const float* shares, const Any& p, int y, int x) {
    const int64_t plane = p.plane();
    const int reach = max(absolute(y), absolute(x));
    float sum = reach == 0 ? shares[p.levels * plane] : 0;
    for (int level = max(2, reach + 1); level <= p.levels; ++level)
        sum += shares[(p.levels + level - 1) * plane] *
               raised(seeds, plane, level, y, x, shares[(level - 1) * plane]);
    return sum;
}

// A pixel's gradient gathers from all pixels whose kernels reach it: no atomics, a fixed order.
template <typename T>
__global__ void __launch_bounds__(BLOCK, 2)
    image_gradient(const T* __restrict__ grad_out, const T* __restrict__ seeds,
                   const float* __restrict__ shares, T* __restrict__ grad_image, Any p) {
    Pixel at;
    if (!own_pixel(p, at)) return;
    const int64_t plane = p.plane();
    const int margin = p.levels - 1;
    for (int64_t c = 0; c < p.channels; ++c) {
        const int64_t offset = (at.n * p.channels + c) * plane;
        float sum = 0;
        for (int y = max(0, at.y - margin); y <= min(p.height - 1, at.y + margin); ++y)
            for (int x = max(0, at.x - margin); x <= min(p.width - 1, at.x + margin); ++x) {
                const int64_t place = int64_t(y) * p.width + x;
                const T* seed = seeds + at.n * p.seeds() * plane + place;
                const float* share = shares + at.n * 2 * p.levels * plane + place;
                sum += mixed(seed, share, p, y - at.y, x - at.x) *
                       to_float(grad_out[offset + place]);
            }
        store(&grad_image[offset + at.place], sum);
    }
}

// Sum over channels of grad_out times the image's ring sum.
template <typename T>
__device__ __forceinline__ float pull(const T* grad_out, const T* image, const Any& p, const Pixel& at, int dy,
                      int dx) {
    float sum = 0;
    for (int64_t c = 0; c < p.channels; ++c) {
        const int64_t offset = (at.n * p.channels + c) * p.plane();
        sum += to_float(grad_out[offset + at.place]) * ring_sum(image + offset, p, at, dy, dx);
    }
    return sum;
}

// The softmax's derivative: an element's logit moves the result by
// weight * value / total * (its own pull - the mean pull).
template <typename T>
__global__ void __launch_bounds__(BLOCK, 2)
    parameter_gradients(const T* __restrict__ grad_out, const T* __restrict__ image,
                        const T* __restrict__ seeds, const float* __restrict__ shares,
                        T* __restrict__ grad_seeds, T* __restrict__ grad_weights, Any p) {
    Pixel at;
    if (!own_pixel(p, at)) return;
    const int64_t plane = p.plane();
    const T* seed = seeds + at.n * p.seeds() * plane + at.place;
    const float* share = shares + at.n * 2 * p.levels * plane + at.place;
    T* to_seed = grad_seeds + at.n * p.seeds() * plane + at.place;
    T* to_weight = grad_weights + at.n * p.levels * plane + at.place;
    store(to_weight, pull(grad_out, image, p, at, 0, 0));
    for (int level = 2; level <= p.levels; ++level) {
        const float most = share[(level - 1) * plane];
        const float norm = total(seed, plane, level, most);
        float mean = 0;
        for (int dx = 0; dx < level; ++dx)
            for (int dy = 0; dy <= dx; ++dy)
                mean += raised(seed, plane, level, dy, dx, most) *
                        pull(grad_out, image, p, at, dy, dx);
        mean /= norm;
        store(&to_weight[(level - 1) * plane], mean);
        for (int i = 0; i < level; ++i) {
            float sum = 0;
            for (int dx = 0; dx <= min(i + 1, level - 1); ++dx)
                for (int dy = 0; dy <= dx; ++dy) {
                    const Distance far = distance(level, dy, dx);
                    if (!far.inside || i < far.inner || i > far.inner + (far.fraction > 0))
                        continue;
                    const float part = i == far.inner ? 1 - far.fraction : far.fraction;
                    sum += part * raised(seed, plane, level, dy, dx, most) *
                           (pull(grad_out, image, p, at, dy, dx) - ring_size(dy, dx) * mean);
                }
            const int64_t place = (first_seed(level) + i) * plane;
            const float given = to_float(seed[place]);
            const float sign = given > 0 ? 1.0f : given < 0 ? -1.0f : 0.0f;
            store(&to_seed[place], sign * share[(p.levels + level - 1) * plane] * sum);
        }
    }
}

}  // namespace

template <typename T>
int forward_any(const T* image, const T* seeds, const T* weights, T* out, Any p,
                allfocus_stream stream) {
    const int64_t blocks = (p.pixels() + BLOCK - 1) / BLOCK;
    if (blocks > INT32_MAX) return cudaErrorInvalidValue;
    return launch(forward<T>, unsigned(blocks), BLOCK, stream, image, seeds, weights, out, p);
}

template <typename T>
int backward_any(const T* grad_out, const T* image, const T* seeds, const T* weights,
                 T* grad_image, T* grad_seeds, T* grad_weights, float* shares, Any p,
                 allfocus_stream stream) {
    const int64_t count = (p.pixels() + BLOCK - 1) / BLOCK;
    if (count > INT32_MAX) return cudaErrorInvalidValue;
    const unsigned blocks = unsigned(count);
    int status = launch(prepare<T>, blocks, BLOCK, stream, seeds, weights, shares, p);
    if (grad_image && status == cudaSuccess)
        status = launch(image_gradient<T>, blocks, BLOCK, stream, grad_out, seeds, shares,
                        grad_image, p);
    if (grad_seeds && status == cudaSuccess)
        status = launch(parameter_gradients<T>, blocks, BLOCK, stream, grad_out, image, seeds,
                        shares, grad_seeds, grad_weights, p);
    return status;
}

#define INSTANTIATE(T)                                                                     \
    template int forward_any(const T*, const T*, const T*, T*, Any, allfocus_stream);      \
    template int backward_any(const T*, const T*, const T*, const T*, T*, T*, T*, float*,  \
                              Any, allfocus_stream);
INSTANTIATE(float)
INSTANTIATE(__half)
INSTANTIATE(__nv_bfloat16)

}  // namespace allfocus
