"""What an NMT model is made of, in words, and the shapes of the weights that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

from ..errors import END, InputError, check_choice, shown, unknown_names
from .attention import ATTENTIONS, attention_class
from .attention.scores import SCORES
from .cells import CELLS, Cell
from .initialization import INITIALIZERS
from .readout import READOUTS

NO_ATTENTION = "none"
FEEDS = ("output", "context", "start", "none")
QUERIES = ("state", "previous")
_MOST = {"layers": 100, "window": 10_000}  # what a number in a file could make endless
PRESETS: dict[str, dict[str, Any]] = {  # the models of papers and courses, as far as choices make them
    "cs224n": {},
    "context-feeding": {"feed": "context", "readout": "state"},
    "luong": {"layers": 4, "bidirectional": False, "reverse_source": True},
    "sutskever": {"score": NO_ATTENTION, "readout": "state", "feed": "none", "layers": 4, "bidirectional": False,
                  "reverse_source": True},
    "bahdanau": {"score": "concat", "query": "previous", "feed": "context"},
    "cho": {"score": NO_ATTENTION, "readout": "state", "feed": "start", "bidirectional": False},
}
# fields that change no operation of a pass: sizes, rates and loss of training, where the weights start
FREE = ("src_vocab_size", "tgt_vocab_size", "embed_size", "hidden_size", "dropout", "embed_dropout", "word_dropout",
        "recurrent_dropout", "encoder_dropout", "label_smoothing", "r_drop", "init", "max_source", "window", "heads")
DROPOUTS = ("dropout", "embed_dropout", "word_dropout", "recurrent_dropout", "encoder_dropout")
OLD_PRESETS = {"seed": "context-feeding"}  # names of the first versions


@dataclass(frozen=True)
class NMTConfig:
    """Sizes and choices of one model.  Raises InputError naming the field that is out of range.

    - score: "dot", "general", "concat" or "location" (Luong et al. 2015).  With "dot" the encoder's width must be
      the decoder's, so each of the two directions has hidden_size / 2 units.  "none": no attention; the decoder
      knows the source by the state that it starts from alone (Sutskever et al. 2014).
    - attention: "global", or to a window of the source: "local-m", which moves on by one token a step, or "local-p",
      whose position is predicted (Luong et al. 2015, section 3.2).  Or "multi-head": to the whole source by several
      heads (Vaswani et al. 2017), which compare by a score of their own; `score` is then "general".
    - window: tokens on each side of the middle of such a window.
    - heads: of attention "multi-head"; their number divides hidden_size.
    - query: what looks for the source: the "state" of the step, or the "previous" one, before the word of this step
      is read; then what feed "context" hands a step is the context that it has asked for itself (Bahdanau et al. 2015).
    - feed: what a decoder step receives beside its state: the attentional "output" of the step before
      (Luong's input feeding), its "context" vector, the state that the decoder "start"s from, again at every step
      (Cho et al. 2014), or "none".
    - readout: what the vocabulary is read from: the attentional "output", or the "state" of the last layer.
    - max_source: positions that score "location" knows; no source may have more tokens.
    - reverse_source: an encoder of one direction reads the source from its end (Sutskever et al. 2014).
    - cell: the recurrent cell of encoder and decoder, "lstm" or "layer-norm-lstm" (Ba, Kiros & Hinton 2016).
    - dropout: on the attentional output and between layers.  embed_dropout: on both embeddings, number by number.
      word_dropout: on both embeddings, a whole word at once (Sennrich, Haddow & Birch 2016, WMT, section 2.4).
      recurrent_dropout: on what a step reads of the state before, with one mask for all steps of a sentence
      (Gal & Ghahramani 2016).  encoder_dropout: on the encoder's states, as the attention reads them (Caglayan et al.
      2017, LIUM-CVC, whose configuration calls it ctx_dropout).
    - r_drop: alpha of R-Drop (Liang et al. 2021; see ops/r_drop.py): where masks of dropout are drawn, each sentence
      passes twice, and the divergence of the two predictions is a part of the loss.  0: one pass.
    """

    src_vocab_size: int
    tgt_vocab_size: int
    embed_size: int
    hidden_size: int
    layers: int = 1
    bidirectional: bool = True
    score: str = "general"
    feed: str = "output"
    dropout: float = 0.0
    embed_dropout: float = 0.0
    tie_embeddings: bool = False
    label_smoothing: float = 0.0
    init: str = "uniform"
    readout: str = "output"
    reverse_source: bool = False
    max_source: int = 128
    attention: str = "global"
    window: int = 10
    query: str = "state"
    word_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    cell: str = "lstm"
    heads: int = 4
    r_drop: float = 0.0
    encoder_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("src_vocab_size", "tgt_vocab_size", "embed_size", "hidden_size", "layers", "max_source",
                     "window", "heads"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{name} is {shown(value)}, expected a whole number of at least 1")
            if value > (most := _MOST.get(name, END - 1)):
                raise InputError(f"{name} is {shown(value)}, expected at most {most}")
        for name in (*DROPOUTS, "label_smoothing"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise InputError(f"{name} is {shown(value)}, expected 0 <= {name} < 1")
        if not isinstance(self.r_drop, (int, float)) or not 0 <= self.r_drop < END:  # finite, and printable
            raise InputError(f"r_drop is {shown(self.r_drop)}, expected a number of at least 0 and below 2^63")
        if self.r_drop and not self.drops:
            raise InputError("r_drop needs dropout: without it both passes are the same; choose a dropout above 0")
        for name in ("bidirectional", "tie_embeddings", "reverse_source"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is {shown(getattr(self, name))}, expected True or False")
        for name, known in (("score", (*SCORES, NO_ATTENTION)), ("feed", FEEDS), ("readout", READOUTS),
                            ("init", INITIALIZERS), ("attention", ATTENTIONS), ("query", QUERIES), ("cell", CELLS)):
            check_choice(name, getattr(self, name), known)
        if self.tie_embeddings and self.embed_size != self.hidden_size:
            raise InputError("tie_embeddings needs embed_size = hidden_size, "
                             f"not {self.embed_size} and {self.hidden_size}")
        if self.reverse_source and self.bidirectional:
            raise InputError("reverse_source is for an encoder of one direction: choose bidirectional=False with it")
        for name, without in (("feed", {"output", "start", "none"}), ("attention", {"global"}), ("query", {"state"})):
            if (value := getattr(self, name)) not in without and not self.attends:
                raise InputError(f"{name} {shown(value)} needs attention: choose another score than 'none'")
        if self.encoder_dropout and not self.attends:
            raise InputError("encoder_dropout needs attention: score 'none' does not read the encoder's states")
        if self.attention == "multi-head" and self.score != "general":
            raise InputError(f"score {shown(self.score)} is not for attention 'multi-head', which has a score of its "
                             "own: leave it out, or choose attention 'global'")
        if self.attention == "multi-head" and self.hidden_size % self.heads:
            raise InputError(f"heads is {self.heads}, expected a divisor of hidden_size, {self.hidden_size}, with "
                             "attention 'multi-head'")
        if self.feed == "output" and self.readout == "state":
            raise InputError("feed 'output' needs readout 'output': "
                             "with readout 'state' there is no attentional output")
        if self.score == "dot" and self.hidden_size % self.directions:
            raise InputError(f"score 'dot' with two directions needs an even hidden_size, not {self.hidden_size}")

    # what follows from the fields is computed once: it is asked for at every step
    @cached_property
    def recurrent_cell(self) -> Cell:
        """Of encoder and decoder."""
        return CELLS[self.cell]

    @cached_property
    def directions(self) -> int:
        """Of the encoder: 2 or 1."""
        return 2 if self.bidirectional else 1

    @cached_property
    def encoder_size(self) -> int:
        """Hidden units of one direction of the encoder."""
        return self.hidden_size // self.directions if self.score == "dot" else self.hidden_size

    @cached_property
    def memory_size(self) -> int:
        """Columns of h_enc, M: the states of all directions."""
        return self.encoder_size * self.directions

    @cached_property
    def attends(self) -> bool:
        """Whether there is attention."""
        return self.score != NO_ATTENTION

    @cached_property
    def asks_before(self) -> bool:
        """Whether the attention comes before the recurrent cells of its step."""
        return self.attends and self.query == "previous"

    @cached_property
    def drops(self) -> bool:
        """Whether there is any dropout."""
        return any(getattr(self, name) for name in DROPOUTS)

    @cached_property
    def passes(self) -> int:
        """Of each sentence through the model where masks of dropout are drawn: 2 with R-Drop."""
        return 2 if self.r_drop else 1

    @cached_property
    def longest(self) -> int | None:
        """Tokens that a source may have; None: any number."""
        return self.max_source if self.score == "location" else None

    @cached_property
    def context_size(self) -> int:
        """Columns of the context vector; 0 without attention."""
        return attention_class(self).context_size(self)

    @cached_property
    def fed_size(self) -> int:
        """Columns of what a step receives beside the decoder's own state."""
        H, C = self.hidden_size, self.context_size
        return {"output": H, "context": C, "start": H, "none": 0}[self.feed]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every weight; see docs/attention.md for the equations they stand in."""
        E, H, M = self.embed_size, self.hidden_size, self.memory_size
        D, G, cell = self.directions, self.encoder_size, self.recurrent_cell
        blocks = cell.weight_blocks
        shapes: dict[str, tuple[int, ...]] = {}
        shapes.update({"embed.src": (self.src_vocab_size, E), "embed.tgt": (self.tgt_vocab_size, E)})
        for l in range(self.layers):
            encoder, init, decoder = (layer_name(part, l) for part in ("encoder", "init", "decoder"))
            recurrent = H + self.fed_size if l == 0 else H
            shapes.update({
                f"{encoder}.Wx": (D, E if l == 0 else M, blocks * G),
                f"{encoder}.Wh": (D, G, blocks * G), f"{encoder}.b": (D, cell.bias_blocks * G),
                **{f"{init}.W{state}": (M, H) for state in cell.states},
                f"{decoder}.Wx": (E if l == 0 else H, blocks * H),
                f"{decoder}.Wh": (recurrent, blocks * H), f"{decoder}.b": (cell.bias_blocks * H,),
            })
            if cell.gain_blocks:
                shapes |= {f"{encoder}.g": (D, cell.gain_blocks * G), f"{decoder}.g": (cell.gain_blocks * H,)}
        shapes.update(attention_class(self).shapes(self))
        if self.readout == "output":
            shapes["combine.W"] = (self.context_size + H, H)
        if not self.tie_embeddings:
            shapes["vocab.W"] = (H, self.tgt_vocab_size)
        return shapes

    def to_dict(self) -> dict[str, Any]:
        """Every field, in the types of JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NMTConfig:
        """The config of `to_dict`, of an earlier version too; InputError if a field is unknown, or a size missing."""
        known = {field.name: field.default for field in fields(cls)}
        missing = ", ".join(name for name, default in known.items() if default is MISSING and name not in values)
        wrong = {"unknown": unknown_names(values, known), "missing": missing}
        if any(wrong.values()):
            raise InputError("model config: " + "; ".join(f"{what} {names}" for what, names in wrong.items() if names))
        return cls(**values)


@lru_cache
def layer_name(part: str, layer: int) -> str:
    """"encoder" for the first layer, "encoder.1" for the second, and so on."""
    return part if layer == 0 else f"{part}.{layer}"
