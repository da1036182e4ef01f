// All steps of an LSTM in one launch each way, by clusters that never wait for each other: the loop of ops/lstm.py.
//
//     (2)  z[t] += h[t-1] Wh                  the only product inside the loop
//     (3)  h[t], c[t] = lstm_gates(z[t], c[t-1])
//
// z, gates, dz (D, N, 4H), dc (D, B, H); r, which is h or with recurrent dropout h m, c, dh (D, B + N, H), tanh_c
// (D, N, H), rows packed as in ops/packing.py; Wh (D, H, 4H); starts (steps + 1): where each step's rows begin.
//
// A cluster of BLOCKS blocks has ROWS sentences from their first word to their last one, and the whole of Wh in its
// shared memory: each block the four columns of each of its H / BLOCKS units.  A thread has one sentence and one unit,
// and keeps its c (back: dc) in a register.  What blocks need of each other they write into each other's memory, on two
// places in turn, so that one barrier of the cluster is enough for a step: forward the h of each unit, back what each
// block's dz adds to the dh of all units.  Packed sentences are sorted by length: a cluster ends with its longest one.
//
// H 256 takes 176 KiB of float32 a block.  Versions of a layer: docs/kernel-ladder.md.  Not run on a card yet.

#include "device.h"
#include "cluster.h"
#include "lstm_tile.h"

const int BLOCKS = 8;  // the most that all such cards promise; H is at most BLOCKS * WARP

template <typename T>
struct alignas(16) Four {  // of a unit's gates, or of four sentences: read at once
    T of[4];
};

template <typename T>
__global__ void __cluster_dims__(BLOCKS) __launch_bounds__(THREADS) lstm_cluster_forward(
    Rows<T> z_rows, Rows<const T> Wh, Rows<const T> m_rows, Rows<T> h_rows, Rows<T> r_rows, Rows<T> c_rows,
    Rows<T> tanh_c_rows, Rows<const long long> starts, int B, int steps, int H, int masked) {
    const int d = blockIdx.z, first = blockIdx.y * ROWS, units = (H + BLOCKS - 1) / BLOCKS;
    const int warp = threadIdx.x / WARP, unit = threadIdx.x % WARP, n = warp, j = blockIdx.x * units + unit;
    const bool has_unit = unit < units && j < H, has_sentence = first + n < B;
    Four<T>* weights = dynamic_shared<Four<T>>();  // [k][unit], of the four gates
    T* states = &weights[H * units].of[0];  // [t % 2][k][row]: r[t-1] of all units
    Four<T>* sums = reinterpret_cast<Four<T>*>(states + 2 * H * ROWS);  // [warp][row][unit], of the four gates

    if (has_unit)
        for (int k = warp; k < H; k += WARPS)
            for (int gate = 0; gate < 4; gate++) weights[k * units + unit].of[gate] = Wh.row(d, k)[gate * H + j];
    for (int k = unit; k < H; k += WARP) states[k * ROWS + n] = has_sentence ? r_rows.row(d, first + n)[k] : T(0);
    T c = has_unit && has_sentence ? c_rows.row(d, first + n)[j] : T(0);
    wait_for_cluster();

    for (int t = 0; t < steps; t++) {
        const long long row = starts.data[t] + first + n, after = B + row;
        const bool has_row = has_unit && row < starts.data[t + 1];
        if (starts.data[t] + first >= starts.data[t + 1]) break;
        T* z = has_row ? z_rows.row(d, row) + j : nullptr;
        T whole[4] = {};
        if (has_row)  // asked for now, wanted after the sums
            for (int gate = 0; gate < 4; gate++) whole[gate] = z[gate * H];

        // (2) the sums r[t-1] Wh, each warp over every WARPS-th k
        const Four<T>* before = reinterpret_cast<const Four<T>*>(states + t % 2 * H * ROWS);
        T sum[ROWS][4] = {};
        if (has_unit)
            for (int k = warp; k < H; k += WARPS) {
                const Four<T> w = weights[k * units + unit];
#pragma unroll
                for (int half = 0; half < ROWS / 4; half++) {
                    const Four<T> r = before[k * (ROWS / 4) + half];
#pragma unroll
                    for (int q = 0; q < 4; q++)
#pragma unroll
                        for (int gate = 0; gate < 4; gate++) sum[4 * half + q][gate] += r.of[q] * w.of[gate];
                }
            }
#pragma unroll
        for (int q = 0; q < ROWS; q++)
#pragma unroll
            for (int gate = 0; gate < 4; gate++) sums[(warp * ROWS + q) * WARP + unit].of[gate] = sum[q][gate];
        __syncthreads();

        // (2), (3) z[t] with them, then the gates: a thread for each row and unit
        if (has_row) {
            for (int w = 0; w < WARPS; w++)
                for (int gate = 0; gate < 4; gate++) whole[gate] += sums[(w * ROWS + n) * WARP + unit].of[gate];
            const T h = unit_forward(whole, c, z, H, &c, tanh_c_rows.row(d, row) + j);
            const T r = masked ? h * m_rows.row(d, first + n)[j] : h;
            c_rows.row(d, after)[j] = c;
            h_rows.row(d, after)[j] = h;
            if (masked) r_rows.row(d, after)[j] = r;
            T* following = states + ((t + 1) % 2 * H + j) * ROWS + n;
            for (int block = 0; block < BLOCKS; block++) *of_block(following, block) = r;
        }
        wait_for_cluster();
    }
}

