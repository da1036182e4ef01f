"""What each path of the decoder carries, untrained and trained, with and without attention and input feeding.

By the textbook, whose backward pass has a line for each path: the lines are traced, and what they add is kept.  A model
without a path is the textbook with a line replaced, trained like the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from scratchnmt import textbook
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.textbook import BOS, EOS
from scratchnmt.trace import Line, traced

from .. import measure
from ..pictures import picture
from . import Point, draw_lines

Pairs = Sequence[textbook.Pair]
SIZE, WORDS, LOOKED_AT = 32, range(8, 13), 50  # E = H; words of a target; sentences that are looked at
BACK = 8  # steps
CUTS = {"whole": {},
        "no input feeding": {"h_and_o = np.concatenate([h_dec[t - 1], o[t - 1]])":
                             "h_and_o = np.concatenate([h_dec[t - 1], np.zeros(H)])",
                             "do[t - 1] += dh_and_o[H:]": "pass"},
        "no attention": {"a[t] = sum(weights[t][s] * h_enc[s] for s in range(S))": "a[t] = np.zeros(2 * H)",
                         "da, dh = np.split(params[\"combine.W\"] @ dp, [2 * H])":
                         "da, dh = np.zeros(2 * H), (params[\"combine.W\"] @ dp)[2 * H :]"}}
PATHS = {  # the lines that add: what they add to, by which path
    "do[t] += params[\"vocab.W\"] @ dlogits": ("o", "vocabulary"),
    "do[t - 1] += dh_and_o[H:]": ("o", "input feeding"),
    "dh_dec[t] += dh": ("h_dec", "combine"),
    "dh_dec[t] += dscore[s] * keys[s]": ("h_dec", "query"),
    "dh_dec[t - 1] += dh_and_o[:H]": ("h_dec", "next step"),
    "dc += dtanh_c * (1 - cell.tanh_c**2)": ("c_dec", "its own h"),
    "dc_dec[t - 1] += dc": ("c_dec", "next step"),
    "dh_enc[s] += weights[s] * da": ("h_enc", "values"),
    "dh_enc[s] += params[\"attention.W\"] @ dkeys[s]": ("h_enc", "keys"),
    "dh_fwd[S - 1] += dh_last[:H]": ("h_enc", "first state"),
    "dh_bwd[0] += dh_last[H:]": ("h_enc", "first state"),
}
NOWHERE = ("do[-1]", -1)  # o[-1] is zeros, which nothing has made
OF_ALL, OF_ONE = "loss of all words", "loss of one word"


def measured(steps: int | None) -> list[Point]:
    pairs, looked_at, sizes = sentences()
    looked_at = looked_at[:steps]
    points = []
    for name, cuts in CUTS.items():
        model = changed(cuts)
        params = model.new_params(*sizes, SIZE, SIZE, np.random.default_rng(0))
        for when in ("untrained", "trained"):
            if when == "trained":
                some, passes = (pairs[:steps], 1) if steps else (pairs, 3)
                words = sum(len(tgt) - 1 for _, tgt in some)
                losses = [model.train(params, some) / words for _ in range(passes)]
                print(f"{name}: {', '.join(f'{nats:.2f}' for nats in losses)} nats a word", flush=True)
            points += by_path(model, params, looked_at, f"{name}, {when}")
            points += back(model, params, looked_at, f"{name}, {when}")
    show(points)
    return points


def sentences() -> tuple[Pairs, Pairs, tuple[int, int]]:
    """Pairs to train on, pairs to look at, the sizes of the vocabularies."""
    lines = [(en, fr) for en, fr in zip(*toy_corpus().train, strict=True) if len(fr.split()) in WORDS]
    english, french = (WordVocabulary.build(side, min_count=1) for side in zip(*lines, strict=True))
    pairs = [(english.encode(en), [BOS, *french.encode(fr), EOS]) for en, fr in lines]
    return pairs[LOOKED_AT:], pairs[:LOOKED_AT], (len(english), len(french))


def changed(cuts: Mapping[str, str]) -> ModuleType:
    """The textbook with other lines in the place of some."""
    if not cuts:
        return textbook
    text = Path(textbook.__file__).read_text(encoding="utf-8")
    for right, other in cuts.items():
        if text.count(right) != (2 if "# " + right in text else 1):  # backward quotes the lines of forward
            raise ValueError(f"the textbook has not once the line {right}")
        text = text.replace(right, other, 1)
    module = ModuleType("textbook_without_a_path")
    exec(compile(text, textbook.__file__, "exec"), vars(module))
    return module


def by_path(model: ModuleType, params: Any, pairs: Pairs, name: str) -> list[Point]:
    """The norm of what each path adds to a value, summed over all sentences' positions, as a share of all paths."""
    norms: dict[tuple[str, str], float] = defaultdict(float)
    for src, tgt in pairs:
        for path, sums in summands(model, params, model.forward(params, src, tgt)[1]).items():
            norms[path] += sum(float(np.linalg.norm(total)) for place, total in sums.items() if place != NOWHERE)
    return [Point(OF_ALL, f"{name}: {value}", path, norm / sum(n for (v, _), n in norms.items() if v == value))
            for (value, path), norm in norms.items()]


