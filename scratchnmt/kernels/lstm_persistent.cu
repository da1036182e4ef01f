// All steps of an LSTM in one launch each way, Wh in the blocks' own memory: the loop of ops/lstm.py.
//
//     (2)  z[t] += h[t-1] Wh                  the only product inside the loop
//     (3)  h[t], c[t] = lstm_gates(z[t], c[t-1])
//
// z, gates, dz (D, N, 4H), dc (D, B, H); r, which is h or with recurrent dropout h m, c, dh (D, B + N, H), tanh_c
// (D, N, H), rows packed as in ops/packing.py; Wh (D, H, 4H); starts (steps + 1): where each step's rows begin.
//
// A block has the same units in every step, so it reads its columns of Wh (back: its rows) once, into shared memory:
// H * 4 UNITS numbers, 64 KiB of float32 at H 512.  It computes its units for all sentences, one tile after the other.
// What it needs from others is h[t-1] (back: dz[t+1]), so all blocks of a direction wait for each other between two
// steps: the launch is cooperative.  Diamos et al. 2016, Persistent RNNs, keep the weights in registers.
//
// Versions of a layer: docs/kernel-ladder.md.  Not run on a card yet.

#include "device.h"
#include "grid.h"
#include "lstm_tile.h"

template <typename T>
__global__ void __launch_bounds__(THREADS) lstm_persistent_forward(
    Rows<T> z_rows, Rows<const T> Wh, Rows<const T> m_rows, Rows<T> h_rows, Rows<T> r_rows, Rows<T> c_rows,
    Rows<T> tanh_c_rows, Rows<const long long> starts, Rows<unsigned> arrived, int B, int steps, int H, int masked) {
    __shared__ Sums<T> sums;
    T* mine = dynamic_shared<T>();
    const int d = blockIdx.y, j_first = blockIdx.x * UNITS, unit = threadIdx.x % UNITS, j = j_first + unit;
    // four neighbouring k are read at once: gates are turned by k, so that these lie in different banks
    const auto place = [&](int k, int gate, int u) { return (k * 4 + (gate + k) % 4) * UNITS + u; };
    for (int k = threadIdx.x / UNITS; k < H; k += THREADS / UNITS)
        for (int gate = 0; gate < 4; gate++)
            mine[place(k, gate, unit)] = j < H ? Wh.row(d, k)[gate * H + j] : T(0);
    __syncthreads();

    for (int t = 0; t < steps; t++) {
        const long long now = starts.data[t], before = t ? B + starts.data[t - 1] : 0;
        const int N = starts.data[t + 1] - now;
        for (int first = 0; first < N; first += ROWS) {
            // (2) the sums h[t-1] Wh; what is beyond the last row computes it once more
            sum_forward(
                sums, H, [&](int n) { return r_rows.row(d, before + min(first + n, N - 1)); },
                [&](int k, int gate) { return mine[place(k, gate, unit)]; });

            // (2), (3) z[t] with them, then the gates: a thread for each row and unit
            const int n = first + threadIdx.x / UNITS;
            if (threadIdx.x >= ROWS * UNITS || n >= N || j >= H) continue;
            const long long after = B + now + n;
            T* z = z_rows.row(d, now + n) + j;
            T whole[4];
            for (int gate = 0; gate < 4; gate++)
                whole[gate] = z[gate * H] + summed_forward(sums, n - first, gate, unit);
            const T h = unit_forward(whole, c_rows.row(d, before + n)[j], z, H, c_rows.row(d, after) + j,
                                     tanh_c_rows.row(d, now + n) + j);
            h_rows.row(d, after)[j] = h;
            if (masked) r_rows.row(d, after)[j] = h * m_rows.row(d, n)[j];
        }
        if (t + 1 < steps) wait_for_blocks(arrived.data + d, gridDim.x, t + 1);
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS) lstm_persistent_backward(
    Rows<const T> Wh, Rows<const T> m_rows, Rows<T> dh_rows, Rows<T> dc_rows, Rows<const T> gates_rows,
    Rows<const T> c_rows, Rows<const T> tanh_c_rows, Rows<T> dz_rows, Rows<const long long> starts,
    Rows<unsigned> arrived, int B, int steps, int H, int masked) {
    __shared__ Sums<T> sums;
    T* mine = dynamic_shared<T>();
    const int d = blockIdx.y, j_first = blockIdx.x * UNITS, unit = threadIdx.x % UNITS, j = j_first + unit;
    for (int u = 0; u < UNITS; u++)
        for (int k = threadIdx.x; k < 4 * H; k += THREADS)
            mine[u * 4 * H + k] = j_first + u < H ? Wh.row(d, j_first + u)[k] : T(0);
    __syncthreads();

    // the last time round, t = -1, is for the states that the first step starts from
    for (int t = steps - 1; t >= -1; t--) {
        const long long now = t >= 0 ? starts.data[t] : -B, next = starts.data[t + 1];
        const int N = next - now, N_next = t + 1 < steps ? starts.data[t + 2] - next : 0;
        for (int first = 0; first < N; first += ROWS) {
            // in the forward pass this was (2) z[t+1] += h[t] Wh: dh[t] lacks dz[t+1] Wh^T
            if (first < N_next)
                sum_backward<1>(
                    sums, 4 * H,
                    [&](int n, int k, T* dz) { *dz = dz_rows.row(d, next + min(first + n, N_next - 1))[k]; },
                    [&](int u, int, int k) { return mine[u * 4 * H + k]; });

            const int n = first + threadIdx.x / UNITS;
            if (threadIdx.x >= ROWS * UNITS || n >= N || j >= H) continue;
            T* dh = dh_rows.row(d, B + now + n) + j;
            if (n < N_next) *dh += summed_backward(sums, n - first, unit) * (masked ? m_rows.row(d, n)[j] : T(1));
            if (t < 0) continue;
            // in the forward pass this was (3) h[t], c[t] = lstm_gates(z[t], c[t-1])
            const long long before = t ? B + starts.data[t - 1] : 0;
            unit_backward(*dh, dc_rows.row(d, n) + j, gates_rows.row(d, now + n) + j, H,
                          c_rows.row(d, before + n)[j], tanh_c_rows.row(d, now + n)[j], dz_rows.row(d, now + n) + j, H);
        }
        if (t >= 0) wait_for_blocks(arrived.data + d, gridDim.x, steps - t);
    }
}
