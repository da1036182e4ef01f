"""The layer-normalised LSTM against PyTorch's layer_norm and autograd: one sentence, one direction at a time."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity with PyTorch needs torch (pip install '.[peers]')")
from torch.nn.functional import layer_norm  # noqa: E402

from scratchnmt.arrays import array_module  # noqa: E402
from scratchnmt.ops.layer_norm_lstm import layer_norm_lstm_backward, layer_norm_lstm_forward  # noqa: E402
from scratchnmt.ops.packing import pack_whole, place  # noqa: E402
from scratchnmt.selfcheck import CASES, SIZES  # noqa: E402

SEQUENCES = [case for case in CASES if case.forward is layer_norm_lstm_forward]
by_name = pytest.mark.parametrize("case", SEQUENCES, ids=lambda case: case.name)


def cell(x, h, c, Wx, Wh, b, g):
    """Ba, Kiros & Hinton 2016, equations 20 to 22."""
    H = len(h)
    gates = layer_norm(x @ Wx, (4 * H,), g[: 4 * H]) + layer_norm(h @ Wh, (4 * H,), g[4 * H : 8 * H], b[: 4 * H])
    i, f, new, o = gates.split(H)
    c = f.sigmoid() * c + i.sigmoid() * new.tanh()
    return o.sigmoid() * layer_norm(c, (H,), g[8 * H :], b[4 * H :]).tanh(), c


def by_torch(x, lengths, Wx, Wh, b, g, h0=None, c0=None, m=None):
    (T, B, _), (D, H, _) = x.shape, Wh.shape
    zeros = torch.zeros(D, B, H, dtype=x.dtype)
    h0, c0, m = (default if state is None else state for state, default in ((h0, zeros), (c0, zeros), (m, zeros + 1)))
    y, last = [[zeros[0, 0]] * D * B for _ in range(T)], [[], []]
    for d in range(D):
        for s in range(B):
            h, c = h0[d, s], c0[d, s]
            for t in range(lengths[s]) if d == 0 else reversed(range(lengths[s])):
                h, c = cell(x[t, s], h * m[d, s], c, Wx[d], Wh[d], b[d], g[d])
                y[t][s * D + d] = h
            last[0].append(h)
            last[1].append(c)
    return torch.stack([torch.stack(row).reshape(B, D * H) for row in y]), *(
        torch.stack(states).reshape(D, B, H) for states in last)


@by_name
@pytest.mark.parametrize("seed", range(3))
def test_values_and_gradients_are_those_of_torch(case, seed):
    rng = np.random.default_rng(seed)
    args = case.arguments(SIZES, rng)
    results, cache = layer_norm_lstm_forward(**args)
    tensors = {name: torch.tensor(value, requires_grad=name != "m") if isinstance(value, np.ndarray) and
               value.dtype.kind == "f" else value for name, value in args.items()}
    expected = by_torch(**tensors)
    dys = [rng.standard_normal(result.shape) for result in results]
    torch.autograd.backward(expected, [torch.tensor(dy) for dy in dys])
    for found, tensor in zip(results, expected, strict=True):
        np.testing.assert_allclose(found, tensor.detach().numpy(), rtol=1e-10, atol=1e-12)
    grads = layer_norm_lstm_backward(*dys, cache)._asdict()
    for name, tensor in tensors.items():
        if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
            gradient = tensor.grad.numpy()
            np.testing.assert_allclose(grads[f"d{name}"], gradient, rtol=0, atol=1e-10 * np.abs(gradient).max())


@by_name
def test_where_padding_is_computed_too(case, rng):
    args = case.arguments(SIZES, rng)
    whole = {**args, "lengths": place(pack_whole(args["lengths"], SIZES["T"]), array_module(args["x"]))}
    (results, cache), (found, whole_cache) = layer_norm_lstm_forward(**args), layer_norm_lstm_forward(**whole)
    dys = [rng.standard_normal(result.shape) for result in results]
    grads, whole_grads = layer_norm_lstm_backward(*dys, cache), layer_norm_lstm_backward(*dys, whole_cache)
    for expected, value in zip([*results, *grads], [*found, *whole_grads], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-12)


def test_a_row_is_normalized_by_itself(rng):
    args = SEQUENCES[1].arguments(SIZES, rng)
    (y, *_), _ = layer_norm_lstm_forward(**args)
    for s, n in enumerate(args["lengths"]):
        alone = {name: value[:, s : s + 1] if name in ("x", "h0", "c0") else value for name, value in args.items()}
        (own, *_), _ = layer_norm_lstm_forward(**{**alone, "lengths": args["lengths"][s : s + 1]})
        np.testing.assert_allclose(own[:n], y[:n, s : s + 1], rtol=1e-12)


def test_scaled_weights_are_the_same_model(rng):
    """What a norm is for: the size of Wx and Wh does not matter."""
    args = SEQUENCES[1].arguments(SIZES, rng)
    (y, *_), _ = layer_norm_lstm_forward(**args)
    (scaled, *_), _ = layer_norm_lstm_forward(**{**args, "Wx": 7 * args["Wx"], "Wh": args["Wh"] / 3})
    np.testing.assert_allclose(scaled, y, atol=1e-3)


def test_arguments_that_do_not_fit(rng):
    args = SEQUENCES[1].arguments(SIZES, rng)
    for change, message in ((dict(g=np.zeros((2, 40))), r"layer_norm_lstm: g has shape \(2, 40\), expected \(D, 9H\)"),
                            (dict(b=np.zeros((2, 20))), r"layer_norm_lstm: b has shape \(2, 20\), expected \(D, 5H\)")):
        with pytest.raises(ValueError, match=message):
            layer_norm_lstm_forward(**{**args, **change})
