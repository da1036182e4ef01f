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

from ..models.config import NMTConfig, layer_name
from .record import Call, GradientPath

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
    weight: str = ""  # that the call multiplies by, if that tells it from others
    direction: int = 0


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


@dataclass(frozen=True)
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
    """Those of a model; dropout: whether masks are drawn."""
    table = _Table(config, dropout)
    return [*table.encoder(), *table.first_states(), *table.attention(), *table.decoder(), *table.readout()]


class _Table:
    """The quantities of one configuration, part by part."""

    def __init__(self, config: NMTConfig, dropout: bool):
        self.config, self.L = config, config.layers
        self.dropout, self.embed_dropout = dropout and config.dropout > 0, dropout and config.embed_dropout > 0
        self.E, self.H, self.M, self.G = config.embed_size, config.hidden_size, config.memory_size, config.encoder_size
        self.directions = {"fwd": 0, "bwd": 1}
        if not config.bidirectional:
            self.directions = {"bwd": 0} if config.reverse_source else {"fwd": 0}
        self.scored = config.attends and config.score
        self.keys = {"general": "keys[{s},{j}]", "concat": "keys[{s},{j}]", "dot": "h_enc[{s},{j}]",
                     "location": "attention.places[{s},{j}]"}.get(config.score, "")
        self.asked = "t-1" if config.asks_before else "t"  # the state that asks for step t
        self.asks = "t+1" if config.asks_before else "t"  # the step that state t asks for

    def _embedded(self, id: str, side: str, axis: str, title: str, paths: dict[str, str]) -> Iterator[Quantity]:
        if self.embed_dropout:
            value = Argument("dropout_forward", "models/nmt.py:_embed", "result.0", True, f"{side}_words")
            gradient = Argument("dropout_backward", "models/nmt.py:backward", "dy", False, f"{side}_words")
        else:
            value = Argument("embedding_forward", "models/nmt.py:_embed", "result.0", True, f"{side}_words")
            gradient = Argument("embedding_backward", "models/nmt.py:backward", "dy", False, f"{side}_words")
        group = SOURCE if side == "source" else DECODER
        yield Quantity(id, title, group, axis, self.E, Side(value), Side(gradient, paths=paths))
        # the table's own row: the same word may be read elsewhere, and a tied table is the vocabulary as well
        table = "embed.src" if side == "source" else "embed.tgt"
        row = Argument("embedding_forward", "models/nmt.py:_embed", "result.0", True, f"{side}_words")
        rest = Inside("elsewhere", "the same word elsewhere" + (
            ", and as a word to predict" if table == "embed.tgt" and self.config.tie_embeddings else ""), _elsewhere)
        same = "" if self.embed_dropout else f"{id}[{axis},j]"
        yield Quantity(f"row_{id}", f"row of {table}", group, axis, self.E, Side(row, same), Side(Argument(
            "embedding_backward", "models/nmt.py:backward", "dy", False, f"{side}_words"),
            paths={**dict.fromkeys(paths, ""), "elsewhere": ""}, inside=rest))

    def encoder(self) -> Iterator[Quantity]:
        of = {f"direction {d}" if len(self.directions) > 1 else "": (kind, d) for kind, d in self.directions.items()}
        yield from self._embedded("x", "source", "s", "embedded source word", {
            f"input {kind}": f"sum k: dz_{kind}[s,k] * encoder.Wx[{d}][j,k]" for kind, d in of.values()})
        for l in range(self.L):
            for kind, d in self.directions.items():
                yield from self._cell(f"_{kind}{l or ''}", kind, l, d)

    def _cell(self, suffix: str, kind: str, l: int, d: int) -> Iterator[Quantity]:
        """Pre-activations, gates, c and h of one LSTM."""
        decoder = kind == "dec"
        group, axis, H = (DECODER, "t", self.H) if decoder else (ENCODERS[kind], "s", self.G)
        files = {"forward": "models/cells.py:step", "backward": "models/cells.py:step_backward"} if decoder else {
            "forward": "ops/lstm.py:lstm_forward", "backward": "ops/lstm.py:lstm_backward"}

        def side(phase: str, name: str, after: bool, formula: str = "", **options: Any) -> Side:
            argument = Argument(f"lstm_gates_{phase}", files[phase], name, after, "decoder_step" if decoder
                                else "encoder_step", l, self.L if decoder else 1, direction=d)
            return Side(argument, formula, **options)

        Wx, Wh, b = (f"{layer_name('decoder' if decoder else 'encoder', l)}.{name}{'' if decoder else f'[{d}]'}"
                     for name in ("Wx", "Wh", "b"))
        prev, next_ = (f"{axis}+1", f"{axis}-1") if kind == "bwd" else (f"{axis}-1", f"{axis}+1")
        common = partial(Quantity, group=group, axis=axis, kind=kind, reversed=kind == "bwd")
        start = {"h": f"h_init{l or ''}", "c": f"c_init{l or ''}"} if decoder else {"h": "", "c": ""}
        i, f, g, o, c, h = (f"{name}{suffix}" for name in "ifgoch")
        at = f"[{axis},j]"
        for k, gate in enumerate(GATES):
            column = "j" + "+H" * k if decoder else "j" + "+G" * k
            into = f"dc{suffix}{at}" if gate != "o" else f"dh{suffix}{at} * tanh({c}{at})"
            times = {"i": f"{g}{at}", "f": f"{c}[{prev},j]", "g": f"{i}{at}", "o": ""}[gate]
            slope = f"(1 - {g}{at} * {g}{at})" if gate == "g" else f"{gate}{suffix}{at} * (1 - {gate}{suffix}{at})"
            yield common(title=f"pre-activation of gate {gate}", columns=H, id=f"z{gate}{suffix}",
                         of=f"z{suffix}", first=k * H,
                         value=Side(None, self._pre_activation(kind, l, d, axis, prev, column, Wx, Wh, b)),
                         gradient=Side(None, " * ".join(filter(None, (into, times, slope)))))
            function = "tanh" if gate == "g" else "sigmoid"
            yield common(title=f"gate {gate}" if gate != "g" else "gate g, the new content", columns=H,
                         id=f"{gate}{suffix}", of=f"gates{suffix}", first=k * H,
                         value=Side(None, f"{function}(z{gate}{suffix}{at})"))
        yield common(title="pre-activations i, f, g, o", columns=4 * H, id=f"z{suffix}",
                     value=side("forward", "z", False), gradient=side("backward", "dz", True))
        yield common(title="gates i, f, g, o", columns=4 * H, id=f"gates{suffix}",
                     value=side("forward", "z", True))
        through_h = f"dh{suffix}{at} * {o}{at} * (1 - tanh({c}{at}) * tanh({c}{at}))"
        yield common(title="cell c", columns=H, id=c, start=start["c"],
                     value=side("forward", "c", True, f"{f}{at} * {c}[{prev},j] + {i}{at} * {g}{at}"),
                     gradient=side("backward", "dc", False, inside=THROUGH_STATE, paths={
                         "state": through_h, "next": f"d{c}[{next_},j] * {f}[{next_},j]",
                         **({} if decoder else {"first": self._first_state("c", l, d)})}))
        paths = self._decoder_state_paths(l) if decoder else self._encoder_state_paths(l, d, kind, next_)
        yield common(title="state h", columns=H, id=h, start=start["h"],
                     value=side("forward", "h", True, f"{o}{at} * tanh({c}{at})"),
                     gradient=side("backward", "dh", False, paths=paths))

    def _pre_activation(self, kind: str, l: int, d: int, axis: str, prev: str, column: str, Wx: str, Wh: str,
                        b: str) -> str:
        below = self._below(kind, l, axis, Wx, column)
        h = f"h_{kind}{l or ''}"
        return f"{below} + {b}[{column}] + sum k: {h}[{prev},k] * {Wh}[k,{column}]" + (
            self._fed(column) if kind == "dec" and l == 0 else "")

    def _below(self, kind: str, l: int, axis: str, Wx: str, column: str) -> str:
        """What the layer below contributes."""
        if l == 0:
            return f"sum k: {'y[t,k]' if kind == 'dec' else 'x[s,k]'} * {Wx}[k,{column}]"
        if kind == "dec":
            return f"sum k: x_dec{l}[t,k] * {Wx}[k,{column}]"
        if self.dropout:
            return f"sum k: x_enc{l}[s,k] * {Wx}[k,{column}]"
        return " + ".join(f"sum k: h_{below}{l - 1 or ''}[s,k] * {Wx}[k{'+G' * n},{column}]"
                          for below, n in self.directions.items())

    def _fed(self, column: str) -> str:
        read = {"output": "o[t-1,k]", "context": "a[t,k]" if self.config.asks_before else "a[t-1,k]",
                "start": "h_init[0,k]", "none": ""}[self.config.feed]
        return f" + sum k: {read} * decoder.Wh[k+H,{column}]" if read else ""

    def _first_state(self, name: str, l: int, d: int) -> str:
        """What the decoder's first state adds to the gradient of a sentence's last state in direction d."""
        row = "j" + "+G" * d
        return f"sum k: d{name}_init{l or ''}[0,k] * {layer_name('init', l)}.W{name}[{row},k]"

    def _decoder_state_paths(self, l: int) -> dict[str, str]:
        number, top = l or "", l == self.L - 1
        paths = {"recurrence": f"sum k: dz_dec{number}[t+1,k] * {layer_name('decoder', l)}.Wh[j,k]"}
        if not top:
            return paths | {"above": f"sum k: dz_dec{l + 1}[t,k] * {layer_name('decoder', l + 1)}.Wx[j,k]" + (
                f" * mask_dec{l + 1}[t,j]" if self.dropout else "")}
        if self.config.readout == "output":
            paths["readout"] = f"sum k: dp[t,k] * combine.W[j{'+M' if self.config.attends else ''},k]"
        else:
            paths["loss"] = "" if self.dropout else "do[t,j]"
        if self.scored == "concat":
            paths["query"] = f"sum k: dquery[{self.asks},k] * attention.W[j,k]"
        elif self.scored:
            paths["query"] = f"sum s: dscore[{self.asks},s] * {self.keys.format(s='s', j='j')}"
        if self.config.attention == "local-p":
            paths["place"] = ""
        return paths

    def _encoder_state_paths(self, l: int, d: int, kind: str, next_: str) -> dict[str, str]:
        name, number, row = layer_name("encoder", l), l or "", "j" + "+G" * d
        paths = {"recurrence": f"sum k: dz_{kind}{number}[{next_},k] * {name}.Wh[{d}][j,k]",
                 "first": self._first_state("h", l, d)}
        if l < self.L - 1:
            mask = f" * mask_enc{l + 1}[s,{row}]" if self.dropout else ""
            return paths | {f"input {other}": f"sum k: dz_{other}{l + 1}[s,k] * {layer_name('encoder', l + 1)}.Wx[{e}]"
                                              f"[{row},k]{mask}" for other, e in self.directions.items()}
        return paths | self._source_paths(row)

    def _source_paths(self, row: str) -> dict[str, str]:
        """How attention reads a source word's state."""
        paths = {"values": f"sum t: weights[t,s] * da[t,{row}]"} if self.scored else {}
        if self.scored == "dot":
            paths["keys"] = f"sum t: dscore[t,s] * h_dec{self.L - 1 or ''}[{self.asked},{row}]"
        elif self.scored in ("general", "concat"):
            lower = "+H" if self.scored == "concat" else ""
            paths["keys"] = f"sum k: dkeys[s,k] * attention.W[{row}{lower},k]"
        return paths

    def first_states(self) -> Iterator[Quantity]:
        for l in range(self.L):
            for name in "hc":
                number, W = l or "", f"{layer_name('init', l)}.W{name}"
                parts = [f"sum k: {name}_{kind}{number}[{'0' if kind == 'bwd' else 'S-1'},k] * {W}[k{'+G' * d},j]"
                         for kind, d in self.directions.items()]
                argument = Argument("product", "models/encoder.py:encoder_forward", "result", True, "sentence",
                                    weight=W)
                gradient = Argument("product", "models/encoder.py:encoder_backward", "a", False, "sentence", weight=W)
                paths = {"recurrence": f"sum k: dz_dec{number}[0,k] * {layer_name('decoder', l)}.Wh[j,k]"}
                if name == "c":
                    paths = {"next": f"dc_dec{number}[0,j] * f_dec{number}[0,j]"}
                elif self.config.asks_before and l == self.L - 1:
                    paths |= {"query": self._decoder_state_paths(l)["query"].replace("t+1", "0")}
                    if self.config.attention == "local-p":
                        paths["place"] = ""
                if name == "h" and l == 0 and self.config.feed == "start":
                    paths["start"] = "sum t: (sum k: dz_dec[t,k] * decoder.Wh[j+H,k])"
                yield Quantity(f"{name}_init{number}", f"first {'state h' if name == 'h' else 'cell c'} of the decoder",
                               DECODER, "", self.H, Side(argument, " + ".join(parts)), Side(gradient, paths=paths),
                               kind="dec")

    def attention(self) -> Iterator[Quantity]:
        if not self.scored:
            return
        enc = Argument("contiguous", "models/attention/global_attention.py:__init__", "x", False, "sorted_sentences")
        taken = Argument("take", "ops/lstm.py:lstm_backward", "x", False, "rows_by_direction")
        parts = [f"h_{kind}{self.L - 1 or ''}" for kind in self.directions]
        yield Quantity("h_enc", f"state of the encoder, [{'; '.join(parts)}]", ATTENTION, "s", self.M,
                       Side(enc), Side(taken, paths=self._source_paths("j")))
        if self.scored in ("general", "concat"):
            lower = "+H" if self.scored == "concat" else ""
            made = Argument("product", "ops/attention.py:attention_keys", "result", True, "sorted_rows")
            back = Argument("product", "ops/attention.py:attention_keys_backward", "a", False, "sorted_rows",
                            weight="attention.W")
            state = f"h_dec{self.L - 1 or ''}"
            dkeys = f"sum t: dscore[t,s] * {state}[{self.asked},j]" if self.scored == "general" else (
                "sum t: dscore[t,s] * attention.v[j] * (1 - tanh(query[t,j] + keys[s,j]) * "
                "tanh(query[t,j] + keys[s,j]))")
            yield Quantity("keys", "keys: what states are compared with", ATTENTION, "s", self.H,
                           Side(made, f"sum k: h_enc[s,k] * attention.W[k{lower},j]"), Side(back, dkeys))
        step = "models/attention/global_attention.py:step"
        scored = "models/attention/scores.py:step_backward"
        if self.config.attention == "local-p":
            step = "models/attention/predictive.py:step"
        everywhere = self.config.attention == "global"
        if self.scored == "concat":
            yield Quantity("query", "query: what is compared with the keys", ATTENTION, "t", self.H,
                           Side(Argument("attention_step_forward", step, "query", False, "decoder_step"),
                                f"sum k: h_dec{self.L - 1 or ''}[{self.asked},k] * attention.W[k,j]"),
                           Side(Argument("attention_step_backward", scored, "dquery", True, "decoder_step"),
                                "sum s: dscore[t,s] * attention.v[j] * (1 - tanh(query[t,j] + keys[s,j]) * "
                                "tanh(query[t,j] + keys[s,j]))"))
        asked = f"h_dec{self.L - 1 or ''}[{self.asked},k]"
        score = ("sum k: attention.v[k] * tanh(query[t,k] + keys[s,k])" if self.scored == "concat" else
                 f"sum k: {asked} * {self.keys.format(s='s', j='k')}")
        dscore = ("weights[t,s] * (sum k: da[t,k] * h_enc[s,k] - sum k: da[t,k] * a[t,k])"
                  if self.config.attention != "local-p" else "")
        yield Quantity("score", "score of a source word", ATTENTION, "t", 0,
                       Side(Argument("attention_step_forward", step, "query", False, "decoder_step"), score,
                            derived=_scores) if everywhere else None,
                       Side(Argument("attention_step_backward", scored, "dscore", True, "decoder_step"), dscore,
                            derived=None if everywhere else _over_the_source), column_axis="s")
        yield Quantity("weights", "attention weights", ATTENTION, "t", 0,
                       Side(Argument("attention_step_forward", step, "weights", True, "decoder_step"),
                            "exp(score[t,s]) / (sum r: exp(score[t,r]))" if everywhere else "",
                            derived=None if everywhere else _over_the_source), column_axis="s")
        feeding = {"context": "sum k: dz_dec[t+1,k] * decoder.Wh[j+H,k]"}
        if self.config.asks_before:
            feeding = {"context": "sum k: dz_dec[t,k] * decoder.Wh[j+H,k]"}
        paths = {}
        if self.config.readout == "output":
            paths["readout"] = "sum k: dp[t,k] * combine.W[j,k]"
        if self.config.feed == "context":
            paths["feeding"] = feeding["context"]
        yield Quantity("a", "context", ATTENTION, "t", self.M,
                       Side(Argument("attention_step_forward", step, "context", True, "decoder_step"),
                            "sum s: weights[t,s] * h_enc[s,j]"),
                       Side(Argument("attention_step_backward", scored, "dcontext", False, "decoder_step"),
                            paths=paths))

    def decoder(self) -> Iterator[Quantity]:
        yield from self._embedded("y", "target", "t", "embedded target word, the one before",
                             {"input dec": "sum k: dz_dec[t,k] * decoder.Wx[j,k]"})
        for l in range(self.L):
            yield from self._cell(f"_dec{l or ''}", "dec", l, 0)
            if l + 1 < self.L:
                yield from self._between(l + 1)

    def _between(self, l: int) -> Iterator[Quantity]:
        """What the layers above the first read."""
        below = f"h_dec{l - 1 or ''}[t,j]"
        x = Argument("product", "models/cells.py:inputs", "a", False, "decoder_step",
                     weight=f"{layer_name('decoder', l)}.Wx")
        yield Quantity(f"x_dec{l}", "input of the layer", DECODER, "t", self.H, kind="dec",
                       value=Side(x, f"{below} * mask_dec{l}[t,j]" if self.dropout else below))
        if not self.dropout:
            return
        mask = Argument("multiply", "models/decoder.py:_layers_forward", "mask", False, "decoder_step", l - 1,
                        self.L - 1)
        yield Quantity(f"mask_dec{l}", "mask of dropout", DECODER, "t", self.H, Side(mask), kind="dec")
        # all directions side by side
        made = Argument("dropout_forward", "models/encoder.py:encoder_forward", "result.0", True, "source_words", l - 1,
                        self.L - 1)
        yield Quantity(f"x_enc{l}", "input of the encoder's layer", SOURCE, "s", self.M, Side(made))
        yield Quantity(f"mask_enc{l}", "mask of dropout", SOURCE, "s", self.M,
                       Side(made._replace(name="result.1.mask")))

    def readout(self) -> Iterator[Quantity]:
        words = Argument("cross_entropy_in_place", "ops/linear_cross_entropy.py:_by_chunks", "z", False, "packed_rows")
        W = "embed.tgt[j,k]" if self.config.tie_embeddings else "vocab.W[k,j]"
        W_back = "embed.tgt[k,j]" if self.config.tie_embeddings else "vocab.W[j,k]"
        loss = {"loss": f"sum k: dlogits[t,k] * {W_back}"}
        if self.config.readout == "output":
            function = "models/readout.py:step"
            M = "+M" if self.config.attends else ""
            state = f"sum k: h_dec{self.L - 1 or ''}[t,k] * combine.W[k{M},j]"
            context = "sum k: a[t,k] * combine.W[k,j] + " if self.config.attends else ""
            mask = " * mask_o[t,j]" if self.dropout else ""
            dp = f"do[t,j]{mask} * (1 - tanh(p[t,j]) * tanh(p[t,j]))"
            forward = Argument("tanh_dropout_forward", function, "p", False, "decoder_step")
            backward = Argument("tanh_dropout_backward", "models/readout.py:step_backward", "dp", True, "decoder_step")
            if self.dropout:
                yield Quantity("mask_o", "mask of dropout", OUTPUT, "t", self.H, Side(forward._replace(name="mask")))
            yield Quantity("p", "what tanh is taken of, [a; h] combine.W", OUTPUT, "t", self.H,
                           Side(forward, context + state), Side(backward, dp))
            if self.config.feed == "output":
                loss["feeding"] = "sum k: dz_dec[t+1,k] * decoder.Wh[j+H,k]"
            yield Quantity("o", "attentional output", OUTPUT, "t", self.H,
                           Side(forward._replace(name="o", after=True), f"tanh(p[t,j]){mask}"),
                           Side(backward._replace(name="do", after=False), paths=loss))
        else:
            rows = Argument("product", "ops/linear_cross_entropy.py:_by_chunks", "a", False, "packed_rows", 0, 2,
                            weight="embed.tgt" if self.config.tie_embeddings else "vocab.W")
            yield Quantity("o", "what the vocabulary is read from", OUTPUT, "t", self.H,
                           Side(rows, "" if self.dropout else f"h_dec{self.L - 1 or ''}[t,j]"),
                           Side(rows._replace(name="out", after=True, layer=1), paths=loss))
        yield Quantity("logits", "logits", OUTPUT, "t", self.config.tgt_vocab_size,
                       Side(words, f"sum k: o[t,k] * {W}"), Side(words._replace(after=True)), column_axis="words")


