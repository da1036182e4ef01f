"""What an NMT model is made of, in words, and the shapes of the weights that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from ..errors import InputError
from ..ops.attention import SCORES
from .initialization import INITIALIZERS

FEEDS = ("output", "context", "none")


@dataclass(frozen=True)
class NMTConfig:
    """Sizes and choices of one model.  Raises InputError naming the field that is out of range.

    score: "dot", "general" or "concat" (Luong et al. 2015).  With "dot" the encoder's width must be
        the decoder's, so each of the two directions has hidden_size / 2 units.
    feed: what a decoder step receives of the one before beside its state: the attentional "output"
        (Luong's input feeding), the "context" vector, or "none".
    dropout: on the attentional output and between layers.  embed_dropout: on both embeddings.
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

    def __post_init__(self):
        for name in ("src_vocab_size", "tgt_vocab_size", "embed_size", "hidden_size", "layers"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}, expected a whole number of at least 1")
        for name in ("dropout", "embed_dropout", "label_smoothing"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise InputError(f"{name} is {value!r}, expected 0 <= {name} < 1")
        for name in ("bidirectional", "tie_embeddings"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is {getattr(self, name)!r}, expected True or False")
        for name, known in (("score", SCORES), ("feed", FEEDS), ("init", INITIALIZERS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        if self.tie_embeddings and self.embed_size != self.hidden_size:
            raise InputError("tie_embeddings needs embed_size = hidden_size, "
                             f"not {self.embed_size} and {self.hidden_size}")
        if self.score == "dot" and self.hidden_size % self.directions:
            raise InputError(f"score 'dot' with two directions needs an even hidden_size, not {self.hidden_size}")

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def encoder_size(self) -> int:
        """Hidden units of one direction of the encoder."""
        return self.hidden_size // self.directions if self.score == "dot" else self.hidden_size

    @property
    def memory_size(self) -> int:
        """Columns of h_enc, M: the states of all directions."""
        return self.encoder_size * self.directions

    @property
    def fed_size(self) -> int:
        """Columns of what is fed back beside the decoder's own state."""
        return {"output": self.hidden_size, "context": self.memory_size, "none": 0}[self.feed]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every weight; see docs/attention.md for the equations they stand in."""
        E, H, M = self.embed_size, self.hidden_size, self.memory_size
        D, G = self.directions, self.encoder_size
        shapes: dict[str, tuple[int, ...]] = {}
        shapes.update({"embed.src": (self.src_vocab_size, E), "embed.tgt": (self.tgt_vocab_size, E)})
        for l in range(self.layers):
            encoder, init, decoder = (layer_name(part, l) for part in ("encoder", "init", "decoder"))
            recurrent = H + self.fed_size if l == 0 else H
            shapes.update({
                f"{encoder}.Wx": (D, E if l == 0 else M, 4 * G),
                f"{encoder}.Wh": (D, G, 4 * G), f"{encoder}.b": (D, 4 * G),
                f"{init}.Wh": (M, H), f"{init}.Wc": (M, H),
                f"{decoder}.Wx": (E if l == 0 else H, 4 * H),
                f"{decoder}.Wh": (recurrent, 4 * H), f"{decoder}.b": (4 * H,),
            })
        if self.score == "general":
            shapes["attention.W"] = (M, H)
        if self.score == "concat":
            shapes.update({"attention.W": (H + M, H), "attention.v": (H,)})
        shapes["combine.W"] = (M + H, H)
        if not self.tie_embeddings:
            shapes["vocab.W"] = (H, self.tgt_vocab_size)
        return shapes

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> NMTConfig:
        """The config of `to_dict`; InputError if a field is unknown or missing."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        missing = sorted(known - set(values))
        if unknown or missing:
            found = (("unknown", unknown), ("missing", missing))
            raise InputError("model config: " + "; ".join(f"{what} {', '.join(names)}" for what, names in found if names))
        return cls(**values)


def layer_name(part: str, layer: int) -> str:
    """"encoder" for the first layer, "encoder.1" for the second, and so on."""
    return part if layer == 0 else f"{part}.{layer}"
