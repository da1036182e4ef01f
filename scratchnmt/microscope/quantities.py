"""What a reader of the equations calls by name, and where a recorded step has it: h_dec[t], dz_fwd[s], weights[t, s].

A quantity is an argument of an operation: the state of the decoder is what lstm_gates_forward writes to `h`, and its
gradient what lstm_gates_backward finds in `dh`, at each step.  So one table says for each quantity which argument it
is, how that argument's rows belong to words, and the formula by which it follows from others.  The formulas are not
only shown: tests evaluate them on recorded numbers, in every configuration (see formulas.py).

The names are those of the textbook; a further layer's have its number behind them, h_dec1.  dX is the gradient of X.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import InputError
from ..models.config import NMTConfig, layer_name
from .record import Call

GATES = "ifgo"
SOURCE, ATTENTION, DECODER, OUTPUT = "source", "attention", "decoder", "output"
ENCODERS = {"fwd": "encoder, left to right", "bwd": "encoder, right to left"}


class Argument(NamedTuple):
    """One argument of the calls of an operation from one function."""

    op: str
    function: str  # "models/cells.py:step"
    name: str  # of the argument, "h"
    after: bool  # as the call left it, or as it found it
    layout: str  # how its rows belong to words: a method of Words
    layer: int = 0
    layers: int = 1  # that call the operation at each step
    head: int = 0
    heads: int = 1  # that have a row each in the place of one
    weight: str = ""  # that the call multiplies by, if that tells it from others
    direction: int = 0


def found(op: str, function: str, name: str, layout: str, **more: Any) -> Argument:
    """As the call found it."""
    return Argument(op=op, function=function, name=name, after=False, layout=layout, **more)


def left(op: str, function: str, name: str, layout: str, **more: Any) -> Argument:
    """As the call left it."""
    return Argument(op=op, function=function, name=name, after=True, layout=layout, **more)


class Inside(NamedTuple):
    """A summand of a gradient that is added inside an operation, and in none of its arguments."""

    path: str  # its id
    label: str
    summand: Callable[[Any, Call], np.ndarray]  # of a trace and a call, in the argument's shape


@dataclass(frozen=True)
class Side:
    """The value of a quantity, or its gradient."""

    argument: Argument | None
    formula: str = ""
    paths: dict[str, str] = field(default_factory=dict)  # of a gradient, path's id -> the formula of what it adds
    derived: Callable[[Any, Call, np.ndarray], np.ndarray] | None = None  # what is shown of the argument
    inside: Inside | None = None


@dataclass(frozen=True, kw_only=True)
class Quantity:
    id: str  # "h_dec"
    title: str
    group: str
    axis: str  # "t", "s", or "": a row for each target or source word, or a single one
    columns: int
    value: Side | None = None
    gradient: Side | None = None
    kind: str = ""  # "dec", "fwd", "bwd": whose units the columns are
    column_axis: str = "units"  # or "s", "words"
    start: str = ""  # the quantity before its first row
    reversed: bool = False  # whether the row after row s is s - 1
    of: str = ""  # an alias of some columns of another quantity,
    first: int = 0  # from this one on

    @property
    def letters(self) -> tuple[str, str]:
        return (self.axis or "t", "s" if self.column_axis == "s" else "j")


def quantities(config: NMTConfig, dropout: bool) -> list[Quantity]:
    """Those of a model; dropout: whether masks are drawn.  InputError for what it does not know."""
    if config.cell != "lstm":
        raise InputError(f"microscope: the cell of this model is {config.cell!r}, and only 'lstm' is taken apart here")
    if dropout and config.r_drop:
        raise InputError("microscope: with dropout a model of R-Drop goes through each sentence twice, and one pass is "
                         "taken apart here: leave the seed out")
    table = _Table(config, dropout)
    return [*table.encoder(), *table.first_states(), *table.attention(), *table.decoder(), *table.readout()]


def sizes(config: NMTConfig) -> dict[str, int]:
    """The constants of formulas that a configuration has."""
    heads = {"d": config.hidden_size // config.heads} if config.attention == "multi-head" else {}
    return {"E": config.embed_size, "H": config.hidden_size, "M": config.memory_size, "G": config.encoder_size, **heads}


class _Table:
    """The quantities of one configuration, part by part."""

    def __init__(self, config: NMTConfig, dropout: bool):
        self.config, self.L = config, config.layers
        self.dropout = dropout and config.dropout > 0
        self.recurrent_dropout = dropout and config.recurrent_dropout > 0
        self.encoder_dropout = dropout and config.encoder_dropout > 0
        self.embed_dropout = dropout and config.embed_dropout + config.word_dropout > 0
        self.E, self.H, self.M, self.G = config.embed_size, config.hidden_size, config.memory_size, config.encoder_size
        self.directions = {"fwd": 0, "bwd": 1}
        if not config.bidirectional:
            self.directions = {"bwd": 0} if config.reverse_source else {"fwd": 0}
        self.several = config.attention == "multi-head"
        self.score = "several heads" if self.several else config.score if config.attends else ""
        self.context = "H" if self.several else "M"  # how many columns it has
        self.last = self.L - 1 or ""  # number of the last layer, as names have it
        self.keys = {"location": "attention.places", "dot": "h_enc"}.get(self.score, "keys")
        self.asked = "t-1" if config.asks_before else "t"  # the state that asks for step t
        self.asks = "t+1" if config.asks_before else "t"  # the step that state t asks for

    def encoder(self) -> Iterator[Quantity]:
        yield from self._embedded("x", "source", "embedded source word", {
            f"input {kind}": f"sum k: dz_{kind}[s,k] * encoder.Wx[{d}][j,k]" for kind, d in self.directions.items()})
        for l in range(self.L):
            for kind, d in self.directions.items():
                yield from _LSTM(self, kind, l, d).quantities()

    def decoder(self) -> Iterator[Quantity]:
        yield from self._embedded("y", "target", "embedded target word, the one before",
                                  {"input dec": "sum k: dz_dec[t,k] * decoder.Wx[j,k]"})
        for l in range(self.L):
            yield from _LSTM(self, "dec", l, 0).quantities()
            if l + 1 < self.L:
                yield from self._between(l + 1)

    def _embedded(self, id: str, side: str, title: str, paths: dict[str, str]) -> Iterator[Quantity]:
        words = f"{side}_words"
        looked_up = left("embedding_forward", "models/nmt.py:_embed", "result.0", words)
        of_table = found("embedding_backward", "models/nmt.py:backward", "dy", words)
        value, gradient = looked_up, of_table
        if self.embed_dropout:
            value = left("dropout_forward", "models/nmt.py:_drop", "result.0", words)
            gradient = found("dropout_backward", "models/nmt.py:backward", "dy", words)
        axis, group, table = ("s", SOURCE, "embed.src") if side == "source" else ("t", DECODER, "embed.tgt")
        common = partial(Quantity, group=group, axis=axis, columns=self.E)
        yield common(id=id, title=title, value=Side(value), gradient=Side(gradient, paths=paths))
        # the table's own row: the same word may be read elsewhere, and a tied table is the vocabulary as well
        tied = self.config.tie_embeddings and side == "target"
        rest = Inside("elsewhere", f"the same word elsewhere{', and as a word to predict' if tied else ''}", _elsewhere)
        yield common(id=f"row_{id}", title=f"row of {table}",
                     value=Side(looked_up, "" if self.embed_dropout else f"{id}[{axis},j]"),
                     gradient=Side(of_table, paths=dict.fromkeys([*paths, "elsewhere"], ""), inside=rest))

    def _between(self, l: int) -> Iterator[Quantity]:
        """What layer l, above the first, reads, and the masks of dropout."""
        below, mask = f"h_dec{l - 1 or ''}[t,j]", f"mask_dec{l}[t,j]"
        x = found("product", "models/cells.py:inputs", "a", "decoder_step", weight=f"{layer_name('decoder', l)}.Wx")
        decoder = partial(Quantity, group=DECODER, axis="t", columns=self.H, kind="dec")
        yield decoder(id=f"x_dec{l}", title="input of the layer",
                      value=Side(x, f"{below} * {mask}" if self.dropout else below))
        if self.dropout:
            layer = {"layer": l - 1, "layers": self.L - 1}
            yield decoder(id=f"mask_dec{l}", title="mask of dropout", value=Side(
                found("multiply", "models/decoder.py:_layers_forward", "mask", "decoder_step", **layer)))
            made = left("dropout_forward", "models/encoder.py:encoder_forward", "result.0", "source_words", **layer)
            encoder = partial(Quantity, group=SOURCE, axis="s", columns=self.M)  # all directions side by side
            yield encoder(id=f"x_enc{l}", title="input of the encoder's layer", value=Side(made))
            yield encoder(id=f"mask_enc{l}", title="mask of dropout", value=Side(made._replace(name="result.1.mask")))

    def first_states(self) -> Iterator[Quantity]:
        for l in range(self.L):
            for name, title in ("h", "first state h of the decoder"), ("c", "first cell c of the decoder"):
                number, W = l or "", f"{layer_name('init', l)}.W{name}"
                parts = [f"sum k: {name}_{kind}{number}[{'0' if kind == 'bwd' else 'S-1'},k] * {W}[k{'+G' * d},j]"
                         for kind, d in self.directions.items()]
                made = left("product", "models/encoder.py:encoder_forward", "result", "sentence", weight=W)
                back = found("product", "models/encoder.py:encoder_backward", "a", "sentence", weight=W)
                yield Quantity(id=f"{name}_init{number}", title=title, group=DECODER, axis="", columns=self.H,
                               kind="dec", value=Side(made, " + ".join(parts)),
                               gradient=Side(back, paths=self._first_state_paths(name, l)))

    def _first_state_paths(self, name: str, l: int) -> dict[str, str]:
        number = l or ""
        if name == "c":
            return {"next": f"dc_dec{number}[0,j] * f_dec{number}[0,j]"}
        paths = {"recurrence": f"sum k: dz_dec{number}[0,k] * {layer_name('decoder', l)}.Wh[j,k]{self.kept('dec', l)}"}
        if self.config.asks_before and l == self.L - 1:
            asked = self.state_paths(l)
            paths |= {path: asked[path].replace("t+1", "0") for path in ("query", "place") if path in asked}
        if l == 0 and self.config.feed == "start":
            paths["start"] = "sum t: (sum k: dz_dec[t,k] * decoder.Wh[j+H,k])"
        return paths

    def state_paths(self, l: int) -> dict[str, str]:
        """Who reads the decoder's state of layer l, and so adds to its gradient."""
        number = l or ""
        kept = self.kept("dec", l)
        paths = {"recurrence": f"sum k: dz_dec{number}[t+1,k] * {layer_name('decoder', l)}.Wh[j,k]{kept}"}
        if l < self.L - 1:
            mask = f" * mask_dec{l + 1}[t,j]" if self.dropout else ""
            return paths | {"above": f"sum k: dz_dec{l + 1}[t,k] * {layer_name('decoder', l + 1)}.Wx[j,k]{mask}"}
        if self.config.readout == "output":
            paths["readout"] = f"sum k: dp[t,k] * combine.W[j{self._below_context},k]"
        else:
            paths["loss"] = "" if self.dropout else "do[t,j]"
        if self.score == "concat" or self.several:
            paths["query"] = f"sum k: dquery[{self.asks},k] * attention.W{'q' * self.several}[j,k]"
        elif self.score:
            paths["query"] = f"sum s: dscore[{self.asks},s] * {self.keys}[s,j]"
        if self.config.attention == "local-p":
            paths["place"] = ""
        return paths

    def kept(self, kind: str, l: int, unit: str = "j") -> str:
        """The factor that the recurrence has with recurrent dropout."""
        return f" * mask_h_{kind}{l or ''}[0,{unit}]" if self.recurrent_dropout else ""

    def source_paths(self, row: str) -> dict[str, str]:
        """How attention reads a source word's state, of which `row` is a column of h_enc."""
        if self.several:
            return {"values": f"sum k: dvalues[s,k] * attention.Wv[{row},k]",
                    "keys": f"sum k: dkeys[s,k] * attention.Wk[{row},k] / sqrt(d)"}
        paths = {"values": f"sum t: weights[t,s] * da[t,{row}]"} if self.score else {}
        if self.score == "dot":
            paths["keys"] = f"sum t: dscore[t,s] * h_dec{self.last}[{self.asked},{row}]"
        elif self.score in ("general", "concat"):
            paths["keys"] = f"sum k: dkeys[s,k] * attention.W[{row}{self._lower},k]"
        return paths

    def state_of_source_paths(self, row: str) -> dict[str, str]:
        """The same on the way to the encoder's own state, through dropout."""
        dropped = f" * mask_h_enc[s,{row}]" if self.encoder_dropout else ""
        return {path: formula + dropped for path, formula in self.source_paths(row).items()}

    @property
    def _lower(self) -> str:
        """Where attention.W has the rows for the keys: of concat below those for the query."""
        return "+H" if self.score == "concat" else ""

    @property
    def _below_context(self) -> str:
        """Where combine.W has the rows for the state."""
        return f"+{self.context}" if self.score else ""

    def attention(self) -> Iterator[Quantity]:
        if self.several:
            yield from self._source_states("multi_head")
            yield from _Heads(self).quantities()
        elif self.score:
            yield from self._source_states("global_attention")
            yield from self._keys()
            yield from self._scores()

    def _source_states(self, file: str) -> Iterator[Quantity]:
        names = "; ".join(f"h_{kind}{self.last}" for kind in self.directions)
        read = found("contiguous", f"models/attention/{file}.py:__init__", "x", "sorted_sentences")
        back = found("take", "ops/lstm.py:lstm_backward", "x", "rows_by_direction")
        common = partial(Quantity, group=ATTENTION, axis="s", columns=self.M)
        if self.encoder_dropout:
            back = found("dropout_backward", "models/encoder.py:encoder_backward", "dy", "source_words")
            made = left("dropout_forward", "models/encoder.py:encoder_forward", "result.1.mask", "source_words",
                        layer=self.L - 1 if self.dropout else 0)  # after those between the layers
            yield common(id="mask_h_enc", title="mask of dropout, on the encoder's states", value=Side(made))
        yield common(id="h_enc", title=f"state of the encoder, [{names}]", value=Side(read),
                     gradient=Side(back, paths=self.source_paths("j")))

    def _keys(self) -> Iterator[Quantity]:
        common = partial(Quantity, group=ATTENTION, axis="s")
        if self.score in ("general", "concat"):
            made = left("product", "ops/attention.py:attention_keys", "result", "sorted_rows")
            back = found("product", "ops/attention.py:attention_keys_backward", "a", "sorted_rows",
                         weight="attention.W")
            dkeys = f"sum t: dscore[t,s] * h_dec{self.last}[{self.asked},j]"
            yield common(id="keys", title="keys: what states are compared with", columns=self.H,
                         value=Side(made, f"sum k: h_enc[s,k] * attention.W[k{self._lower},j]"),
                         gradient=Side(back, dkeys if self.score == "general" else f"sum t: {_DTANH}"))

    def _scores(self) -> Iterator[Quantity]:
        """What a step of attention computes."""
        file = "predictive" if self.config.attention == "local-p" else "global_attention"
        forward = partial(left, "attention_step_forward", f"models/attention/{file}.py:step", layout="decoder_step")
        backward = partial(left, "attention_step_backward", "models/attention/scores.py:step_backward",
                           layout="decoder_step")
        query = forward("query")._replace(after=False)
        asked = f"h_dec{self.last}[{self.asked},k]"
        common = partial(Quantity, group=ATTENTION, axis="t")
        score = f"sum k: {asked} * {self.keys}[s,k]"
        if self.score == "concat":
            score = "sum k: attention.v[k] * tanh(query[t,k] + keys[s,k])"
            yield common(id="query", title="query: what is compared with the keys", columns=self.H,
                         value=Side(query, f"sum k: {asked} * attention.W[k,j]"),
                         gradient=Side(backward("dquery"), f"sum s: {_DTANH}"))
        everywhere = self.config.attention == "global"
        derived = None if everywhere else _over_the_source
        dscore = "weights[t,s] * (sum k: da[t,k] * h_enc[s,k] - sum k: da[t,k] * a[t,k])"
        yield common(id="score", title="score of a source word", columns=0, column_axis="s",
                     value=Side(query, score, derived=_compared) if everywhere else None,
                     gradient=Side(backward("dscore"), "" if self.config.attention == "local-p" else dscore,
                                   derived=derived))
        yield common(id="weights", title="attention weights", columns=0, column_axis="s", value=Side(
            forward("weights"), "exp(score[t,s]) / (sum r: exp(score[t,r]))" if everywhere else "", derived=derived))
        yield common(id="a", title="context", columns=self.M,
                     value=Side(forward("context"), "sum s: weights[t,s] * h_enc[s,j]"),
                     gradient=Side(backward("dcontext")._replace(after=False), paths=self.context_paths()))

    def context_paths(self) -> dict[str, str]:
        """Who reads the context."""
        paths = {"readout": "sum k: dp[t,k] * combine.W[j,k]"} if self.config.readout == "output" else {}
        if self.config.feed == "context":
            paths["feeding"] = f"sum k: dz_dec[{'t' if self.config.asks_before else 't+1'},k] * decoder.Wh[j+H,k]"
        return paths

    def readout(self) -> Iterator[Quantity]:
        tied, state = self.config.tie_embeddings, f"h_dec{self.last}"
        common = partial(Quantity, group=OUTPUT, axis="t")
        loss = {"loss": f"sum k: dlogits[t,k] * {'embed.tgt[k,j]' if tied else 'vocab.W[j,k]'}"}
        if self.config.readout == "output":
            yield from self._attentional_output(common, loss)
        else:
            rows = found("product", "ops/linear_cross_entropy.py:_by_chunks", "a", "packed_rows",
                         weight="embed.tgt" if tied else "vocab.W", layers=2)  # of each chunk: forward, and back
            yield common(id="o", title="what the vocabulary is read from", columns=self.H,
                         value=Side(rows, "" if self.dropout else f"{state}[t,j]"),
                         gradient=Side(rows._replace(name="out", after=True, layer=1), paths=loss))
        z = found("cross_entropy_in_place", "ops/linear_cross_entropy.py:_by_chunks", "z", "packed_rows")
        yield common(id="logits", title="logits", columns=self.config.tgt_vocab_size, column_axis="words",
                     value=Side(z, f"sum k: o[t,k] * {'embed.tgt[j,k]' if tied else 'vocab.W[k,j]'}"),
                     gradient=Side(z._replace(after=True)))

    def _attentional_output(self, common: Callable[..., Quantity], loss: dict[str, str]) -> Iterator[Quantity]:
        p = found("tanh_dropout_forward", "models/readout.py:step", "p", "decoder_step")
        dp = left("tanh_dropout_backward", "models/readout.py:step_backward", "dp", "decoder_step")
        mask = " * mask_o[t,j]" if self.dropout else ""
        context = "sum k: a[t,k] * combine.W[k,j] + " if self.score else ""
        if self.dropout:
            yield common(id="mask_o", title="mask of dropout", columns=self.H, value=Side(p._replace(name="mask")))
        yield common(id="p", title="what tanh is taken of, [a; h] combine.W", columns=self.H,
                     value=Side(p, f"{context}sum k: h_dec{self.last}[t,k] * combine.W[k{self._below_context},j]"),
                     gradient=Side(dp, f"do[t,j]{mask} * (1 - tanh(p[t,j]) * tanh(p[t,j]))"))
        feeding = {"feeding": "sum k: dz_dec[t+1,k] * decoder.Wh[j+H,k]"} if self.config.feed == "output" else {}
        yield common(id="o", title="attentional output", columns=self.H,
                     value=Side(p._replace(name="o", after=True), f"tanh(p[t,j]){mask}"),
                     gradient=Side(dp._replace(name="do", after=False), paths=loss | feeding))


