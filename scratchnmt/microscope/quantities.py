"""What a reader of the equations calls by name, and where a recorded step has it: h_dec[t], dz_fwd[s], weights[t, s].

A quantity is an argument of an operation: the state of the decoder is what lstm_gates_forward writes to `h`, and its
gradient what lstm_gates_backward finds in `dh`, at each step.  So one table says for each quantity which argument it
is, how that argument's rows belong to words, and the formula by which it follows from others.  The formulas are not
only shown: tests evaluate them on recorded numbers, in every configuration (see formulas.py).

The names are those of the textbook; a further layer's have its number behind them, h_dec1.  dX is the gradient of X.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import InputError
from ..models.config import NMTConfig, layer_name
from .heads import Heads, compared
from .lstm import LSTM
from .quantity import ATTENTION, DECODER, OUTPUT, SOURCE, Inside, Quantity, Side, found, left
from .record import Call

# through the tanh of the score concat, to a query or to a key
_DTANH = "dscore[t,s] * attention.v[j] * (1 - tanh(query[t,j] + keys[s,j]) * tanh(query[t,j] + keys[s,j]))"


def quantities(config: NMTConfig, dropout: bool) -> list[Quantity]:
    """Those of a model; dropout: whether masks are drawn.  InputError for what it does not know."""
    if config.cell != "lstm":
        raise InputError(f"microscope: the cell of this model is {config.cell!r}, and only 'lstm' is taken apart here")
    if dropout and config.r_drop:
        raise InputError("microscope: with dropout a model of R-Drop goes through each sentence twice, and one pass is "
                         "taken apart here: leave the seed out")
    table = Table(config, dropout)
    return [*table.encoder(), *table.first_states(), *table.attention(), *table.decoder(), *table.readout()]


def sizes(config: NMTConfig) -> dict[str, int]:
    """The constants of formulas that a configuration has."""
    heads = {"d": config.hidden_size // config.heads} if config.attention == "multi-head" else {}
    return {"E": config.embed_size, "H": config.hidden_size, "M": config.memory_size, "G": config.encoder_size, **heads}


class Table:
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
                yield from LSTM(self, kind, l, d).quantities()

    def decoder(self) -> Iterator[Quantity]:
        yield from self._embedded("y", "target", "embedded target word, the one before",
                                  {"input dec": "sum k: dz_dec[t,k] * decoder.Wx[j,k]"})
        for l in range(self.L):
            yield from LSTM(self, "dec", l, 0).quantities()
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
            yield from Heads(self).quantities()
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
                     value=Side(query, score, derived=compared) if everywhere else None,
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


def _elsewhere(trace: Any, call: Call) -> Array:
    """The rest of the gradient of a word's row: what its other uses add."""
    cache, table = call.arguments["cache"], trace.grads["embed.tgt"]
    name = "embed.tgt" if np.shares_memory(call.arguments["dW"], table) else "embed.src"
    return trace.grads[name][cache.ids] - call.arguments["dy"]


def _over_the_source(trace: Any, call: Call, window: np.ndarray) -> Array:
    """What belongs to the words of a window, at these words' columns of the whole source."""
    return trace.over_the_source(call, window)
