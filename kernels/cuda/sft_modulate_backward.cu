// Spatial feature transform, backward: all gradients in one pass over the tensors, plus a short one
// for sums.
//
// A block takes a tile of rows and columns: what is summed over columns is added up by the threads
// of a warp, row after row; what is summed over rows stays in registers until the tile's end. The
// tile's sums go to the workspace, which sums.cuh adds up: no atomics, so the order never changes.
#include "sft_gradients.cuh"
#include "sums.cuh"

namespace allfocus {
namespace sft {
namespace {

constexpr unsigned TIMES = 8;  // rows of a thread
constexpr unsigned BATCH = 2;  // rows whose loads are under way together

template <typename T>
struct Operands {
    const T *grad_out, *features, *gamma, *gamma_s, *beta;
    Leak leak;
};

template <typename T, int WIDTH, typename FORMS, bool ACTIVE>
struct Terms {
    Piece<Form::FULL, T, WIDTH> grad_out, features;
    Piece<FORMS::gamma, T, WIDTH> gamma;
    Piece<FORMS::gamma_s, T, WIDTH> gamma_s;
    Piece<FORMS::beta, T, WIDTH> beta;

    __device__ __forceinline__ void load(const Operands<T>& from, const View& view,
                                         const Place& place) {
        grad_out.load(from.grad_out, view, place);
        features.load(from.features, view, place);
        gamma.load(from.gamma, view, place);
        gamma_s.load(from.gamma_s, view, place);
        if (ACTIVE) beta.load(from.beta, view, place);
    }
    // The gradient before the activation; all of it where that is NaN.
    __device__ __forceinline__ float shifted(int i, const Leak& leak) const {
        if (!ACTIVE) return grad_out[i];
        const float value = features[i] * gamma[i] * gamma_s[i] + beta[i];
        return value <= 0 ? leak(grad_out[i]) : grad_out[i];
    }
};

// The nearest place inside the view: what lies outside is loaded there, so that no load hangs on an
// if, and then left out.
__device__ __forceinline__ Place clamped(const Place& place, const View& view) {
    return {place.image, min(place.row, view.rows - 1), min(place.column, view.columns - 1)};
}

// ACTIVE: whether there is an activation; without one beta is not read.
template <typename T, int WIDTH, typename FORMS, bool ACTIVE>
__global__ void __launch_bounds__(THREADS, 2)
    modulate_backward(Operands<T> operands, Gradients to, View view, unsigned across,
                      unsigned down) {
    __shared__ float exchange[WIDTH][THREADS / 2];
    const Tile tile(across);
    Place place = first_place<TIMES>(tile, down);
    const unsigned above = threadIdx.y % (WARP / blockDim.x);  // rows above in this warp
    AllGradients<T, WIDTH, FORMS> gradients(to);
    for (unsigned time = 0; time < TIMES && place.row - above < view.rows; time += BATCH) {
        Terms<T, WIDTH, FORMS, ACTIVE> terms[BATCH];
#pragma unroll
        for (unsigned k = 0; k < BATCH; ++k) {
            Place from = place;
            from.row += k * blockDim.y;
            terms[k].load(operands, view, clamped(from, view));
        }
#pragma unroll
        for (unsigned k = 0; k < BATCH; ++k) {
            const bool inside = place.row < view.rows && place.column < view.columns;
            if (inside) gradients.add(terms[k], operands.leak);
            gradients.end_row(view, tile, place, inside);
            place.row += blockDim.y;
        }
    }
    gradients.end_tile(view, tile, place, exchange);
}

// Hands out parts of the workspace, and notes the sums to be finished.
struct Workspace {
    float* next;
    Sums sums;

    // Where the kernel puts the gradient `out` of an operand of that form.
    void* place(Form form, void* out, const View& view, const Tiling& tiling, int width) {
        if (form == Form::FULL || form == Form::ABSENT || !out) return out;
        float* terms = next;
        const int64_t rows = int64_t(view.images) * view.rows;
        const int64_t columns = int64_t(view.columns) * width;
        if (form == Form::BY_ROW) {
            sums.add(terms, out, 1, tiling.across, rows);
            next += padded(tiling.across * rows);
        } else {
            sums.add(terms, out, view.images, tiling.down, columns);
            next += padded(view.images * tiling.down * columns);
        }
        return terms;
    }

