// A step of an LSTM in one launch each way, the product with Wh included: the loop of ops/lstm.py.
//
//     (2)  z[t] += h[t-1] Wh                  the only product inside the loop
//     (3)  h[t], c[t] = lstm_gates(z[t], c[t-1])
//
// z, gates, dz (D, n, 4H); r, which is h or with recurrent dropout h m, c, tanh_c, dh, dc (D, n, H); Wh (D, H, 4H).
//
// What two launches hand over in memory, the product's result, stays in registers here: a block has all four gates of
// its units.  Back, a launch for step t begins with the product of step t + 1, dz[t+1] Wh^T, since only with it is
// dh[t] whole; so there, too, the gates are what the product ends in.  Wh is read again in every step.
//
// Versions of a layer: docs/kernel-ladder.md.  Not run on a card yet.

#include "device.h"
#include "lstm_tile.h"

template <typename T>
__global__ void __launch_bounds__(THREADS) lstm_step_forward(
    Rows<T> z_rows, Rows<const T> r_prev_rows, Rows<const T> Wh, Rows<const T> m_rows, Rows<const T> c_prev_rows,
    Rows<T> h_rows, Rows<T> r_rows, Rows<T> c_rows, Rows<T> tanh_c_rows, int N, int H, int K, int masked) {
    __shared__ Sums<T> sums;
    const int d = blockIdx.z, first = blockIdx.y * ROWS, j_first = blockIdx.x * UNITS;
    // (2) the sums h[t-1] Wh; what is beyond the last row or unit computes the last one once more
    const T* W = Wh.row(d, 0) + min(j_first + int(threadIdx.x % UNITS), H - 1);
    sum_forward(
        sums, K, [&](int n) { return r_prev_rows.row(d, min(first + n, N - 1)); },
        [&](int k, int gate) { return W[k * Wh.step + gate * H]; });

    // (2), (3) z[t] with them, then the gates: a thread for each row and unit
    const int n = first + threadIdx.x / UNITS, unit = threadIdx.x % UNITS, j = j_first + unit;
    if (threadIdx.x >= ROWS * UNITS || n >= N || j >= H) return;
    T* z = z_rows.row(d, n) + j;
    T whole[4];
    for (int gate = 0; gate < 4; gate++) whole[gate] = z[gate * H] + summed_forward(sums, n - first, gate, unit);
    const T h = unit_forward(whole, c_prev_rows.row(d, n)[j], z, H, c_rows.row(d, n) + j, tanh_c_rows.row(d, n) + j);
    h_rows.row(d, n)[j] = h;
    if (masked) r_rows.row(d, n)[j] = h * m_rows.row(d, n)[j];
}

// N rows of step t, of which the first N_next are in step t + 1 as well; `gates_too` is 0 for what stands before the
// first step, the states that it starts from.
template <typename T>
__global__ void __launch_bounds__(THREADS) lstm_step_backward(
    Rows<const T> dz_next_rows, Rows<const T> Wh, Rows<const T> m_rows, Rows<T> dh_rows, Rows<T> dc_rows,
    Rows<const T> gates_rows, Rows<const T> c_prev_rows, Rows<const T> tanh_c_rows, Rows<T> dz_rows, int N_next,
    int N, int H, int masked, int gates_too) {
    __shared__ Sums<T> sums;
    const int d = blockIdx.z, first = blockIdx.y * ROWS, j_first = blockIdx.x * UNITS;
    // in the forward pass this was (2) z[t+1] += h[t] Wh: dh[t] lacks dz[t+1] Wh^T
    if (first < N_next)
        sum_backward<1>(
            sums, 4 * H, [&](int n, int j, T* dz) { *dz = dz_next_rows.row(d, min(first + n, N_next - 1))[j]; },
            [&](int unit, int, int j) { return Wh.row(d, min(j_first + unit, H - 1))[j]; });

    const int n = first + threadIdx.x / UNITS, unit = threadIdx.x % UNITS, j = j_first + unit;
    if (threadIdx.x >= ROWS * UNITS || n >= N || j >= H) return;
    T* dh = dh_rows.row(d, n) + j;
    if (n < N_next) *dh += summed_backward(sums, n - first, unit) * (masked ? m_rows.row(d, n)[j] : T(1));
    if (!gates_too) return;
    // in the forward pass this was (3) h[t], c[t] = lstm_gates(z[t], c[t-1])
    unit_backward(*dh, dc_rows.row(d, n) + j, gates_rows.row(d, n) + j, H,
                  c_prev_rows.row(d, n)[j], tanh_c_rows.row(d, n)[j], dz_rows.row(d, n) + j, H);
}