def _through_state(trace: Any, call: Call) -> np.ndarray:
    """What comes through h = o tanh(c): dh o (1 - tanh(c)^2), as lstm_gates_backward has it."""
    cache = call.arguments["cache"]
    H = cache.tanh_c.shape[-1]
    return call.before["dh"] * cache.gates[..., 3 * H :] * (1 - cache.tanh_c**2)


THROUGH_STATE = Inside("state", "the state h, which is made of it", _through_state)


def _elsewhere(trace: Any, call: Call) -> np.ndarray:
    """The rest of the gradient of a word's row: what its other uses add."""
    cache, table = call.arguments["cache"], trace.grads["embed.tgt"]
    name = "embed.tgt" if np.shares_memory(call.arguments["dW"], table) else "embed.src"
    return trace.grads[name][cache.ids] - call.arguments["dy"]


def _scores(trace: Any, call: Call, query: np.ndarray) -> np.ndarray:
    """Equation (1) of ops/attention.py once more: the operation keeps the weights alone."""
    keys, v = call.arguments["keys"], call.arguments.get("v")
    return query @ keys.transpose(0, 2, 1) if v is None else np.tanh(query[:, :, None] + keys[:, None]) @ v


def _over_the_source(trace: Any, call: Call, window: np.ndarray) -> np.ndarray:
    """What belongs to the words of a window, at these words' columns of the whole source."""
    return trace.over_the_source(call, window)


