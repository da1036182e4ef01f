"""CS224N's assignment 4, to ours and back: its state_dict, that is, weights and gradients, and its vocab.json.

PyTorch keeps a matrix as (out, in), we as (in, out): all but the embeddings are transposed.  Gate blocks have the
same order, i f g o.  Two of its tensors are made of two parts of ours, and a cell's two biases are one of ours:

    decoder.weight_ih                   [decoder.Wx; rows of decoder.Wh for what is fed].T
    combined_output_projection.weight   the rows of combine.W for a, and those for h, in the order `combined`
    bias_ih + bias_hh                   b.  On the way out bias_ih is b and bias_hh is 0
    d bias_ih = d bias_hh               db.  A sum hands its gradient to both terms, so nothing is added up

docs/pytorch.md has the whole table.  `combined` is "a,h" for u = cat([a_t, h_t]), as the course's handout has it and
this model too, or "h,a" for u = cat([h_t, a_t]), as many have written it: shapes do not tell which.

vocab.json holds both languages, our two vocabularies:

    {"src_word2id": {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "la": 4, ...}, "tgt_word2id": {...}}

The course numbers the four special tokens as we do.  A file that numbers them otherwise is read, too: `order` then says
which of its ids, that is, which rows of its embeddings, become our 0, 1, 2, ...
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..arrays import Array, array_module, not_too_large, to_device
from ..data.vocab import SPECIALS, VOCABULARY_LIMIT, Vocabulary, WordVocabulary, composed
from ..errors import InputError, listed, printable, shown
from ..files.atomic import write_atomically
from ..files.reading import parse_json, read_limited
from ..models.config import FREE, NMTConfig
from ..models.nmt import NMT
from ..parameters import Parameters

COMBINED = ("a,h", "h,a")
SIDES = ("src_word2id", "tgt_word2id")
_SPACE = "\u2423"  # an open box
_EMBEDDINGS = {"embed.src": "model_embeddings.source.weight", "embed.tgt": "model_embeddings.target.weight"}
_PROJECTIONS = {"h_projection.weight": "init.Wh", "c_projection.weight": "init.Wc",
                "att_projection.weight": "attention.W", "target_vocab_projection.weight": "vocab.W"}
_CONVOLUTION = "post_embed_cnn"
_NO_CONVOLUTION = " (the convolution of the assignment's Chinese edition, 2022 and later, is not in this model)"
_COURSE = NMTConfig(1, 1, 1, 1)  # in all but what is free
_VARIANTS: dict[str, tuple] = {"bidirectional": (False,), "score": ("dot",), "feed": ("context", "none")}  # same names
_TELLING = (*_EMBEDDINGS.values(), "encoder.weight_hh_l0", "decoder.weight_ih", "decoder.weight_hh",
            "h_projection.weight")  # whose shapes tell the config
_IN_THE_SHAPES = ("src_vocab_size", "tgt_vocab_size", "embed_size", "hidden_size", "layers", "bidirectional", "score")


class Piece(NamedTuple):
    """Some rows of one of our arrays, or one direction of it."""

    name: str
    place: int | slice = slice(None)  # along its first axis

    def of(self, arrays: Mapping[str, Array]) -> Array:
        return arrays[self.name][self.place]


Layout: TypeAlias = dict[str, list[Piece]]


def nmt_from_pytorch(state: Mapping[str, Any], model_or_config: NMT | NMTConfig | None = None, *,
                     combined: str = "a,h", dtype: str | None = None, device: str = "cpu", **choices: Any) -> NMT:
    """The model whose weights are those of `state`, a state_dict of tensors or arrays.

    model_or_config: a model to fill, which is returned, or the config of a new one.  Left out, sizes, directions,
    score ("dot" where there is no att_projection) and feed are read from names and shapes; `choices` are further fields
    of NMTConfig (dropout=0.3; feed, where the encoder is as wide as the decoder: "output", if not told, or "context").
    combined: "a,h" or "h,a", see above.  dtype: None for float64 if a tensor is of that, else float32.

    Raises InputError listing every name that is missing or unknown and every shape that does not fit, beside the one
    expected; for what the state_dict has no names for: further layers, the score "concat", tied embeddings.
    """
    arrays = {name: _array(name, value) for name, value in state.items()}
    if isinstance(model_or_config, NMT):
        if dtype or device != "cpu" or choices:
            raise TypeError("nmt_from_pytorch: a model that is given has its dtype, its device and its choices")
        _fill(model_or_config.params, arrays, model_or_config.config, combined, _sum_of_biases)
        return model_or_config
    if model_or_config is not None and choices:
        raise TypeError(f"nmt_from_pytorch: the config that is given tells {', '.join(choices)}")
    config = model_or_config or _read_config(arrays, choices)
    _check_fit(arrays, config, combined)  # before anything of these sizes is made
    wide = any(array.dtype == np.float64 for array in arrays.values())
    model = NMT(**config.to_dict(), dtype=dtype or ("float64" if wide else "float32"), device=device, seed=None)
    _fill(model.params, arrays, config, combined, _sum_of_biases)
    return model


def nmt_to_pytorch(model: NMT, *, combined: str = "a,h") -> dict[str, np.ndarray]:
    """The model's weights under CS224N's names, in PyTorch's shapes: new arrays on the host, of the model's dtype.

    A cell's bias_ih is our bias and its bias_hh zero.  Raises InputError for what there are no names for.
    """
    return _taken(model.params, model.config, combined, np.zeros_like)


def gradients_from_pytorch(grads: Mapping[str, Any], config: NMTConfig, *, combined: str = "a,h") -> Parameters:
    """Gradients by the weights of a PyTorch model, under our names: {name: weight.grad} of named_parameters().

    Of a cell's two biases bias_ih's is taken; bias_hh's is the same in PyTorch.  Errors as in `nmt_from_pytorch`.
    """
    arrays = {name: _array(name, value) for name, value in grads.items()}
    _check_fit(arrays, config, combined)
    out = Parameters(config.shapes(), np.result_type(np.float32, *arrays.values()))
    _fill(out, arrays, config, combined, lambda ih, hh: ih)
    return out


def gradients_to_pytorch(grads: Mapping[str, Array], config: NMTConfig, *,
                         combined: str = "a,h") -> dict[str, np.ndarray]:
    """Our gradients under CS224N's names: both biases of a cell get the one that we have."""
    return _taken(grads, config, combined, np.copy)


