// A decoder's step around its attention, a launch for each product with what is pointwise beside it: the twin of
// ops/decoder_step.py.
//
//     (1)  z' = z + x W                       x = [h_prev; o_prev] with input feeding
//     (2)  h, c = lstm_gates(z', c_prev)
//     (3)  p' = x W, or p + x W               x = [a; h]
//     (4)  o, slope = tanh_dropout(p', mask)
//
// x (N, K), W (K, 4H) or (K, H), z, gates (N, 4H), p, mask, o, slope, h, c (N, H), dc (B, H), any rows of larger arrays.
//
// Forward, a product ends in what is pointwise: (1), (2) are the kernel of lstm_step.cu, (3), (4) the first one here.
// Backward, the pointwise part comes first and the product reads its result.  Each block computes for itself what it
// reads, so that it waits for no other block; the first block of each tile of rows writes it to memory.
//
// Versions of a step: docs/kernel-ladder.md.  Not run on a card yet.

#include "device.h"
#include "lstm_tile.h"

template <typename T>
__global__ void __launch_bounds__(THREADS) decoder_lstm_backward(
    Rows<const T> dh_rows, Rows<const T> dc_rows, Rows<const T> gates_rows, Rows<const T> c_prev_rows,
    Rows<const T> tanh_c_rows, Rows<const T> W, Rows<T> dz_rows, Rows<T> dx_rows, Rows<T> dc_prev_rows, int N, int B,
    int H, int K, int added) {
    __shared__ Sums<T> sums;
    const int first = blockIdx.y * ROWS, k_first = blockIdx.x * UNITS;
    const bool writes = blockIdx.x == 0 && threadIdx.x / WARP % 2 == 0;  // each column of dz is read by two warps
    if (first < N)
        sum_backward<4>(
            sums, H,
            [&](int n, int j, T* dz) {
                // in the forward pass this was (2) h, c = lstm_gates(z', c_prev)
                const int row = min(first + n, N - 1);
                T dc = dc_rows.row(0, row)[j];
                unit_backward(dh_rows.row(0, row)[j], &dc, gates_rows.row(0, row) + j, H, c_prev_rows.row(0, row)[j],
                              tanh_c_rows.row(0, row)[j], dz, 1);
                if (!writes || first + n >= N) return;
                for (int gate = 0; gate < 4; gate++) dz_rows.row(0, row)[gate * H + j] = dz[gate];
                dc_prev_rows.row(0, row)[j] = dc;
            },
            [&](int unit, int gate, int j) { return W.row(0, min(k_first + unit, K - 1))[gate * H + j]; });
    if (blockIdx.x == 0)  // sentences that are longer than N others end before this step
        for (int n = first < N ? N : first; n < min(first + ROWS, B); n++)
            for (int j = threadIdx.x; j < H; j += THREADS) dc_prev_rows.row(0, n)[j] = dc_rows.row(0, n)[j];

    // in the forward pass this was (1) z' = z + x W
    const int n = first + threadIdx.x / UNITS, unit = threadIdx.x % UNITS, k = k_first + unit;
    if (threadIdx.x >= ROWS * UNITS || n >= N || k >= K) return;
    T* dx = dx_rows.row(0, n) + k;
    *dx = (added ? *dx : T(0)) + summed_backward(sums, n - first, unit);
}

template <typename T>
__global__ void __launch_bounds__(THREADS) combine_forward(
    Rows<const T> x_rows, Rows<const T> W, Rows<const T> p_rows, Rows<const T> mask_rows, Rows<T> o_rows,
    Rows<T> slope_rows, int N, int H, int K, int added, int masked) {
    __shared__ Sums<T> sums;
    const int first = blockIdx.y * ROWS, j_first = blockIdx.x * WARP;
    // (3) the sums x W: 32 neighbouring columns in the place of four gates of UNITS
    sum_forward(
        sums, K, [&](int n) { return x_rows.row(0, min(first + n, N - 1)); },
        [&](int k, int group) {
            return W.row(0, k)[min(j_first + group * UNITS + int(threadIdx.x % UNITS), H - 1)];
        });
    const int n = first + threadIdx.x / WARP, column = threadIdx.x % WARP, j = j_first + column;
    if (n >= N || j >= H) return;
    const T sum = summed_forward(sums, n - first, column / UNITS, column % UNITS);
    const T p = added ? p_rows.row(0, n)[j] + sum : sum;

    const T y = tanh(p);  // (4)
    const T mask = masked ? mask_rows.row(0, n)[j] : T(1);
    o_rows.row(0, n)[j] = y * mask;
    slope_rows.row(0, n)[j] = (T(1) - y * y) * mask;
}

template <typename T>
__global__ void __launch_bounds__(THREADS) combine_backward(
    Rows<const T> do_rows, Rows<const T> slope_rows, Rows<const T> W, Rows<T> dp_rows, Rows<T> dx_rows, int N, int H,
    int K, int added) {
    __shared__ Sums<T> sums;
    const int first = blockIdx.y * ROWS, k_first = blockIdx.x * UNITS;
    const bool writes = blockIdx.x == 0 && threadIdx.x / WARP % 2 == 0;  // each column of dp is read by two warps
    sum_backward<1>(
        sums, H,
        [&](int n, int j, T* dp) {
            // in the forward pass this was (4) o = tanh(p') mask
            const int row = min(first + n, N - 1);
            *dp = do_rows.row(0, row)[j] * slope_rows.row(0, row)[j];
            if (writes && first + n < N) dp_rows.row(0, row)[j] = *dp;
        },
        [&](int unit, int, int j) { return W.row(0, min(k_first + unit, K - 1))[j]; });

    // in the forward pass this was (3) p' = x W, or p + x W
    const int n = first + threadIdx.x / UNITS, unit = threadIdx.x % UNITS, k = k_first + unit;
    if (threadIdx.x >= ROWS * UNITS || n >= N || k >= K) return;
    T* dx = dx_rows.row(0, n) + k;
    *dx = (added ? *dx : T(0)) + summed_backward(sums, n - first, unit);
}