class _Heads:
    """The quantities of multi-head attention: of all heads side by side, then of each, query_0 to a_0, query_1, ..."""

    FILE = "models/attention/multi_head.py"

    def __init__(self, table: _Table):
        self.table, self.d = table, table.H // table.config.heads
        self.step = partial(Quantity, group=ATTENTION, axis="t")
        self.source = partial(Quantity, group=ATTENTION, axis="s")

    def quantities(self) -> Iterator[Quantity]:
        """Head i has the columns i d to (i + 1) d of query, keys, values and context."""
        yield from self._of_all_heads()
        for i in range(self.table.config.heads):
            yield from self._of_head(i)

    def _of_all_heads(self) -> Iterator[Quantity]:
        step, source, H = self.step, self.source, self.table.H
        asked = f"h_dec{self.table.last}[{self.table.asked},k]"
        forward, backward = f"{self.FILE}:training_step", f"{self.FILE}:step_backward"
        made, after_loop = f"{self.FILE}:_projected", f"{self.FILE}:backward"
        yield step(id="query", title="queries of all heads", columns=H,
                   value=Side(left("product", forward, "out", "decoder_step", weight="attention.Wq"),
                              f"sum k: {asked} * attention.Wq[k,j]"),
                   gradient=Side(found("transposed_product", backward, "a", "decoder_step", weight="attention.Wq")))
        yield source(id="keys", title="keys of all heads, divided by the root of d", columns=H,
                     value=Side(left("multiply", made, "out", "sorted_rows"),
                                "sum k: h_enc[s,k] * attention.Wk[k,j] / sqrt(d)"),
                     gradient=Side(found("multiply", after_loop, "x", "sorted_rows")))
        yield source(id="values", title="values of all heads", columns=H,
                     value=Side(left("product", made, "result", "sorted_rows", weight="attention.Wv"),
                                "sum k: h_enc[s,k] * attention.Wv[k,j]"),
                     gradient=Side(found("product", after_loop, "a", "sorted_rows", weight="attention.Wv")))
        yield step(id="a", title="context, all heads side by side", columns=H,
                   value=Side(left("put", forward, "out", "decoder_step")),
                   gradient=Side(found("contiguous", backward, "x", "decoder_step"),
                                 paths=self.table.context_paths()))

    def _of_head(self, i: int) -> Iterator[Quantity]:
        heads = self.table.config.heads
        forward = partial(left, "attention_step_forward", f"{self.FILE}:_attend", layout="decoder_step", head=i,
                          heads=heads)
        dscore = left("attention_step_backward", f"{self.FILE}:step_backward", "dscore", "decoder_step", head=i,
                      heads=heads)
        column = "j" + "+d" * i
        of_step, of_source = (partial(common, columns=self.d, first=i * self.d) for common in (self.step, self.source))
        to_source = partial(self.step, columns=0, column_axis="s")
        yield of_step(id=f"query_{i}", title=f"query of head {i}", of="query", value=Side(None, f"query[t,{column}]"),
                      gradient=Side(None, f"sum s: dscore_{i}[t,s] * keys_{i}[s,j]"))
        yield of_source(id=f"keys_{i}", title=f"keys of head {i}", of="keys", value=Side(None, f"keys[s,{column}]"),
                        gradient=Side(None, f"sum t: dscore_{i}[t,s] * query_{i}[t,j]"))
        yield of_source(id=f"values_{i}", title=f"values of head {i}", of="values",
                        value=Side(None, f"values[s,{column}]"),
                        gradient=Side(None, f"sum t: weights_{i}[t,s] * da_{i}[t,j]"))
        yield to_source(id=f"score_{i}", title=f"score of a source word, head {i}",
                        value=Side(forward("query")._replace(after=False),
                                   f"sum k: query_{i}[t,k] * keys_{i}[s,k]", derived=_compared),
                        gradient=Side(dscore, f"weights_{i}[t,s] * (sum k: da_{i}[t,k] * values_{i}[s,k]"
                                              f" - sum k: da_{i}[t,k] * a_{i}[t,k])"))
        yield to_source(id=f"weights_{i}", title=f"attention weights of head {i}", value=Side(
            forward("weights"), f"exp(score_{i}[t,s]) / (sum r: exp(score_{i}[t,r]))"))
        yield of_step(id=f"a_{i}", title=f"part of the context of head {i}", of="a",
                      value=Side(None, f"sum s: weights_{i}[t,s] * values_{i}[s,j]"),
                      gradient=Side(None, f"da[t,{column}]"))


