// Dropout whose masks need no memory: the twin of ops/dropout.py.
//
//     (1)  y = x * mask,     mask = 0 with probability `rate`, else 1 / (1 - rate)
//
// x, y and mask are contiguous, of `size` numbers.
//
// The generator is counter-based, Philox 4x32 with ten rounds (Salmon et al. 2011): four random words are a
// function of a key and a counter, here of (seed, step, which mask of the step, position), so that backward makes
// the mask again instead of reading it, any thread begins anywhere, and CPU and GPU agree on every bit.  Word k of
// a counter decides about the element k warps further on, so that neighbouring threads have neighbouring elements.
// `step` is read from memory, so that a captured graph draws other masks each time it is replayed.
// What bounds it is memory, 8 bytes for each number in float32, with the arithmetic (5 products of 64 bits and as
// much again for each number) not far behind; a mask that is kept would cost 4 bytes more to write and to read.
//
// Versions:  plain arrays           ops/dropout.py                5 launches and an array for the mask
//            ElementwiseKernel      as this one, but a word for each element: four times the arithmetic
//            this one                                             1 launch each way

#include "device.h"

struct Words {
    unsigned v[4];
};

// The high and the low half of a 64-bit product.
__device__ inline void product(unsigned a, unsigned b, unsigned& high, unsigned& low) {
    const unsigned long long ab = (unsigned long long)a * b;
    high = unsigned(ab >> 32);
    low = unsigned(ab);
}

__device__ inline Words philox(Words counter, unsigned key0, unsigned key1) {
    for (int round = 0; round < 10; round++) {
        unsigned high0, low0, high1, low1;
        product(0xD2511F53u, counter.v[0], high0, low0);
        product(0xCD9E8D57u, counter.v[2], high1, low1);
        counter = {{high1 ^ counter.v[1] ^ key0, low1, high0 ^ counter.v[3] ^ key1, low0}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

// This thread's four words, and the position that the first of them decides about; the others are a warp apart.
__device__ inline Words draw(unsigned long long seed, unsigned long long step, unsigned number,
                             long long& position) {
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    position = thread / WARP * (4 * WARP) + thread % WARP;
    const Words counter = {{unsigned(thread), number, unsigned(step), unsigned(step >> 32)}};
    return philox(counter, unsigned(seed), unsigned(seed >> 32));
}

template <typename T>
__global__ void dropout_mask(Rows<T> mask, Rows<const unsigned long long> step, unsigned long long seed,
                             unsigned number, unsigned threshold, Real<T> scale, long long size) {
    long long position;
    const Words words = draw(seed, step.data[0], number, position);
    for (int k = 0; k < 4; k++, position += WARP)
        if (position < size) mask.data[position] = words.v[k] >= threshold ? T(scale) : T(0);
}

template <typename T>
__global__ void dropout_forward(Rows<const T> x, Rows<T> y, Rows<const unsigned long long> step,
                                unsigned long long seed, unsigned number, unsigned threshold, Real<T> scale,
                                long long size) {
    long long position;
    const Words words = draw(seed, step.data[0], number, position);
    // (1) y = x * mask; backward is the same with dy for x
    T kept[4];
    for (int k = 0; k < 4; k++) {  // all readings first, so that they overlap
        const long long p = position + k * WARP;
        kept[k] = p < size && words.v[k] >= threshold ? x.data[p] * scale : T(0);
    }
    for (int k = 0; k < 4; k++)
        if (position + k * WARP < size) y.data[position + k * WARP] = kept[k];
}
