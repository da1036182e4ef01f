"""A loss or gradient that is not finite: which step, which tensors, which sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import array_module, to_device
from ..data.batches import Batch
from ..data.corpus import Sentences
from ..errors import InputError, listed
from ..models.nmt import NMT
from .plan import TrainingData
from .step import Result, Steps

_SHOWN = 60  # characters of a sentence in an error


class NotFiniteError(InputError):
    """The loss or the gradient overflowed; the last good state is still in the run's folder."""


def report(result: Result, steps: Steps, parts: Sequence[np.ndarray], data: TrainingData,
           tokens: Sentences) -> dict[str, Any]:
    """What is known of a step that is not finite, whose batch was computed in `parts`, of `tokens`: a JSON object.

    tensors: the gradients, and weights: the weights, that hold a number that is not finite; sentences: the pairs of
    the batch as the epoch has them (a teacher's translation may be the target), by their lines in the training text,
    with the nats of each (None: not finite) as the weights now are and without dropout.
    """
    tensors: dict[str, None] = {}
    sentences = []
    for number, indices in enumerate(parts):
        if len(indices):
            batch = tokens.batch(indices)
            steps.gradient(batch, result.place, number)
            tensors |= dict.fromkeys(_not_finite(steps.grads))
            sentences += [{"line": data.train.line(int(i)), **_pair(batch, b, data), "nats": _finite_or_none(nats)}
                          for b, (i, nats) in enumerate(zip(indices, _nats(steps.model, batch), strict=True))]
    return {"step": result.place.step, "epoch": result.place.epoch, "loss": _finite_or_text(result.nats),
            "norm": _finite_or_text(result.norm), "tensors": list(tensors),
            "weights": _not_finite(steps.model.params),
            "sentences": sentences}


def sentence(report: dict[str, Any]) -> str:
    """The report in a sentence, for people."""
    what = "loss" if isinstance(report["loss"], str) else "gradient's norm"
    value = report["loss"] if what == "loss" else report["norm"]
    names = report["weights"] or report["tensors"]
    kind = "are the weights in" if report["weights"] else "is the gradient of"
    where = f"; not finite {kind} {listed(names, 3)}" if names else ""
    broken = [s for s in report["sentences"] if s["nats"] is None] or report["sentences"]
    worst = max(broken, key=lambda s: s["nats"] or 0)
    count = len(report["sentences"])
    some = f"{len(broken)} of the {count}" if len(broken) < count else f"the {count}"
    return (f"the {what} is {value} at step {report['step']}, epoch {report['epoch']}{where}; it is of {some} sentence "
            f"pairs of its batch, among them line {worst['line']} of the training text, {worst['source'][:_SHOWN]!r}")


def _nats(model: NMT, batch: Batch) -> np.ndarray:
    """(B,) -log p of each target."""
    with np.errstate(all="ignore"):
        log_probs: np.ndarray = to_device(model.token_log_probs(batch.src, batch.src_lengths, batch.tgt), "cpu")
        nats: np.ndarray = -log_probs.sum(axis=0)
    return nats


def _pair(batch: Batch, b: int, data: TrainingData) -> dict[str, str]:
    """The text of sentence pair b."""
    src, tgt = batch.src[:batch.src_lengths[b], b], batch.tgt[1:batch.tgt_lengths[b], b]  # without <s> and </s>
    return {"source": data.src_vocab.decode(src.tolist()), "target": data.tgt_vocab.decode(tgt.tolist())}


def _not_finite(arrays: Any) -> list[str]:
    return [name for name, array in arrays.items() if not bool(array_module(array).isfinite(array).all())]


def _finite_or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _finite_or_text(value: float) -> float | str:
    """JSON knows no NaN."""
    return value if np.isfinite(value) else str(value)