class _LSTM:
    """The quantities of one LSTM: pre-activations, gates, c and h."""

    def __init__(self, table: _Table, kind: str, l: int, d: int):
        self.table, self.kind, self.l, self.d = table, kind, l, d
        self.decoder, self.number = kind == "dec", l or ""
        self.axis, self.letter = ("t", "H") if self.decoder else ("s", "G")
        self.columns = table.H if self.decoder else table.G
        self.prev, self.next = (f"{self.axis}+1", f"{self.axis}-1") if kind == "bwd" else (
            f"{self.axis}-1", f"{self.axis}+1")
        self.Wx, self.Wh, self.b = (f"{layer_name('decoder' if self.decoder else 'encoder', l)}.{name}"
                                    f"{'' if self.decoder else f'[{d}]'}" for name in ("Wx", "Wh", "b"))
        self.common = partial(Quantity, group=DECODER if self.decoder else ENCODERS[kind], axis=self.axis, kind=kind,
                              reversed=kind == "bwd")

    def at(self, name: str, row: str = "", column: str = "j") -> str:
        """"c_dec[t,j]" of "c"."""
        return f"{self.id(name)}[{row or self.axis},{column}]"

    def id(self, name: str) -> str:
        return f"{name}_{self.kind}{self.number}"

    def argument(self, phase: str, name: str, after: bool) -> Argument:
        place: dict[str, Any] = {"layers": self.table.L} if self.decoder else {"direction": self.d}
        file, *functions = (("models/cells.py", "step", "step_backward") if self.decoder else
                            ("ops/lstm.py", "lstm_forward", "steps_backward"))
        function = f"{file}:{functions[phase == 'backward']}"
        return Argument(op=f"lstm_gates_{phase}", function=function, name=name, after=after, layer=self.l,
                        layout="decoder_step" if self.decoder else "encoder_step", **place)

    def quantities(self) -> Iterator[Quantity]:
        for k, gate in enumerate(GATES):
            yield from self._gate(k, gate)
        z, whole = self.argument("forward", "z", False), 4 * self.columns
        yield self.common(id=self.id("z"), title="pre-activations i, f, g, o", columns=whole, value=Side(z),
                          gradient=Side(self.argument("backward", "dz", True)))
        yield self.common(id=self.id("gates"), title="gates i, f, g, o", columns=whole,
                          value=Side(z._replace(after=True)))
        yield self._cell()
        if self.table.recurrent_dropout:
            mask = left("dropout_mask", "ops/recurrent_dropout.py:recurrent_mask", "result",
                        "decoder_mask" if self.decoder else "encoder_mask", layer=self.l, direction=self.d)
            yield Quantity(id=self.id("mask_h"), title="mask of recurrent dropout, at every step", axis="",
                           kind=self.kind, group=self.common.keywords["group"], columns=self.columns, value=Side(mask))
        yield self.common(id=self.id("h"), title="state h", columns=self.columns, start=self._start("h"),
                          value=Side(self.argument("forward", "h", True), f"{self.at('o')} * tanh({self.at('c')})"),
                          gradient=Side(self.argument("backward", "dh", False), paths=self._state_paths()))

    def _start(self, name: str) -> str:
        return f"{name}_init{self.number}" if self.decoder else ""

    def _gate(self, k: int, gate: str) -> Iterator[Quantity]:
        """Gate number k before and after its activation."""
        common = partial(self.common, columns=self.columns, first=k * self.columns)
        i, g, own = self.at("i"), self.at("g"), self.at(gate)
        times = {"i": f"{self.at('dc')} * {g}", "f": f"{self.at('dc')} * {self.at('c', self.prev)}",
                 "g": f"{self.at('dc')} * {i}", "o": f"{self.at('dh')} * tanh({self.at('c')})"}[gate]
        slope = f"(1 - {g} * {g})" if gate == "g" else f"{own} * (1 - {own})"
        yield common(id=self.id(f"z{gate}"), title=f"pre-activation of gate {gate}", of=self.id("z"),
                     value=Side(None, self._pre_activation(f"j{f'+{self.letter}' * k}")),
                     gradient=Side(None, f"{times} * {slope}"))
        yield common(id=self.id(gate), title="gate g, the new content" if gate == "g" else f"gate {gate}",
                     of=self.id("gates"),
                     value=Side(None, f"{'tanh' if gate == 'g' else 'sigmoid'}({self.at(f'z{gate}')})"))

    def _pre_activation(self, column: str) -> str:
        """x Wx + b + h_prev Wh, and what is fed."""
        fed = {"output": "o[t-1,k]", "context": f"a[{'t' if self.table.config.asks_before else 't-1'},k]",
               "start": "h_init[0,k]", "none": ""}[self.table.config.feed] if self.decoder and self.l == 0 else ""
        return " + ".join([*(f"sum k: {x} * {self.Wx}[{row},{column}]" for x, row in self._inputs()),
                           f"{self.b}[{column}]", f"sum k: {self.at('h', self.prev, 'k')} * "
                           f"{self.Wh}[k,{column}]{self.table.kept(self.kind, self.l, 'k')}",
                           *([f"sum k: {fed} * {self.Wh}[k+H,{column}]"] if fed else [])])

    def _inputs(self) -> list[tuple[str, str]]:
        """What it reads from below, and which rows of Wx are for it."""
        if self.l == 0:
            return [("y[t,k]" if self.decoder else "x[s,k]", "k")]
        if self.decoder:
            return [(f"x_dec{self.l}[t,k]", "k")]
        if self.table.dropout:
            return [(f"x_enc{self.l}[s,k]", "k")]
        return [(f"h_{kind}{self.l - 1 or ''}[s,k]", f"k{'+G' * d}") for kind, d in self.table.directions.items()]

    def _cell(self) -> Quantity:
        c = self.at("c")
        paths = {"state": f"{self.at('dh')} * {self.at('o')} * (1 - tanh({c}) * tanh({c}))",
                 "next": f"{self.at('dc', self.next)} * {self.at('f', self.next)}"}
        if not self.decoder:
            paths["first"] = self._first("c")
        value = f"{self.at('f')} * {self.at('c', self.prev)} + {self.at('i')} * {self.at('g')}"
        return self.common(id=self.id("c"), title="cell c", columns=self.columns, start=self._start("c"),
                           value=Side(self.argument("forward", "c", True), value),
                           gradient=Side(self.argument("backward", "dc", False), inside=THROUGH_STATE, paths=paths))

    def _state_paths(self) -> dict[str, str]:
        """Who reads the state."""
        table, l, row = self.table, self.l, f"j{'+G' * self.d}"
        if self.decoder:
            return table.state_paths(l)
        paths = {"recurrence": f"sum k: {self.at('dz', self.next, 'k')} * {self.Wh}[j,k]"
                               f"{self.table.kept(self.kind, self.l)}", "first": self._first("h")}
        if l == table.L - 1:
            return paths | table.state_of_source_paths(row)
        mask = f" * mask_enc{l + 1}[s,{row}]" if table.dropout else ""
        return paths | {f"input {kind}": f"sum k: dz_{kind}{l + 1}[s,k] * {layer_name('encoder', l + 1)}.Wx[{d}]"
                                         f"[{row},k]{mask}" for kind, d in table.directions.items()}

    def _first(self, name: str) -> str:
        """What the decoder's first state adds: to the state of a sentence's last word, and to no other."""
        return f"sum k: d{name}_init{self.number}[0,k] * {layer_name('init', self.l)}.W{name}[j{'+G' * self.d},k]"


