"""Every operation with example arguments, and the whole model, to be checked against numerical gradients.

Two lists, CASES and MODELS, walked by the command `scratchnmt gradcheck` and by the tests, so that an
operation or a configuration is checked by being listed.  An op is checked element by element; its
`arguments(sizes, rng)` makes arguments for any sizes of its letters.  A model is checked tensor by tensor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, array_module, to_device
from .data.vocab import BOS, EOS
from .errors import InputError
from .gradcheck import Report, check_directional, check_gradients, gate_labels
from .gradcheck.report import layout
from .models.nmt import NMT
from .ops import (activations, attention, cross_entropy, dropout, embedding, linear, linear_cross_entropy,
                  lstm, lstm_cell, lstm_gates, softmax)
from .ops.cross_entropy import PAD

Sizes = dict[str, int]
SIZES: Sizes = dict(T=4, S=5, B=3, Q=2, N=6, I=4, O=3, E=4, H=5, M=6, A=4, V=7)


class Case(NamedTuple):
    """An op in one configuration."""

    name: str  # "lstm, two directions": the op, a comma, the configuration
    forward: Callable
    backward: Callable
    letters: str  # the sizes that `arguments` asks for
    arguments: Callable[[Sizes, np.random.Generator], dict[str, Any]]
    wrt: tuple[str, ...] | None = None  # None: every array of floats

    def check(self, args: dict[str, Any], **options: Any) -> Report:
        """`check_gradients` on these arguments, the columns of LSTM weights labelled by gate."""
        gated = {n: gate_labels(args[n].shape[-1] // 4) for n in ("z", "Wx", "Wh", "b")
                 if self.name.startswith("lstm") and n in args}
        return check_gradients(self.forward, self.backward, args, wrt=self.wrt, labels=gated, **options)

    def report(self, device: str = "cpu", dtype: str = "float64", seed: int = 0) -> Report:
        """The check at the sizes of SIZES; float arrays in `dtype`, all arrays on `device`."""
        args = self.arguments(SIZES, np.random.default_rng(seed))
        for name, value in args.items():
            if isinstance(value, np.ndarray):
                value = value.astype(dtype) if value.dtype.kind == "f" else value
                args[name] = value if name == "lengths" else to_device(value, device)
        return self.check(args, seed=seed)


class ModelCase(NamedTuple):
    """The whole model in one configuration."""

    name: str  # "nmt, score dot"
    choices: dict[str, Any]  # further fields of NMTConfig

    def model(self, device: str = "cpu", seed: int = 0) -> NMT:
        """A small float64 model, its weights larger than a training starts from: no gradient is negligible."""
        vocab, H = SIZES["V"], 4  # score "dot" wants an even number of units
        model = NMT(vocab + 4, vocab + 5, H if self.choices.get("tie_embeddings") else 5, H, dtype="float64",
                    device=device, seed=seed, **self.choices)
        normal = 0.5 * np.random.default_rng(seed).standard_normal(model.params.flat.size)
        model.params.flat[...] = to_device(normal, device)
        return model

    def check(self, src: Array, src_lengths: Array, tgt: Array, device: str = "cpu", seed: int = 0) -> Report:
        """`check_model` with weights and, where the configuration has it, dropout drawn from the seed."""
        src, tgt = to_device(src, device), to_device(tgt, device)
        return check_model(self.model(device, seed), src, src_lengths, tgt, dropout_seed=seed, seed=seed)

    def report(self, device: str = "cpu", dtype: str = "float64", seed: int = 0) -> Report:
        """The check on one random batch, in float64 whatever the dtype."""
        batch = example_batch(np.array([3, 5, 1, 4]), np.array([4, 2, 5, 1]), seed)
        return self.check(*batch, device=device, seed=seed)


def check_model(model: NMT, src: Array, src_lengths: Array, tgt: Array, *, dropout_seed: int | None = None,
                **options: Any) -> Report:
    """`check_directional` of any model's loss on one batch, at its own weights, in float64.

    dropout_seed draws the same dropout masks for every evaluation; None: no dropout.
    """
    def run(params):
        rng = None if dropout_seed is None else array_module(src).random.default_rng(dropout_seed)
        other = model.with_params(params)
        return other, *other.forward(src, src_lengths, tgt, rng=rng)

    def grads(params):
        other, _, cache = run(params)
        return other.backward(cache)

    return check_directional(lambda params: run(params)[1], grads, model.params, **options)


def example_batch(src_lengths: Array, tgt_lengths: Array, seed: int = 0) -> tuple[Array, Array, Array]:
    """src (S, B), src_lengths (B,), tgt (T+1, B): random words, padded with 0; target lengths count </s>."""
    rng = np.random.default_rng(seed)
    S, T, B, V = max(src_lengths), max(tgt_lengths), len(src_lengths), SIZES["V"]
    src = np.where(np.arange(S)[:, None] < src_lengths, rng.integers(3, V + 4, (S, B)), PAD)
    words = np.where(np.arange(T)[:, None] < tgt_lengths - 1, rng.integers(3, V + 5, (T, B)), PAD)
    words[tgt_lengths - 1, np.arange(B)] = EOS
    return src, src_lengths, np.concatenate([np.full((1, B), BOS), words])


class Row(NamedTuple):
    """One line of the table that the command prints."""

    name: str
    gradients: int
    elements: int
    error: float
    tolerance: float
    ok: bool
    seconds: float
    report: Report


def rows(names: Sequence[str] = (), *, device: str = "cpu", dtype: str = "float64",
         seed: int = 0) -> Iterator[Row]:
    """Check the ops and models that `names` choose (all, if none is given), one after another.

    A name is an op's ("lstm": all of its configurations) or a whole line's ("lstm, two directions").
    InputError if one matches nothing.
    """
    every = (*CASES, *MODELS)
    ops = list(dict.fromkeys(_op(case) for case in every))
    for name in names:
        if not any(name in (_op(case), case.name) for case in every):
            raise InputError(f"gradcheck: {name!r} is not an operation, expected one of {', '.join(ops)}")
    for case in every:
        if names and not {_op(case), case.name} & set(names):
            continue
        start = time.perf_counter()
        report = case.report(device, dtype, seed)
        yield Row(case.name, len(report.tensors), report.elements, report.max_error, report.rtol, report.ok,
                  time.perf_counter() - start, report)


def _op(case: Case | ModelCase) -> str:
    return case.name.partition(",")[0]


def table(checked: Sequence[Row]) -> str:
    """The rows as text, with a line that sums them up."""
    cells = [(r.name, str(r.gradients), f"{r.elements:,}", f"{r.error:.1e}", f"{r.tolerance:.1e}",
              "ok" if r.ok else "WRONG", f"{r.seconds:.2f}") for r in checked]
    lines = layout(
        ("op", "gradients", "elements", "largest error", "tolerance", "", "seconds"), cells, left=(0, 5)
    )
    wrong = sum(not r.ok for r in checked)
    return "\n".join([*lines, "", f"  {len(checked) - wrong} of {len(checked)} right, "
                                  f"{sum(r.seconds for r in checked):.1f} seconds"])


def _normal(*names_and_shapes: str, **fixed: Any) -> Callable[[Sizes, np.random.Generator], dict[str, Any]]:
    """Arguments from texts like "x B I" and "Wh H 4H": normal values in an array of that shape."""
    def arguments(sizes: Sizes, rng: np.random.Generator) -> dict[str, Any]:
        drawn = {}
        for text in names_and_shapes:
            name, *terms = text.split()
            drawn[name] = rng.standard_normal([_size(term, sizes) for term in terms])
        return {**drawn, **{k: v(sizes, rng) if callable(v) else v for k, v in fixed.items()}}
    return arguments


def _size(term: str, sizes: Sizes) -> int:
    """4H is four times H, H+M a sum, 2 a number."""
    parts = [part.strip() for part in term.split("+")]
    return sum(int(p) if p.isdigit() else int(p[:-1] or 1) * sizes[p[-1]] for p in parts)


def _mask(letters: str) -> Callable[[Sizes, np.random.Generator], Array]:
    return lambda sizes, rng: rng.random([_size(x, sizes) for x in letters.split()]) < 0.7


def _ids(shape: str, upper: str) -> Callable[[Sizes, np.random.Generator], Array]:
    return lambda sizes, rng: rng.integers(0, sizes[upper], [_size(x, sizes) for x in shape.split()])


def _lengths(sizes: Sizes, rng: np.random.Generator) -> Array:
    """(B,) from 1 to T, one of them T, in no order."""
    return rng.permutation(np.append(rng.integers(1, sizes["T"] + 1, sizes["B"] - 1), sizes["T"]))


def _targets(sizes: Sizes, rng: np.random.Generator) -> Array:
    """(N,) ids, about a quarter of them padding."""
    return np.where(rng.random(sizes["N"]) < 0.25, PAD, rng.integers(0, sizes["V"], sizes["N"]))


def _attention_step_backward(dcontext: Array, cache: Any) -> dict[str, Array]:
    """With what a loop over time leaves to one product at its end."""
    dquery, dscore, dkeys, dv = attention.attention_step_backward(dcontext, cache)
    dkeys = dscore.transpose(0, 2, 1) @ cache.query if dkeys is None else dkeys
    return {"query": dquery, "keys": dkeys, "values": cache.weights.transpose(0, 2, 1) @ dcontext, "v": dv}


def _dropout_mask(sizes: Sizes, rng: np.random.Generator) -> Array:
    return dropout.dropout_mask((sizes["B"], sizes["I"]), 0.3, rng, "float64")


def _fixed_generator(sizes: Sizes, rng: np.random.Generator) -> np.random.Generator:
    return np.random.default_rng(7)


def _cases(op: str, forward: Callable, backward: Callable, configurations: dict[str, tuple],
           wrt: tuple[str, ...] | None = None) -> list[Case]:
    """One case for each {configuration: (letters, arguments)}."""
    return [Case(f"{op}, {name}" if name else op, forward, backward, letters, arguments, wrt)
            for name, (letters, arguments) in configurations.items()]


_ONE = ("x T B I", "Wx 1 I 4H", "Wh 1 H 4H", "b 1 4H")
_TWO = ("x T B I", "Wx 2 I 4H", "Wh 2 H 4H", "b 2 4H")
_QUERY = ("query B Q A", "keys B S A", "values B S M")

CASES: tuple[Case, ...] = (
    *_cases("tanh", activations.tanh_forward, activations.tanh_backward, {
        "": ("B I", _normal("x B I")),
    }),
    *_cases("sigmoid", activations.sigmoid_forward, activations.sigmoid_backward, {
        "": ("B I", _normal("x B I")),
    }),
    *_cases("linear", linear.linear_forward, linear.linear_backward, {
        "": ("B I O", _normal("x B I", "W I O", "b O")),
        "no bias, over time": ("T B I O", _normal("x T B I", "W I O", b=None)),
    }),
    *_cases("embedding", embedding.embedding_forward, embedding.embedding_backward, {
        "": ("T B V E", _normal("W V E", ids=_ids("T B", "V"))),
    }),
    *_cases("dropout", dropout.dropout_forward, dropout.dropout_backward, {
        "a mask": ("B I", _normal("x B I", rate=0.3, mask=_dropout_mask)),
        "a generator": ("B I", _normal("x B I", rate=0.3, rng=_fixed_generator)),
    }, wrt=("x",)),
    *_cases("softmax", softmax.softmax_forward, softmax.softmax_backward, {
        "": ("B S", _normal("x B S")),
        "masked": ("B Q S", _normal("x B Q S", mask=_mask("B Q S"))),
    }),
    *_cases("cross_entropy", cross_entropy.cross_entropy_forward, cross_entropy.cross_entropy_backward, {
        "": ("N V", _normal("logits N V", targets=_targets)),
        "label smoothing": ("N V", _normal("logits N V", targets=_targets, label_smoothing=0.1)),
    }),
    *_cases("linear_cross_entropy", linear_cross_entropy.linear_cross_entropy_forward,
            linear_cross_entropy.linear_cross_entropy_backward, {
        "": ("N H V", _normal("x N H", "W H V", targets=_targets)),
        "label smoothing, in chunks": ("N H V", _normal(
            "x N H", "W H V", targets=_targets, label_smoothing=0.1, chunk_bytes=64)),
    }),
    *_cases("attention", attention.attention_forward, attention.attention_backward, {
        "dot": ("S B H", _normal("h B H", "h_enc S B H", mask=_mask("S B"), W=None, v=None)),
        "general": ("S B H M", _normal("h B H", "h_enc S B M", "W M H", mask=_mask("S B"), v=None)),
        "concat": ("S B H M A", _normal("h B H", "h_enc S B M", "W H+M A", "v A", mask=_mask("S B"))),
    }),
    *_cases("attention_step", attention.attention_step_forward, _attention_step_backward, {
        "product": ("B Q S A M", _normal(*_QUERY, mask=_mask("B S"), v=None)),
        "concat": ("B Q S A M", _normal(*_QUERY, "v A", mask=_mask("B S"))),
    }),
    *_cases("lstm_gates", lstm_gates.lstm_gates_forward, lstm_gates.lstm_gates_backward, {
        "": ("B H", _normal("z B 4H", "c_prev B H")),
    }),
    *_cases("lstm_cell", lstm_cell.lstm_cell_forward, lstm_cell.lstm_cell_backward, {
        "": ("B I H", _normal("x B I", "h_prev B H", "c_prev B H", "Wx I 4H", "Wh H 4H", "b 4H")),
    }),
    *_cases("lstm", lstm.lstm_forward, lstm.lstm_backward, {
        "": ("T B I H", _normal(*_ONE, lengths=_lengths, h0=None, c0=None)),
        "initial states": ("T B I H", _normal(*_ONE, "h0 1 B H", "c0 1 B H", lengths=_lengths)),
        "two directions": ("T B I H", _normal(*_TWO, lengths=_lengths, h0=None, c0=None)),
        "two directions, initial states": ("T B I H", _normal(
            *_TWO, "h0 2 B H", "c0 2 B H", lengths=_lengths)),
    }),
)

MODELS: tuple[ModelCase, ...] = (
    *(ModelCase(f"nmt, score {score}, feeding {feed}", {"score": score, "feed": feed})
      for score in ("general", "dot", "concat") for feed in ("output", "context", "none")),
    ModelCase("nmt, one direction", {"bidirectional": False}),
    ModelCase("nmt, two layers, dropout", {"layers": 2, "dropout": 0.3, "embed_dropout": 0.2}),
    ModelCase("nmt, two layers, one direction, concat, context", {
        "layers": 2, "bidirectional": False, "score": "concat", "feed": "context", "dropout": 0.2}),
    ModelCase("nmt, tied embeddings, label smoothing", {"tie_embeddings": True, "label_smoothing": 0.1}),
)