def summands(model: ModuleType, params: Any, cache: Any) -> dict[tuple[str, str], dict[tuple[str, int], np.ndarray]]:
    """(value, path) -> position -> all that the path has added there, over a backward pass."""
    sums: dict[tuple[str, str], dict[tuple[str, int], np.ndarray]] = defaultdict(dict)
    for line, caller in of_the_decoder(traced(textbook, model.backward, params, cache)[1]):
        path = PATHS.get(line.code.strip())
        if path and line.values:
            place = (line.values[0].name, caller)
            sums[path][place] = sums[path].get(place, 0) + line.values[0].added
    return sums


def of_the_decoder(lines: Sequence[Line]) -> list[tuple[Line, int]]:
    """Each line with its step, but for those of the encoder's cells."""
    step, decoder, numbered = -1, True, []
    for line in lines:
        if line.depth == 0:
            decoder = "lstm_cell_backward" not in line.code or line.code.strip().startswith("dy, ")
            if line.values and line.values[0].name == "t":
                step = line.values[0].value
        if decoder:
            numbered.append((line, step if line.depth else -1))
    return numbered


def back(model: ModuleType, params: Any, pairs: Pairs, name: str) -> list[Point]:
    """The norm of dh_dec at each step back from the last word before the full stop, of the loss of that word alone."""
    logs = []
    for src, tgt in pairs:
        _, cache = model.forward(params, src, tgt)
        at = len(tgt) - 4  # the step that predicts it
        for t in cache.log_p:
            if t != at:  # a word that is certain has no gradient
                cache.log_p[t] = np.where(np.arange(len(cache.log_p[t])) == tgt[t + 1], 0.0, -np.inf)
        whole = {value.name: value.value for line in traced(textbook, model.backward, params, cache)[1]
                 for value in line.values if line.depth == 0 and value.name.startswith("dh_dec[")}
        norms = [float(np.linalg.norm(whole[f"dh_dec[{at - k}]"])) for k in range(min(BACK, at) + 1)]
        logs.append(np.log(np.array(norms + [np.nan] * (BACK + 1 - len(norms))) / norms[0]))
    means = np.exp(np.nanmean(logs, axis=0))
    return [Point(OF_ONE, name, k, float(y)) for k, y in enumerate(means)]


def show(points: Sequence[Point]) -> None:
    table: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for panel, line, x, y in points:
        if panel == OF_ALL:
            name, _, value = line.partition(": ")
            table[value, str(x)][name] = f"{100 * y:.1f}"
    names = list(dict.fromkeys(name for row in table.values() for name in row))
    measure.print_table(["% of the norms", "by", *names], [
        [value, path, *(row.get(name, "-") for name in names)] for (value, path), row in sorted(table.items())])


def draw(points: Sequence[Point], paths: Sequence[Path]) -> None:
    with picture(paths, 2) as (left, right):
        draw_lines(left.semilogy, [point for point in points
                                   if point.panel == OF_ONE and point.line.endswith(", trained")])
        left.set_xlabel("steps back from the word")
        left.set_ylabel("norm of dh_dec, relative")
        left.legend(frameon=False, fontsize=7)
        bars = [f"{name}, {when}" for name in CUTS for when in ("untrained", "trained")]
        bottom = np.zeros(len(bars))
        for shade, path in zip(("0.2", "0.55", "0.85"), ("values", "keys", "first state"), strict=True):
            share = {line: y for panel, line, x, y in points if panel == OF_ALL and x == path}
            heights = np.array([share.get(f"{bar}: h_enc", 0.0) for bar in bars])
            right.barh(range(len(bars)), heights, left=bottom, color=shade, edgecolor="black", label=path)
            bottom += heights
        right.set_yticks(range(len(bars)), bars, fontsize=7)
        right.invert_yaxis()
        right.set_xlabel("share of the norms of dh_enc")
        right.legend(frameon=False, fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.3, 1))
