// The pointwise part of a layer-normalised LSTM step, forward and backward: the twin of ops/layer_norm_gates.py.
//
//     (1)  N(v) = (v - mean v) / sqrt(mean (v - mean v)^2 + EPS)       over the units of one row
//     (2)  u, v = N(x Wx), N(h_prev Wh)
//     (3)  a = b + g_u u + g_v v                  the four pre-activations; b of padding closes its gates
//     (4)  c from a and c_prev, as in lstm_gates
//     (5)  n = N(c),  h = o tanh(g_c n + b_c)
//
// z, out, dz (D, N, 12H), out holding u, v and the gates, often in the memory of z; kept (D, N, 3H + 3); c_prev, c, h
// and their gradients (D, N, H); g (D, N, 9H) and b_c (D, N, H), one row in memory for all that share it.
//
// One block computes one row, since its means need all of it.  A thread has the same units from beginning to end, and
// of each the four columns of u, v and the gates: it reads only what it wrote itself, and there are barriers only in
// the sums.  Those add up a row in a fixed order, so the bits are the same each time.  The gradients of g and of the
// biases are sums over rows, which wait for the end of a loop: no block waits for another.
//
// What bounds it is memory, 30 numbers for each unit either way, 120 bytes in float32, and where a step has few rows,
// the latency of the sums: 6 of a block's threads either way.  What a block reads again, it finds in the cache.
//
// Versions:  plain arrays           ops/layer_norm_gates.py       43 launches forward, 55 backward
//            ElementwiseKernel      cannot: a row's mean needs all of its threads
//            this one                                             1 launch each way; not yet run on a card

#include "device.h"

template <typename T>
struct Norm {
    T mean, scale;
};

// Mean and factor of (1) for a row of `size` columns, the same in all threads of the block.
template <typename T>
__device__ Norm<T> norm_of(const T* v, int size, Real<T> epsilon) {
    T sum = T(0), squares = T(0);
    for (int j = threadIdx.x; j < size; j += blockDim.x) sum += v[j];
    const T mean = block_sum(sum) / T(size);
    for (int j = threadIdx.x; j < size; j += blockDim.x) squares += (v[j] - mean) * (v[j] - mean);
    return {mean, T(1) / sqrt(block_sum(squares) / T(size) + T(epsilon))};
}

// What a norm's gradient dn has of 1 and of n itself: each thread adds its columns, then all know both means.
template <typename T>
struct Shares {
    T of_one = T(0), of_n = T(0);

    __device__ void add(T dn, T n) {
        of_one += dn;
        of_n += dn * n;
    }

    __device__ void average(int size) {
        of_one = block_sum(of_one) / T(size);
        of_n = block_sum(of_n) / T(size);
    }

    // in the forward pass this was (1) n = (v - mean v) scale
    __device__ T dv(T dn, T n, T scale) const { return scale * (dn - of_one - n * of_n); }
};

template <typename T>
__global__ void layer_norm_gates_forward(Rows<const T> z_rows, Rows<const T> c_prev_rows, Rows<const T> g_rows,
                                         Rows<const T> b_c_rows, Rows<T> out_rows, Rows<T> h_rows, Rows<T> c_rows,
                                         Rows<T> kept_rows, Real<T> epsilon, int N, int H) {
    const int n = blockIdx.x % N, d = blockIdx.x / N;
    const T *z = z_rows.row(d, n), *c_prev = c_prev_rows.row(d, n);
    const T *gains = g_rows.row(d, n), *b_c = b_c_rows.row(d, n);
    T *out = out_rows.row(d, n), *c = c_rows.row(d, n), *h = h_rows.row(d, n), *kept = kept_rows.row(d, n);
    // (1), (2) u, v = N(x Wx), N(h_prev Wh): their means and factors, before anything is written where z may lie
    const Norm<T> of_input = norm_of(z, 4 * H, epsilon);
    const Norm<T> of_state = norm_of(z + 4 * H, 4 * H, epsilon);

    for (int j = threadIdx.x; j < H; j += blockDim.x) {
        // (3) a = b + g_u u + g_v v
        T a[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int at_u = k * H + j, at_v = at_u + 4 * H, at_a = at_u + 8 * H;
            const T u = (z[at_u] - of_input.mean) * of_input.scale;
            const T v = (z[at_v] - of_state.mean) * of_state.scale;
            a[k] = z[at_a] + gains[at_u] * u + gains[at_v] * v;
            out[at_u] = u;
            out[at_v] = v;
        }
        // (4) c from a and c_prev
        const T i = sigmoid(a[0]), f = sigmoid(a[1]), g = tanh(a[2]), o = sigmoid(a[3]);
        out[8 * H + j] = i;
        out[9 * H + j] = f;
        out[10 * H + j] = g;
        out[11 * H + j] = o;
        c[j] = f * c_prev[j] + i * g;
        kept[j] = tanh(c[j]);
    }

    // (5) n = N(c),  h = o tanh(g_c n + b_c)
    const Norm<T> of_c = norm_of(c, H, epsilon);
    for (int j = threadIdx.x; j < H; j += blockDim.x) {
        const T normed = (c[j] - of_c.mean) * of_c.scale;
        const T tanh_n = tanh(gains[8 * H + j] * normed + b_c[j]);
        kept[H + j] = normed;
        kept[2 * H + j] = tanh_n;
        h[j] = out[11 * H + j] * tanh_n;
    }
    if (threadIdx.x == 0) {
        kept[3 * H] = of_input.scale;
        kept[3 * H + 1] = of_state.scale;
        kept[3 * H + 2] = of_c.scale;
    }
}

