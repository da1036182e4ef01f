// The step of attention that a decoder repeats, forward and backward: the twin of ops/attention.py.
//
//     (1)  score[s] = h . h_enc[s]                          "dot"       needs M = H
//          score[s] = h . (h_enc[s] W)                      "general"   W (M, H)
//          score[s] = v . tanh([h; h_enc[s]] W)             "concat"    W (H + M, A), v (A,)
//          score[s] = h . places[s]                         "location"  places (L, H), no more tokens than L
//     (2)  weights = softmax(score)                         over the source tokens, padding left out
//     (3)  context = sum_s weights[s] h_enc[s]
//
// query (B, Q, A), keys (B, S, A) made of h_enc once, values (B, S, M) = h_enc, mask (B, S), weights (B, Q, S),
// context (B, Q, M).  Here for "dot" and "general", whose step is the same; "concat" is left to plain arrays.
//
// One block computes one query: a warp for each token where the sum runs along a row, a thread for each column
// where it runs down the tokens, so that neighbours always read neighbouring addresses.  The row of weights
// serves as the block's notebook on the way; nothing behind a sentence's last token is read.  What bounds it is
// memory: keys and values are read once, (A + M) numbers for each token and query; at the sizes of a training step
// that is so little that the latency of the few passes between barriers matters as much.
//
// Versions:  plain arrays           ops/attention.py              11 launches forward, 6 backward
//            ElementwiseKernel      cannot: sums over a row need all of its threads
//            this one                                             1 launch each way
//
// On an H100, forward and backward: at B 4,096, S 25, A 256, M 512 plain arrays 0.52 and 0.44 ms, this one 0.146 and
// 0.167 ms, 77 and 68 % of the rate of copying; in a training step of B 64, S 40, H 256 this one 7.2 and 8.9 us.

#include "device.h"

const int AHEAD = 8;  // loads that a thread has on their way at once: one alone takes longer than all the sums

template <typename T>
__device__ T dot_by_warp(const T* x, const T* y, int size) {
    T sum = T(0);
#pragma unroll AHEAD
    for (int k = threadIdx.x % WARP; k < size; k += WARP) sum += x[k] * y[k];
    return warp_sum(sum);
}

// One more than the last of S places that counts: what is behind it is padding, and need not be read.  Each warp
// finds it for itself, which is sooner than waiting for others.
template <typename Counts>
__device__ int end_of(int S, Counts counts) {
    int end = 0;
    for (int s = threadIdx.x % WARP; s < S; s += WARP)
        if (counts(s)) end = s + 1;
    for (int other = WARP / 2; other > 0; other /= 2) {
        const int theirs = __shfl_xor_sync(0xffffffffu, end, other);
        if (theirs > end) end = theirs;
    }
    return end;
}

template <typename T>
__device__ T sum_of_rows(const T* weights, Rows<const T> rows, int b, int end, int column) {
    T sum = T(0);
    for (int start = 0; start < end; start += AHEAD) {
        T x[AHEAD];
        for (int k = 0; k < AHEAD; k++) x[k] = start + k < end ? rows.row(b, start + k)[column] : T(0);
        for (int k = 0; k < AHEAD; k++) sum += x[k] * (start + k < end ? weights[start + k] : T(0));
    }
    return sum;
}

template <typename T>
__global__ void attention_step_forward(Rows<const T> query, Rows<const T> keys, Rows<const T> values,
                                       Rows<const bool> mask, Rows<T> weights_rows, Rows<T> context,
                                       int Q, int S, int A, int M) {
    const int q = blockIdx.x % Q, b = blockIdx.x / Q, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    const bool* is_token = mask.row(0, b);
    T* weights = weights_rows.row(b, q);
    const int end = end_of(S, [=](int s) { return is_token[s]; });
    // (1) score[s] = query . keys[s], a warp for each token
    for (int s = warp; s < S; s += warps) {
        const T score = is_token[s] ? dot_by_warp(query.row(b, q), keys.row(b, s), A) : T(0);
        if (threadIdx.x % WARP == 0) weights[s] = score;
    }
    __syncthreads();

    // (2) weights = softmax(score), zero at padding, and everywhere if there is nothing else
    Real<T> peak = LOWEST;
    for (int s = threadIdx.x; s < S; s += blockDim.x)
        if (is_token[s]) peak = fmax(peak, real_part(weights[s]));
    peak = block_max(peak);
    T total = T(0);
    for (int s = threadIdx.x; s < S; s += blockDim.x) {
        weights[s] = is_token[s] ? exp(weights[s] - peak) : T(0);
        total += weights[s];
    }
    total = block_sum(total);
    const T scale = real_part(total) > 0 ? T(1) / total : T(0);
    for (int s = threadIdx.x; s < S; s += blockDim.x) weights[s] *= scale;
    __syncthreads();

    // (3) context = sum_s weights[s] values[s], a thread for each column
    for (int j = threadIdx.x; j < M; j += blockDim.x)
        context.row(b, q)[j] = sum_of_rows<T>(weights, values, b, end, j);
}

template <typename T>
__global__ void attention_step_backward(Rows<const T> dcontext, Rows<const T> keys, Rows<const T> values,
                                        Rows<const T> weights_rows, Rows<T> dquery, Rows<T> dscore_rows,
                                        int Q, int S, int A, int M, int add) {
    const int q = blockIdx.x % Q, b = blockIdx.x / Q, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    const T* weights = weights_rows.row(b, q);
    T* dscore = dscore_rows.row(b, q);
    const int end = end_of(S, [=](int s) { return weights[s] != T(0); });
    // in the forward pass this was (3) context = sum_s weights[s] values[s]; dweights, noted in dscore
    for (int s = warp; s < S; s += warps) {
        const T dweight = s < end ? dot_by_warp(dcontext.row(b, q), values.row(b, s), M) : T(0);
        if (threadIdx.x % WARP == 0) dscore[s] = dweight;
    }
    __syncthreads();

    // in the forward pass this was (2) weights = softmax(score)
    T mean = T(0);
    for (int s = threadIdx.x; s < S; s += blockDim.x) mean += dscore[s] * weights[s];
    mean = block_sum(mean);
    for (int s = threadIdx.x; s < S; s += blockDim.x) dscore[s] = weights[s] * (dscore[s] - mean);
    __syncthreads();

    // in the forward pass this was (1) score[s] = query . keys[s]; with `add`, the query has other readers too
    for (int k = threadIdx.x; k < A; k += blockDim.x) {
        T* place = &dquery.row(b, q)[k];
        *place = (add ? *place : T(0)) + sum_of_rows<T>(dscore, keys, b, end, k);
    }
}
