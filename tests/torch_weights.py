"""Weights from scratchnmt's names to the PyTorch model of torch_model.py, gradients back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch_model import TorchNMT

from scratchnmt.arrays import to_device

Index = tuple[int | slice, ...]


def copy_weights(params: Mapping[str, np.ndarray], model: TorchNMT) -> None:
    """Fill the PyTorch model with our weights; its second bias of every cell becomes zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias_hh" in name:
                parameter.zero_()
        for name, index, view in views(model, lambda parameter: parameter):
            view.copy_(torch.from_numpy(np.ascontiguousarray(to_device(params[name], "cpu")[index])))


def gradients(params: Mapping[str, np.ndarray], model: TorchNMT) -> dict[str, np.ndarray]:
    """The .grad of every PyTorch parameter, under our names and in our shapes."""
    grads = {name: np.zeros(array.shape, array.dtype) for name, array in params.items()}
    for name, index, view in views(model, lambda parameter: parameter.grad):
        grads[name][index] = view.cpu().numpy()
    return grads


def views(model: TorchNMT, pick: Callable[[Tensor], Tensor]) -> Iterator[tuple[str, Index, Tensor]]:
    """(our name, index into our array, PyTorch's tensor in our orientation), covering everything.

    `pick` chooses the weight or its gradient.
    """
    yield "embed.src", (), pick(model.model_embeddings["source"].weight)
    yield "embed.tgt", (), pick(model.model_embeddings["target"].weight)
    yield from _encoder(model, pick)
    yield from _decoder(model, pick)
    if model.score == "location":
        yield "attention.places", (), pick(model.att_location.weight)
    if model.attention == "multi-head":
        attend = model.multi_head  # one matrix for all three where they have the same shape
        for n, part in enumerate("qkv"):
            own = pick(getattr(attend, f"{part}_proj_weight") if attend.in_proj_weight is None else
                       attend.in_proj_weight)
            yield f"attention.W{part}", (), (own if attend.in_proj_weight is None else own.chunk(3)[n]).T
    elif model.score == "general":
        yield "attention.W", (), pick(model.att_projection.weight).T
    if model.score == "concat":  # rows for [h; h_enc]
        H = model.decoder.hidden_size
        yield "attention.W", (slice(H),), pick(model.att_query.weight).T
        yield "attention.W", (slice(H, None),), pick(model.att_projection.weight).T
        yield "attention.v", (), pick(model.att_vector.weight)[0]
    if model.attention == "local-p":
        yield "window.W", (), pick(model.window_projection.weight).T
        yield "window.v", (), pick(model.window_vector.weight)[0]
    if model.readout == "output":
        yield "combine.W", (), pick(model.combined_output_projection.weight).T
    if model.target_vocab_projection.weight is not model.model_embeddings["target"].weight:
        yield "vocab.W", (), pick(model.target_vocab_projection.weight).T


def _encoder(model: TorchNMT, pick) -> Iterator[tuple[str, Index, Tensor]]:
    for layer in range(model.layers):
        prefix = "encoder" if layer == 0 else f"encoder.{layer}"
        for direction, suffix in enumerate(["", "_reverse"][: 2 if model.encoder.bidirectional else 1]):
            for ours, theirs in [("Wx", "weight_ih"), ("Wh", "weight_hh"), ("b", "bias_ih")]:
                view = pick(getattr(model.encoder, f"{theirs}_l{layer}{suffix}"))
                yield f"{prefix}.{ours}", (direction,), view.T if view.ndim == 2 else view


def _decoder(model: TorchNMT, pick) -> Iterator[tuple[str, Index, Tensor]]:
    E = model.decoder.input_size - model.fed_size
    w_ih, w_hh = pick(model.decoder.weight_ih).T, pick(model.decoder.weight_hh).T
    H = w_hh.shape[0]
    yield "decoder.Wx", (), w_ih[:E]
    yield "decoder.Wh", (slice(H),), w_hh  # rows for [h; what is fed]
    yield "decoder.Wh", (slice(H, None),), w_ih[E:]
    yield "decoder.b", (), pick(model.decoder.bias_ih)
    yield "init.Wh", (), pick(model.h_projection.weight).T
    yield "init.Wc", (), pick(model.c_projection.weight).T
    for layer, upper in enumerate(model.upper, start=1):
        yield f"decoder.{layer}.Wx", (), pick(upper.cell.weight_ih).T
        yield f"decoder.{layer}.Wh", (), pick(upper.cell.weight_hh).T
        yield f"decoder.{layer}.b", (), pick(upper.cell.bias_ih)
        yield f"init.{layer}.Wh", (), pick(upper.h_projection.weight).T
        yield f"init.{layer}.Wc", (), pick(upper.c_projection.weight).T