template <typename T>
__global__ void layer_norm_gates_backward(Rows<const T> dh_rows, Rows<const T> dc_rows, Rows<const T> z_rows,
                                          Rows<const T> c_prev_rows, Rows<const T> kept_rows, Rows<const T> g_rows,
                                          Rows<T> dz_rows, Rows<T> dc_prev_rows, int N, int H) {
    const int n = blockIdx.x % N, d = blockIdx.x / N;
    const T *dh = dh_rows.row(d, n), *dc_next = dc_rows.row(d, n), *c_prev = c_prev_rows.row(d, n);
    const T *gains = g_rows.row(d, n), *uv = z_rows.row(d, n), *gates = uv + 8 * H;
    const T *kept = kept_rows.row(d, n), *normed = kept + H, *tanh_n = kept + 2 * H, *scales = kept + 3 * H;
    T *dz = dz_rows.row(d, n), *da = dz + 8 * H, *dc_prev = dc_prev_rows.row(d, n);
    // in the forward pass this was (5) n = N(c),  h = o tanh(g_c n + b_c)
    const auto dn = [=](int j) {
        return gains[8 * H + j] * dh[j] * gates[3 * H + j] * (T(1) - tanh_n[j] * tanh_n[j]);
    };
    Shares<T> of_c, of_input, of_state;
    for (int j = threadIdx.x; j < H; j += blockDim.x) of_c.add(dn(j), normed[j]);
    of_c.average(H);

    for (int j = threadIdx.x; j < H; j += blockDim.x) {
        const T i = gates[j], f = gates[H + j], g = gates[2 * H + j], o = gates[3 * H + j];
        // (5) once more: what came in, and what came through n
        const T dc = dc_next[j] + of_c.dv(dn(j), normed[j], scales[2]);
        da[3 * H + j] = dh[j] * tanh_n[j] * o * (T(1) - o);
        // in the forward pass this was (4) c from a and c_prev
        da[j] = dc * g * i * (T(1) - i);
        da[H + j] = dc * c_prev[j] * f * (T(1) - f);
        da[2 * H + j] = dc * i * (T(1) - g * g);
        dc_prev[j] = dc * f;
        // in the forward pass this was (3) a = b + g_u u + g_v v
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int at_u = k * H + j, at_v = at_u + 4 * H;
            of_input.add(gains[at_u] * da[at_u], uv[at_u]);
            of_state.add(gains[at_v] * da[at_u], uv[at_v]);
        }
    }
    of_input.average(4 * H);
    of_state.average(4 * H);

    // in the forward pass this was (1), (2) u, v = N(x Wx), N(h_prev Wh)
    for (int j = threadIdx.x; j < H; j += blockDim.x) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int at_u = k * H + j, at_v = at_u + 4 * H;
            dz[at_u] = of_input.dv(gains[at_u] * da[at_u], uv[at_u], scales[0]);
            dz[at_v] = of_state.dv(gains[at_v] * da[at_u], uv[at_v], scales[1]);
        }
    }
}