    // Every part begins where the widest pack of floats may.
    static int64_t padded(int64_t floats) { return (floats + 7) / 8 * 8; }
};

template <typename T, int WIDTH, typename FORMS>
int run(const Operands<T>& operands, const Gradients& out, void* workspace, View view,
        allfocus_stream stream) {
    view.columns /= WIDTH;
    const Tiling tiling(view, WARP, TIMES);
    if (!tiling.fits()) return cudaErrorInvalidValue;
    Workspace space = {static_cast<float*>(workspace), {}};
    Gradients to = out;
    to.gamma = space.place(FORMS::gamma, out.gamma, view, tiling, WIDTH);
    to.gamma_s = space.place(FORMS::gamma_s, out.gamma_s, view, tiling, WIDTH);
    to.beta = space.place(FORMS::beta, out.beta, view, tiling, WIDTH);
    if (space.sums.count && (!workspace || !aligned(32, workspace))) return cudaErrorInvalidValue;
    constexpr bool SCALAR = WIDTH == 1;  // one kernel less for the rare ones: a slope of 1 is one
    auto* kernel = operands.leak.slope == 1 ? modulate_backward<T, WIDTH, FORMS, SCALAR>
                                            : modulate_backward<T, WIDTH, FORMS, true>;
    const int error = launch(kernel, dim3(unsigned(tiling.count)), tiling.block, stream, operands,
                             to, view, tiling.across, tiling.down);
    return error ? error : launch_sums<T>(space.sums, stream);
}

template <typename FORMS, typename T>
int choose_width(const Operands<T>& o, const Gradients& out, void* workspace, View view,
                 allfocus_stream stream) {
    constexpr int WIDTH = 16 / sizeof(T);
    view = joined<FORMS>(view, WIDTH);
    const bool packs =
        view.columns % WIDTH == 0 && aligned(16, o.grad_out, o.features, out.features) &&
        (FORMS::gamma == Form::BY_ROW || aligned(16, o.gamma)) &&
        (FORMS::gamma != Form::FULL || aligned(16, out.gamma)) &&
        (FORMS::gamma_s == Form::BY_ROW || aligned(16, o.gamma_s)) &&
        (FORMS::beta == Form::BY_ROW || aligned(16, o.beta)) &&
        (FORMS::beta != Form::FULL || aligned(16, out.beta));
    return packs ? run<T, WIDTH, FORMS>(o, out, workspace, view, stream)
                 : run<T, 1, FORMS>(o, out, workspace, view, stream);
}

// Floats of the workspace where every gradient that may be summed is. Packs of one element take the
// most tiles.
int64_t most_floats(int layout, int64_t n, int64_t channels, int64_t pixels) {
    const View view = view_of(layout, n, channels, pixels);
    const Tiling tiling(view, WARP, TIMES);
    if (!tiling.fits()) return 0;  // will be refused
    const int64_t images = view.images;
    const int64_t by_row = Workspace::padded(tiling.across * images * view.rows);
    const int64_t by_column = Workspace::padded(tiling.down * images * view.columns);
    return layout == ALLFOCUS_NHWC ? by_row + 2 * by_column : 2 * by_row + by_column;
}

}  // namespace
}  // namespace sft
}  // namespace allfocus

size_t allfocus_sft_modulate_workspace(int64_t n, int64_t channels, int64_t pixels) {
    using namespace allfocus::sft;
    if (!countable(n) || !countable(channels) || !countable(pixels)) return 0;
    return sizeof(float) * size_t(std::max(most_floats(ALLFOCUS_NCHW, n, channels, pixels),
                                           most_floats(ALLFOCUS_NHWC, n, channels, pixels)));
}

int allfocus_sft_modulate_backward(const void* grad_out, const void* features, const void* gamma,
                                   int gamma_full, const void* gamma_s, const void* beta,
                                   int beta_full, void* grad_features, void* grad_gamma,
                                   void* grad_gamma_s, void* grad_beta, void* workspace,
                                   float slope, int dtype, int layout, int64_t n, int64_t channels,
                                   int64_t pixels, allfocus_stream stream) {
    using namespace allfocus;
    if (!grad_out || !features || !gamma || (!beta && slope != 1) || (grad_gamma_s && !gamma_s) ||
        !sft::countable(n) || !sft::countable(channels) || !sft::countable(pixels) ||
        (layout != ALLFOCUS_NCHW && layout != ALLFOCUS_NHWC))
        return cudaErrorInvalidValue;
    const sft::View view = sft::view_of(layout, n, channels, pixels);
    const sft::Gradients out = {grad_features, grad_gamma, grad_gamma_s, grad_beta};
    return by_dtype(dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        if (!sft::aligned(sizeof(T), grad_out, features, gamma, gamma_s, beta, grad_features,
                          grad_gamma, grad_gamma_s, grad_beta))
            return int(cudaErrorInvalidValue);
        const sft::Operands<T> operands = {
            static_cast<const T*>(grad_out), static_cast<const T*>(features),
            static_cast<const T*>(gamma),    static_cast<const T*>(gamma_s),
            static_cast<const T*>(beta ? beta : features),  // read, and of no consequence
            sft::Leak(slope)};
        return sft::by_forms(layout == ALLFOCUS_NHWC, gamma_full, gamma_s != nullptr, beta_full,
                             [&](auto forms) {
                                 return sft::choose_width<decltype(forms)>(operands, out, workspace,
                                                                           view, stream);
                             });
    });
}