# what a path is called: by the function that adds it, the operation and the weight without its layer
PATHS = {
    ("_by_chunks", "product", "vocab.W"): ("loss", "this word's loss, by the vocabulary"),
    ("_by_chunks", "product", "embed.tgt"): ("loss", "this word's loss, by the vocabulary"),
    ("microscope", "loss", ""): ("loss", "this word's loss, by the vocabulary"),
    ("step_backward", "transposed_product", "combine.W"): ("readout", "the attentional output o"),
    ("step_backward", "attention_step_backward", ""): ("query", "attention, as the query"),
    ("step_backward", "product", "attention.W"): ("query", "attention, as the query"),
    ("step_backward", "transposed_product", "window.W"): ("place", "attention, for the place of the window"),
    ("_layers_backward", "transposed_product", "decoder.Wh"): ("recurrence", "the next step of the LSTM"),
    ("_layers_backward", "transposed_product", "decoder.Wx"): ("above", "the layer above"),
    ("_start_gradients", "transposed_product", "decoder.Wh"): ("start", "fed to every step"),
    ("step_backward", "lstm_gates_backward", ""): ("next", "the next step, by its forget gate"),
    ("lstm_backward", "lstm_gates_backward", ""): ("next", "the next step, by its forget gate"),
    ("lstm_backward", "transposed_product", "encoder.Wh"): ("recurrence", "the next step of the LSTM"),
    ("lstm_backward", "product", "encoder.Wx"): ("input", "the LSTM that reads it"),
    ("_weight_gradients", "product", "decoder.Wx"): ("input dec", "the decoder, which reads it"),
    ("_sums", "product", ""): ("values", "attention, as a value"),
    ("attention_keys_backward", "product", "attention.W"): ("keys", "attention, as a key"),
    ("dkeys", "product", ""): ("keys", "attention, as a key"),
    ("encoder_backward", "product", "init.Wh"): ("first", "the decoder's first state"),
    ("encoder_backward", "product", "init.Wc"): ("first", "the decoder's first cell"),
}


def weight_without_layer(name: str) -> str:
    """"decoder.Wh" of "decoder.1.Wh"."""
    part, _, rest = name.partition(".")
    return f"{part}.{rest.rpartition('.')[2]}" if rest else part


def name_of(path: GradientPath, quantity: Quantity, directions: list[str]) -> tuple[str, str]:
    """id and label of a path to a quantity; directions: "fwd" and "bwd", or one of them."""
    weight = weight_without_layer(path.weight)
    if (path.site.function, path.op, weight) not in PATHS:
        return path.site.function, f"{path.site.function} in {path.site.file}"
    id, label = PATHS[path.site.function, path.op, weight]
    if id == "recurrence" and quantity.id in ("o", "a"):
        return "feeding", "fed to the next step" if quantity.id == "o" else "fed to the decoder"
    if id == "input":
        kind = directions[int(path.part.removeprefix("direction ") or 0)]
        return f"input {kind}", f"the {ENCODERS[kind].replace('encoder, ', 'encoder that reads ')}"
    return id, label