def differences_from_cs224n(config: NMTConfig) -> dict[str, Any]:
    """The fields of a config that make it another model than the course's, sizes and training aside."""
    course = _COURSE.to_dict()
    return {name: value for name, value in config.to_dict().items() if name not in FREE and value != course[name]}


def _sum_of_biases(ih: np.ndarray, hh: np.ndarray) -> np.ndarray:
    return np.where(hh == 0, ih, ih + hh)  # -0.0 + 0.0 is 0.0: what went out comes back bit for bit


def _layout(config: NMTConfig, combined: str) -> Layout:
    """PyTorch's name -> the parts of ours whose rows it holds, transposed (embeddings are not); bias_hh left out."""
    if combined not in COMBINED:
        raise InputError(f"combined is {combined!r}, expected one of {', '.join(COMBINED)}")
    H, M = config.hidden_size, config.memory_size
    layout = {theirs: [Piece(ours)] for ours, theirs in _EMBEDDINGS.items()}
    for direction, suffix in enumerate(("", "_reverse")[: config.directions]):
        for ours, theirs in (("Wx", "weight_ih"), ("Wh", "weight_hh"), ("b", "bias_ih")):
            layout[f"encoder.{theirs}_l0{suffix}"] = [Piece(f"encoder.{ours}", direction)]
    layout["decoder.weight_ih"] = [Piece("decoder.Wx"), Piece("decoder.Wh", slice(H, None))]
    layout["decoder.weight_hh"] = [Piece("decoder.Wh", slice(H))]
    layout["decoder.bias_ih"] = [Piece("decoder.b")]
    layout |= {theirs: [Piece(ours)] for theirs, ours in _PROJECTIONS.items() if ours in config.shapes()}
    rows = {"a": Piece("combine.W", slice(M)), "h": Piece("combine.W", slice(M, None))}
    layout["combined_output_projection.weight"] = [rows[letter] for letter in combined.split(",")]
    return layout


def _check_nameable(config: NMTConfig) -> None:
    """InputError if the config has what the state_dict has no names for."""
    if nameless := [f"{name} = {value!r}" for name, value in differences_from_cs224n(config).items()
                    if value not in _VARIANTS.get(name, ())]:
        raise InputError(f"CS224N's state_dict has no names for a model with {', '.join(nameless)}")


def _bias_pairs(layout: Layout) -> Iterator[tuple[str, str]]:
    return ((name, name.replace("bias_ih", "bias_hh")) for name in layout if "bias_ih" in name)


def _turned(name: str, array: Array) -> Array:
    """From their orientation to ours, and back."""
    return array if name in _EMBEDDINGS.values() else array.T


