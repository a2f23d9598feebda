// Spatial feature transform, forward: out = act(features * gamma * gamma_s + beta).
//
// Bound by memory: each tensor is read or written once, 16 bytes an access, and gamma * gamma_s is
// never made. A thread asks for what it needs at ROWS rows before it computes the first, so that
// many loads are under way; what belongs to a column is read once for all of them. `out` may be
// `features`: an element is stored by the one thread that needs it, after it was loaded.
#include "sft_view.cuh"

namespace allfocus {
namespace sft {
namespace {

constexpr unsigned ROWS = 4;  // of a thread

template <typename T>
struct Operands {
    const T *features, *gamma, *gamma_s, *beta;
    T* out;
    Leak leak;
};

template <typename T, int WIDTH, typename FORMS>
struct Terms {
    Piece<Form::FULL, T, WIDTH> features;
    Piece<FORMS::gamma, T, WIDTH> gamma;
    Piece<FORMS::gamma_s, T, WIDTH> gamma_s;
    Piece<FORMS::beta, T, WIDTH> beta;

    __device__ __forceinline__ void load(const Operands<T>& from, const View& view,
                                         const Place& place) {
        features.load(from.features, view, place);
        gamma.load(from.gamma, view, place);
        gamma_s.load(from.gamma_s, view, place);
        beta.load(from.beta, view, place);
    }
    __device__ __forceinline__ float result(int i) const {
        return features[i] * gamma[i] * gamma_s[i] + beta[i];
    }
};

template <typename T, int WIDTH, typename FORMS>
__global__ void __launch_bounds__(THREADS)
    modulate(Operands<T> operands, View view, unsigned across, unsigned down) {
    const Place first = first_place<ROWS>(Tile(across), down);
    if (first.column >= view.columns) return;
    Terms<T, WIDTH, FORMS> terms[ROWS];
#pragma unroll
    for (unsigned k = 0; k < ROWS; ++k) {
        Place place = first;  // beyond the last row: that row again, so that no load hangs on an if
        place.row = min(first.row + k * blockDim.y, view.rows - 1);
        terms[k].load(operands, view, place);
    }
#pragma unroll
    for (unsigned k = 0; k < ROWS; ++k) {
        Place place = first;
        place.row += k * blockDim.y;
        if (place.row >= view.rows) return;
        float results[WIDTH];
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const float value = terms[k].result(i);
            results[i] = value < 0 ? operands.leak(value) : value;  // NaN passes
        }
        store_pack(operands.out, offset_of<Form::FULL>(view, place), results);
    }
}

template <typename T, int WIDTH, typename FORMS>
int run(const Operands<T>& operands, View view, allfocus_stream stream) {
    view.columns /= WIDTH;
    const Tiling tiling(view, THREADS, ROWS);
    if (!tiling.fits()) return cudaErrorInvalidValue;
    return launch(modulate<T, WIDTH, FORMS>, dim3(unsigned(tiling.count)), tiling.block, stream,
                  operands, view, tiling.across, tiling.down);
}

template <typename FORMS, typename T>
int choose_width(const Operands<T>& o, View view, allfocus_stream stream) {
    constexpr int WIDTH = 16 / sizeof(T);
    view = joined<FORMS>(view, WIDTH);
    const bool packs =
        view.columns % WIDTH == 0 && aligned(16, o.features, o.out) &&
        (FORMS::gamma == Form::BY_ROW || aligned(16, o.gamma)) &&
        (FORMS::gamma_s == Form::BY_ROW || aligned(16, o.gamma_s)) &&
        (FORMS::beta == Form::BY_ROW || aligned(16, o.beta));
    return packs ? run<T, WIDTH, FORMS>(o, view, stream) : run<T, 1, FORMS>(o, view, stream);
}

}  // namespace
}  // namespace sft
}  // namespace allfocus

int allfocus_sft_modulate(const void* features, const void* gamma, int gamma_full,
                          const void* gamma_s, const void* beta, int beta_full, void* out,
                          float slope, int dtype, int layout, int64_t n, int64_t channels,
                          int64_t pixels, allfocus_stream stream) {
    using namespace allfocus;
    if (!features || !gamma || !beta || !out || !sft::countable(n) || !sft::countable(channels) ||
        !sft::countable(pixels) || (layout != ALLFOCUS_NCHW && layout != ALLFOCUS_NHWC))
        return cudaErrorInvalidValue;
    const sft::View view = sft::view_of(layout, n, channels, pixels);
    return by_dtype(dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        if (!sft::aligned(sizeof(T), features, gamma, gamma_s, beta, out))
            return int(cudaErrorInvalidValue);
        const sft::Operands<T> operands = {
            static_cast<const T*>(features), static_cast<const T*>(gamma),
            static_cast<const T*>(gamma_s),  static_cast<const T*>(beta),
            static_cast<T*>(out),            sft::Leak(slope)};
        return sft::by_forms(layout == ALLFOCUS_NHWC, gamma_full, gamma_s != nullptr, beta_full,
                             [&](auto forms) {
                                 return sft::choose_width<decltype(forms)>(operands, view, stream);
                             });
    });
}
