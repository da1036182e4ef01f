"""Microscope: one training step of a model, as a page for a browser."""

from __future__ import annotations

import html as markup
import os
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ..data.batches import make_batch
from ..data.vocab import Vocabulary
from ..errors import InputError, check_choice, expected_one_of, shown, whole_number
from ..files.atomic import write_atomically
from ..models.nmt import NMT
from ..translate import Translator
from . import sabotage
from .compare import compared, in_float64, other_model
from .numeric import Cell, can_be_moved
from .page import CHECKED, Page, html
from .trace import Batch, Trace

SENTENCES, TOKENS = 4, 100  # the most that a page holds: sentences, and tokens of each side of one
BUGS = ("all", "none")


class Microscope:
    """A training step of `model` on pairs of sentences, in float64 on the CPU.

    pairs: up to four (source, target); target None: the model's own translation, by beam search.  seed: of the masks
    of dropout; None: no dropout.  checks: how many gradients inside the step, drawn at random, are compared with
    complex-step differentiation; check: further ones by name, "h_dec/0/3/17": quantity, sentence, word and unit, each
    counted from 0.  bugs: "all" of the museum that show in this step, or "none".
    compare: a model of the same configuration, "float32" or "untrained", whose step is put beside this one.

    Raises InputError for a sentence that is empty or has more than 100 tokens, for more than four pairs, for a number
    that does not exist, and for a model that is no single NMT.
    """

    def __init__(self, model: NMT, src_vocab: Vocabulary, tgt_vocab: Vocabulary,
                 pairs: Sequence[tuple[str, str | None]], *, seed: int | None = None, checks: int = CHECKED,
                 check: Sequence[str] = (), bugs: str = "all", compare: Any = None, title: str = "a model",
                 made: str = ""):
        if not isinstance(model, NMT):
            raise InputError("microscope: expected one model, not an ensemble")
        if not 0 < len(pairs) <= SENTENCES:
            raise InputError(f"microscope: {len(pairs)} pairs of sentences, expected 1 to {SENTENCES}: a page holds no "
                             "more")
        check_choice("bugs", bugs, BUGS)
        self.bugs, self.checks, self.title, self.made = bugs, whole_number("checks", checks, least=0), title, made
        self.translated = any(target is None for _, target in pairs)
        self.unknown: list[str] = []  # words that the vocabularies do not have
        Translator(model, src_vocab, tgt_vocab)  # which checks that they belong together
        src = [self._ids(src_vocab, source, f"source {n}") for n, (source, _) in enumerate(pairs, 1)]
        tgt = [model.beam_search(ids, max_decoding_time_step=TOKENS)[0].value if target is None else
               self._ids(tgt_vocab, target, f"target {n}")
               for n, (ids, (_, target)) in enumerate(zip(src, pairs, strict=True), 1)]
        self.tgt_vocab = tgt_vocab
        self.words = [(src_vocab.tokens(source), [*map(tgt_vocab.token, ids), "</s>"])
                      for (source, _), ids in zip(pairs, tgt, strict=True)]
        batch = make_batch(src, tgt)
        self.itemsize = model.params.flat.itemsize
        self.trace = Trace(in_float64(model), Batch(batch.src, batch.src_lengths, batch.tgt), seed)
        self.cells = [self._cell(text) for text in check]
        self.other = None if compare is None else other_model(self.trace.model, compare)

    @classmethod
    def load(cls, directory: str | os.PathLike[str], pairs: Sequence[tuple[str, str | None]], **options: Any
             ) -> Microscope:
        """Of the model in a training run's folder; InputError if it is missing, incomplete or damaged."""
        translator = Translator.load(directory)
        return cls(translator.model, translator.src_vocab, translator.tgt_vocab, pairs,
                   **{"title": os.path.basename(os.path.abspath(directory)), **options})

    def _ids(self, vocab: Vocabulary, line: str, name: str) -> list[int]:
        if len(line.splitlines()) > 1:
            raise InputError(f"microscope: {name} has {len(line.splitlines())} lines, expected one sentence")
        ids = vocab.encode(line)
        if not ids:
            raise InputError(f"microscope: {name} is empty, expected a sentence")
        if len(ids) > TOKENS:
            raise InputError(f"microscope: {name} has {len(ids):,} tokens, a page holds {TOKENS}: give a part of it")
        if vocab.unknown(line, ids)[0]:
            self.unknown.append(f"{name}: {shown(line)}")
        return ids

    def _cell(self, text: str) -> Cell:
        """The number that "h_dec/0/3/17" names; InputError if there is none, or if it cannot be moved."""
        match = re.fullmatch(r"(\w+)/(\d+)/(\d+)/(\d+)", text)
        if not match:
            raise InputError(f"check is {shown(text)}, expected a quantity, a sentence, a word and a unit, as in "
                             "h_dec/0/3/17")
        id, (b, row, unit) = match[1], map(int, match.groups()[1:])
        known = [name for name in self.trace.table if can_be_moved(self.trace, name)]
        if id not in known:
            raise InputError(f"check is {shown(text)}: {shown(id)} is not a quantity that can be moved, "
                             f"{expected_one_of(id, known)}")
        if b >= len(self.words):
            raise InputError(f"check is {shown(text)}: there are {len(self.words)} sentences, counted from 0")
        rows, columns = self.trace.value(id, b).shape
        if row >= rows or unit >= columns:
            raise InputError(f"check is {shown(text)}: {id} of sentence {b} has words 0 to {rows - 1} and units 0 to "
                             f"{columns - 1}")
        return Cell(id, b, row, unit)

    @cached_property
    def page(self) -> Page:
        vocabulary = [self.tgt_vocab.token(id) for id in range(len(self.tgt_vocab))]
        return Page(self.trace, self.words, vocabulary, self.title, self.made, self.translated, self.itemsize,
                    self.cells)

    @cached_property
    def data(self) -> dict[str, Any]:
        """Everything that the page shows."""
        changes: dict[str, Any] = {"cuts": list(sabotage.cuts(self.trace))}
        if self.bugs == "all":
            changes["bugs"], changes["hidden_bugs"] = sabotage.bugs(self.trace)
        if self.other:
            title, model = self.other
            this, other = (Trace(one, self.trace.batch, self.trace.seed, paths=False, outputs=True)
                           for one in (self.trace.model, model))
            changes["compare"] = compared(this, other, (self.title, title))
        return self.page.data(self.checks, changes)

    def html(self) -> str:
        """The whole page: one file, which needs nothing else."""
        return html(self.data)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page; WriteError if that fails, and what was there before is left as it was."""
        write_atomically(path, self.html().encode())

    def _repr_html_(self) -> str:
        """In a notebook, the page in a frame of its own; it stays in the notebook's file."""
        return (f'<iframe srcdoc="{markup.escape(self.html())}" width="100%" height="700" '
                f'title="microscope of {markup.escape(self.title)}" style="border: 0"></iframe>')