def _shapes(layout: Layout, config: NMTConfig) -> dict[str, tuple[int, ...]]:
    ours = {name: np.broadcast_to(np.int8(0), shape) for name, shape in config.shapes().items()}  # shapes, no memory
    shapes = {}
    for name, parts in layout.items():
        rows, *columns = zip(*(part.of(ours).shape for part in parts), strict=False)
        shapes[name] = (sum(rows), *(size[0] for size in columns))
        if name not in _EMBEDDINGS.values():
            shapes[name] = shapes[name][::-1]
    return shapes | {second: shapes[first] for first, second in _bias_pairs(layout)}


def _check_fit(arrays: Mapping[str, np.ndarray], config: NMTConfig, combined: str) -> Layout:
    """The layout, if the arrays have its names and shapes; InputError listing all that differs."""
    _check_nameable(config)
    layout = _layout(config, combined)
    expected = _shapes(layout, config)
    unlike = [f"{name} is {arrays[name].shape}, expected {shape}" for name, shape in expected.items()
              if name in arrays and arrays[name].shape != shape]
    _refuse(arrays, expected, unlike)
    return layout


def _refuse(arrays: Mapping[str, np.ndarray], expected: Collection[str], unlike: list[str]) -> None:
    """InputError if a name is missing or unknown, or anything is listed in `unlike`."""
    lists = (("missing", [name for name in expected if name not in arrays]),
             ("unknown", [f"{name} {array.shape}" for name, array in arrays.items() if name not in expected]),
             ("of another shape", unlike))
    if any(names for _, names in lists):
        told = "; ".join(f"{what}: {listed(names)}" for what, names in lists if names)
        convolution = any(name.startswith(_CONVOLUTION) for name in arrays)
        raise InputError(f"the state_dict does not fit CS224N's model: {told}" + _NO_CONVOLUTION * convolution)


def _fill(params: Mapping[str, Array], arrays: Mapping[str, np.ndarray], config: NMTConfig, combined: str,
          one_bias) -> None:
    """Write their arrays into ours; one_bias(bias_ih, bias_hh) makes one of two."""
    layout = _check_fit(arrays, config, combined)
    second, taken = dict(_bias_pairs(layout)), {}
    dtype = next(iter(params.values())).dtype
    for name in layout:
        with not_too_large(printable(name), dtype):
            array = _wide(arrays[name])
            taken[name] = np.asarray(one_bias(array, _wide(arrays[second[name]])) if name in second else array, dtype)
    for name, parts in layout.items():
        rows, start = _turned(name, taken[name]), 0
        for part in parts:
            view = part.of(params)
            view[...] = array_module(view).asarray(rows[start : start + len(view)])
            start += len(view)


def _taken(ours: Mapping[str, Array], config: NMTConfig, combined: str, second_bias) -> dict[str, np.ndarray]:
    """Their arrays made of ours; second_bias(bias_ih) is bias_hh."""
    _check_nameable(config)
    host = {name: to_device(array, "cpu") for name, array in ours.items()}
    shapes = {name: array.shape for name, array in host.items()}
    if shapes != config.shapes():
        raise InputError(f"arrays of the shapes {shapes} are not those of the config, {config.shapes()}")
    layout = _layout(config, combined)
    theirs = {}
    for name, parts in layout.items():
        rows = np.concatenate([part.of(host) for part in parts])
        theirs[name] = np.ascontiguousarray(_turned(name, rows))
    return theirs | {second: second_bias(theirs[first]) for first, second in _bias_pairs(layout)}


def _read_config(arrays: Mapping[str, np.ndarray], choices: Mapping[str, Any]) -> NMTConfig:
    """The config that names and shapes tell, as far as they agree: `_check_fit` looks at all of them."""
    if told := [name for name in choices if name in _IN_THE_SHAPES]:
        raise TypeError(f"nmt_from_pytorch: {', '.join(told)} is read from the names and shapes")
    if not all(name in arrays for name in _TELLING):
        _refuse(arrays, _shapes(_layout(_COURSE, COMBINED[0]), _COURSE), [])
    _refuse(arrays, arrays, [f"{name} is {arrays[name].shape}, expected two axes" for name in _TELLING
                             if arrays[name].ndim != 2 or not arrays[name].size])
    (V_src, E), (V_tgt, _), (_, G), (_, I), (_, H), (_, M) = (arrays[name].shape for name in _TELLING)
    bidirectional = M == 2 * G or any(name.endswith("_reverse") for name in arrays)
    M = 2 * G if bidirectional else G
    general = "att_projection.weight" in arrays or M != H
    feed = {0: "none", M: "context", H: "output"}.get(I - E, "output")  # M = H: either, see above
    return NMTConfig(V_src, V_tgt, E, H, bidirectional=bidirectional, score="general" if general else "dot",
                     **{"feed": feed, **choices})