# through the tanh of the score concat, to a query or to a key
_DTANH = "dscore[t,s] * attention.v[j] * (1 - tanh(query[t,j] + keys[s,j]) * tanh(query[t,j] + keys[s,j]))"


def _through_state(trace: Any, call: Call) -> Array:
    """What comes through h = o tanh(c): dh o (1 - tanh(c)^2), as lstm_gates_backward has it."""
    cache = call.arguments["cache"]
    H = cache.tanh_c.shape[-1]
    return call.before["dh"] * cache.gates[..., 3 * H :] * (1 - cache.tanh_c**2)


THROUGH_STATE = Inside("state", "the state h, which is made of it", _through_state)


def _elsewhere(trace: Any, call: Call) -> Array:
    """The rest of the gradient of a word's row: what its other uses add."""
    cache, table = call.arguments["cache"], trace.grads["embed.tgt"]
    name = "embed.tgt" if np.shares_memory(call.arguments["dW"], table) else "embed.src"
    return trace.grads[name][cache.ids] - call.arguments["dy"]


def _compared(trace: Any, call: Call, query: np.ndarray) -> Array:
    """Equation (1) of ops/attention.py once more: the operation keeps the weights alone."""
    keys, v = call.arguments["keys"], call.arguments.get("v")
    return query @ keys.transpose(0, 2, 1) if v is None else np.tanh(query[:, :, None] + keys[:, None]) @ v


def _over_the_source(trace: Any, call: Call, window: np.ndarray) -> Array:
    """What belongs to the words of a window, at these words' columns of the whole source."""
    return trace.over_the_source(call, window)