template <typename T>
__global__ void __cluster_dims__(BLOCKS) __launch_bounds__(THREADS) lstm_cluster_backward(
    Rows<const T> Wh, Rows<const T> m_rows, Rows<T> dh_rows, Rows<T> dc_rows, Rows<const T> gates_rows,
    Rows<const T> c_rows, Rows<const T> tanh_c_rows, Rows<T> dz_rows, Rows<const long long> starts, int B, int steps,
    int H, int masked) {
    const int d = blockIdx.z, first = blockIdx.y * ROWS, units = (H + BLOCKS - 1) / BLOCKS;
    const int warp = threadIdx.x / WARP, unit = threadIdx.x % WARP, n = warp, j = blockIdx.x * units + unit;
    const int own = min(units, H - int(blockIdx.x) * units);  // not above 0: no unit is left for this block
    const bool has_unit = unit < own, has_sentence = first + n < B;
    Four<T>* weights = dynamic_shared<Four<T>>();  // [unit][k], of the four gates
    Four<T>* dz = weights + units * H;  // [unit][row], of the four gates
    T* inbox = &dz[units * ROWS].of[0];  // [t % 2][block][row][unit]: what comes to dh of this block's units

    for (int k = threadIdx.x; k < H; k += THREADS)
        for (int u = 0; u < own; u++)
            for (int gate = 0; gate < 4; gate++)
                weights[u * H + k].of[gate] = Wh.row(d, k)[gate * H + blockIdx.x * units + u];
    T dc = has_unit && has_sentence ? dc_rows.row(d, first + n)[j] : T(0);
    wait_for_cluster();

    // the last time round, t = -1, is for the states that the first step starts from
    for (int t = steps - 1; t >= -1; t--) {
        const long long now = t >= 0 ? starts.data[t] : -B, next = starts.data[t + 1], row = now + first + n;
        const bool has_row = has_unit && row < next;
        const bool has_next = t + 1 < steps && next + first + n < starts.data[t + 2];
        if (now + first >= next) continue;  // the cluster's sentences end before
        if (has_row) {
            // in the forward pass this was (2) z[t+1] += h[t] Wh: dh[t] lacks dz[t+1] Wh^T
            T* dh = dh_rows.row(d, B + row) + j;
            if (has_next) {
                T sum = T(0);
                for (int block = 0; block < BLOCKS; block++)
                    sum += inbox[(((t + 1) % 2 * BLOCKS + block) * ROWS + n) * WARP + unit];
                *dh += sum * (masked ? m_rows.row(d, first + n)[j] : T(1));
            }
            if (t >= 0) {
                // in the forward pass this was (3) h[t], c[t] = lstm_gates(z[t], c[t-1])
                const long long before = t ? B + starts.data[t - 1] : 0;
                Four<T>& mine = dz[unit * ROWS + n];
                unit_backward(*dh, &dc, gates_rows.row(d, row) + j, H, c_rows.row(d, before + first + n)[j],
                              tanh_c_rows.row(d, row)[j], mine.of, 1);
                for (int gate = 0; gate < 4; gate++) dz_rows.row(d, row)[gate * H + j] = mine.of[gate];
            }
        }
        if (t < 0) break;
        __syncthreads();

        // the sums dz[t] Wh^T over this block's columns: a thread for each unit k of the layer
        for (int k = threadIdx.x; k < H; k += THREADS) {
            T sum[ROWS] = {};
            for (int u = 0; u < own; u++) {
                const Four<T> w = weights[u * H + k];
#pragma unroll
                for (int q = 0; q < ROWS; q++)
#pragma unroll
                    for (int gate = 0; gate < 4; gate++) sum[q] += dz[u * ROWS + q].of[gate] * w.of[gate];
            }
            T* place = of_block(inbox, k / units) + (t % 2 * BLOCKS + blockIdx.x) * ROWS * WARP + k % units;
#pragma unroll
            for (int q = 0; q < ROWS; q++) place[q * WARP] = sum[q];
        }
        wait_for_cluster();
    }
    if (has_unit && has_sentence) dc_rows.row(d, first + n)[j] = dc;
}
