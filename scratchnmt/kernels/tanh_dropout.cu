// tanh and dropout in one, forward and backward: the twin of ops/tanh_dropout.py.
//
//     (1)  o = tanh(p) mask                mask as in dropout: 0 or 1 / (1 - rate); none: 1
//     (2)  slope = (1 - tanh(p)^2) mask    do/dp, all that backward needs
//
// p, mask, o, slope (N, H), any rows of larger arrays.
//
// One thread computes one element; no barriers.  What bounds it is memory: forward reads 8 bytes for each element
// in float32 and writes 8, backward reads 8 and writes 4.  In a decoder's step there are so few elements that
// only the number of launches counts.
//
// Versions:  plain arrays           ops/tanh_dropout.py           5 launches forward, 1 backward
//            ElementwiseKernel      would do as well, but finds strided elements by divisions
//            this one                                             1 launch each way
//
// On an H100, forward and backward with a mask: at N 4,096, H 1,024 plain arrays 0.142 and 0.049 ms, this one 0.043
// and 0.037 ms, mostly the host's launch; in a training step of B 64, H 256 this one, without a mask, 1.3 and 1.5 us.

#include "device.h"

template <typename T>
__global__ void tanh_dropout_forward(Rows<const T> p_rows, Rows<const T> mask_rows, Rows<T> o_rows,
                                     Rows<T> slope_rows, int H, int masked) {
    const int n = blockIdx.x, j = blockIdx.y * blockDim.x + threadIdx.x;
    if (j >= H) return;
    const T y = tanh(p_rows.row(0, n)[j]);  // (1)
    const T mask = masked ? mask_rows.row(0, n)[j] : T(1);
    o_rows.row(0, n)[j] = y * mask;
    slope_rows.row(0, n)[j] = (T(1) - y * y) * mask;  // (2)
}

template <typename T>
__global__ void tanh_dropout_backward(Rows<const T> do_rows, Rows<const T> slope_rows, Rows<T> dp_rows, int H) {
    const int n = blockIdx.x, j = blockIdx.y * blockDim.x + threadIdx.x;
    if (j >= H) return;
    // in the forward pass this was (1) o = tanh(p) mask, whose derivative is (2)
    dp_rows.row(0, n)[j] = do_rows.row(0, n)[j] * slope_rows.row(0, n)[j];
}
