"""python -m scratchnmt.textbook: train the textbook's model on short sentences, or print a worked example."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence

import numpy as np

from . import textbook
from .streams import run_command
from .textbook import BOS, EOS, backward, forward, new_params, train, translate
from .trace import COLUMN, Line, traced

LONGEST = 6  # words of a sentence, on either side
TRAIN, TEST = 4000, 100
SIZE = 32  # E = H


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 if a gradient is wrong."""
    return run_command("python -m scratchnmt.textbook", lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scratchnmt.textbook", description=textbook.__doc__.splitlines()[0])
    parser.add_argument("--example", action="store_true",
                        help="print every number of one tiny example, forward and backward")
    parser.add_argument("--passes", type=int, default=5, metavar="N",
                        help="times that training goes through the sentences (default 5)")
    options = parser.parse_args(arguments)
    if options.passes < 1:
        parser.error(f"--passes is {options.passes}, expected at least 1")
    if options.example:
        print(example())
        return 0
    return run(options.passes)


def run(passes: int) -> int:
    """Train, translate sentences that were not trained on, check the gradient of every weight."""
    from .data.toy import toy_corpus
    from .data.vocab import WordVocabulary
    from .gradcheck import check_directional

    short = [(en, fr) for en, fr in zip(*toy_corpus(train=30_000).train, strict=True)
             if max(len(en.split()), len(fr.split())) <= LONGEST]
    seen, unseen = short[:TRAIN], short[TRAIN : TRAIN + TEST]
    english, french = (WordVocabulary.build(side, min_count=1) for side in zip(*seen, strict=True))
    pairs = [(english.encode(en), [BOS, *french.encode(fr), EOS]) for en, fr in seen]
    params = new_params(len(english), len(french), SIZE, SIZE, np.random.default_rng(0))
    words = sum(len(tgt) - 1 for _, tgt in pairs)
    print(f"{TRAIN:,} sentence pairs of at most {LONGEST} words, {sum(map(np.size, params.values())):,} weights")

    start = time.perf_counter()
    for number in range(1, passes + 1):
        loss = train(params, pairs)
        print(f"pass {number}: {loss / words:.3f} nats a target word, {time.perf_counter() - start:.0f} s", flush=True)

    translations = [french.decode(translate(params, english.encode(en))) for en, _ in unseen]
    exact = sum(text == fr for text, (_, fr) in zip(translations, unseen, strict=True))
    for text, (en, fr) in list(zip(translations, unseen, strict=True))[:3]:
        print(f"\n  {en}\n  {text}" + ("" if text == fr else f"   (expected: {fr})"))
    print(f"\n{exact} of {TEST} sentences that it was not trained on come out exactly")

    src, tgt = pairs[0][0], pairs[1][1]  # that do not belong together: of what is learnt the gradient is nearly zero
    report = check_directional(lambda params: forward(params, src, tgt)[0],
                               lambda params: backward(params, forward(params, src, tgt)[1]), params)
    if not report.ok:
        print(report)
        return 1
    print(f"the gradients of all weights agree with complex-step differentiation: largest relative error "
          f"{report.max_error:.0e}, tolerance {report.rtol:.0e}")
    return 0


def example() -> str:
    """Every line of the forward and the backward pass of one pair, with its numbers; E = H = 1, S = T = 2."""
    english, french = ["<pad>", "<s>", "</s>", "good", "evening"], ["<pad>", "<s>", "</s>", "bonsoir", "bonjour"]
    src, tgt = [3, 4], [BOS, 3, EOS]
    params = example_params()
    (_, cache), forth = traced(textbook, forward, params, src, tgt)
    grads, back = traced(textbook, backward, params, cache)
    return "\n".join([
        f"source: {' '.join(english[i] for i in src)}, ids {src};  "
        f"target: {' '.join(french[i] for i in tgt)}, ids {tgt}",
        f"Each line of the file as it runs; behind it, from column {COLUMN} on, what it computes.",
        "x + 0.5 = 2.0: the line has added 0.5 to x, which is 2.0 now.",
        "\n== The weights", *_named(params), "\n== forward", *_listed(forth), "\n== backward", *_listed(back),
        "\n== The gradients", *_named(grads)])


def example_params() -> dict[str, np.ndarray]:
    """Small round weights, E = H = 1, vocabularies of five words."""
    rng = np.random.default_rng(58)  # with which no gradient is too small for four decimals
    shapes = {name: array.shape for name, array in new_params(5, 5, 1, 1, rng).items()}
    return {name: rng.choice([-2, -1, -0.5, 0.5, 1, 2], shape) for name, shape in shapes.items()}


def _named(arrays: Mapping[str, np.ndarray]) -> list[str]:
    return [f"{name} = {np.round(array, 4).tolist()}" for name, array in arrays.items()]


def _listed(lines: Sequence[Line]) -> list[str]:
    """All lines of the function itself; of those that it calls, what computes a number."""
    return [str(line) for line in lines if line.depth == 0 or line.numbers()]