def _array(name: str, value: Any) -> np.ndarray:
    """The numbers of a tensor or array of any library, on the host; InputError if they are no floating-point ones."""
    if value is None:
        raise InputError(f"{name} is None: it has no gradient")
    try:
        if hasattr(value, "detach"):  # a PyTorch tensor, perhaps on a card
            value = value.detach().cpu()
        array = to_device(value, "cpu")
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be made an array of NumPy: {error}") from error
    if array.dtype.kind != "f":
        raise InputError(f"{printable(name)} holds {array.dtype}, expected floating-point numbers")
    return array


def _wide(array: np.ndarray) -> np.ndarray:
    """As float32 if it is of less: biases are not added in half precision."""
    return array.astype("float32") if array.itemsize < 4 else array


class Words(NamedTuple):
    """One language of a vocab.json."""

    vocabulary: WordVocabulary
    order: np.ndarray  # (V,) the file's id of each of our ids: W[order] are an embedding's rows as we count them
    changed: dict[str, str]  # the file's word -> ours, where they differ


def read_cs224n_vocabularies(path: str | os.PathLike) -> tuple[Words, Words]:
    """Source and target of a vocab.json.

    Our words are what stands between spaces, in Unicode's NFC.  A word of the file that is not (the course once split
    at spaces alone, so a word may hold a tab, or nothing) keeps its id: it is composed, and a space in it, or its
    being empty, is shown as U+2423.  Raises InputError, naming the file, if it is missing or not of this form: a
    special token missing, ids that are not 0, 1, 2, ... each once, two words that become one.
    """
    content = _read(path)
    src, tgt = (_words(content[side], f"{path}, {side}") for side in SIDES)
    return src, tgt


def write_cs224n_vocabularies(path: str | os.PathLike, src_vocab: Vocabulary, tgt_vocab: Vocabulary) -> None:
    """Write a vocab.json, atomically; of SentencePiece's vocabularies the pieces are the words.

    In ASCII, since the course's code opens it with the locale's encoding.
    """
    both = zip(SIDES, (src_vocab, tgt_vocab), strict=True)
    content = {side: {vocab.token(i): i for i in range(len(vocab))} for side, vocab in both}
    write_atomically(path, json.dumps(content, indent=2).encode("ascii"))


def _read(path: str | os.PathLike) -> dict[str, Any]:
    try:
        content = parse_json(read_limited(path, VOCABULARY_LIMIT), path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(side), dict) for side in SIDES):
        raise InputError(f"{path} is not a vocab.json of CS224N: it has no {' and '.join(SIDES)}")
    return content


def _words(ids: Mapping[str, Any], name: str) -> Words:
    if missing := [token for token in SPECIALS if token not in ids]:
        raise InputError(f"{name}: {' '.join(missing)} is missing")
    if not all(type(i) is int for i in ids.values()) or sorted(ids.values()) != list(range(len(ids))):
        raise InputError(f"{name}: the ids of {len(ids)} words are not 0 to {len(ids) - 1}, each once")
    if len(ids) == len(SPECIALS) or not _is_text("".join(ids)):
        raise InputError(f"{name}: there is no word" if len(ids) == len(SPECIALS) else f"{name}: a word is no text")
    in_order = sorted(ids.keys() - set(SPECIALS), key=ids.__getitem__)
    words = {word: _one_word(word) for word in in_order}
    ours = dict(zip(SPECIALS, SPECIALS, strict=True))
    for word, ours_of_it in words.items():
        if ours_of_it in ours:
            raise InputError(f"{name}: {shown(ours[ours_of_it])} and {shown(word)} are one word here, "
                             f"{shown(ours_of_it)}")
        ours[ours_of_it] = word
    order = np.array([ids[word] for word in (*SPECIALS, *in_order)])
    changed = {word: other for word, other in words.items() if word != other}
    return Words(WordVocabulary(words.values()), order, changed)


def _one_word(word: str) -> str:
    """The word as our vocabulary can hold it."""
    return "".join(_SPACE if letter.isspace() else letter for letter in composed(word)) or _SPACE


def _is_text(words: str) -> bool:
    """Not with half a surrogate pair, which JSON can write and UTF-8 cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in words)
