"""NMT: bidirectional LSTM encoder, attention, LSTM decoder; loss and gradient, and the steps of a search.

    (1)  x = dropout(embed_src[src])                        (S, B, E)
    (2)  h_enc, h0, c0 = encoder(x)
    (3)  y = dropout(embed_tgt[tgt[:-1]])                   (T, B, E)
    (4)  o = decoder(y, h_enc, h0, c0)                      the attentional outputs
    (5)  loss = cross_entropy(o W_vocab, tgt[1:])           the sum of nats over target tokens

The default is the model of Stanford's CS224N assignment 4, which is that of Luong, Pham & Manning
(2015) with a bidirectional encoder; NMTConfig names the choices.

Read the textbook first, then one operation (ops/lstm_gates.py), the sequence (ops/lstm.py), the decoder (decoder.py)
and the kernels (kernels/); docs/architecture.md lists the files between them, and each names the one after it.
The textbook computes the same for one sentence, in the whole of `forward` and `backward`.  Next: ops/plain.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module, check_shapes, device_module, device_of, to_device, to_device_of
from ..errors import ArgumentError, InputError, check_choice, unknown_names
from ..kernels import choose
from ..ops.branches import branch
from ..ops.dropout import DropoutCache
from ..ops.embedding import EmbeddingCache
from ..ops.linear_cross_entropy import (
    LinearCrossEntropyCache,
    LinearCrossEntropyRowsCache,
    Teacher,
    linear_cross_entropy_forward,
    linear_cross_entropy_rows_backward,
    linear_cross_entropy_rows_forward,
)
from ..ops.lstm import padding_bias
from ..ops.packing import pack, place
from ..ops.plain import PLAIN
from ..parameters import Parameters
from .attention import attention_class
from .config import OLD_PRESETS, PRESETS, NMTConfig
from .decoder import DecoderCache, decoder_backward, decoder_forward
from .encoder import EncoderCache, encoder_backward, encoder_forward
from .initialization import initialize
from .inputs import Inputs, check_longest, prepare_inputs
from .stepper import SearchState, next_state, rows_times, start_search

if TYPE_CHECKING:
    from ..search import Hypothesis


class NMTCache(NamedTuple):
    embeddings: dict[str, tuple[EmbeddingCache, DropoutCache | None]]  # "embed.src", "embed.tgt"
    encoder: EncoderCache
    decoder: DecoderCache
    output: LinearCrossEntropyCache | None  # None: of a pass for its loss alone


class SentenceLossesCache(NamedTuple):
    below: NMTCache  # all but the vocabulary
    output: LinearCrossEntropyRowsCache
    sentences: Array  # (N,) of which sentence each row of the vocabulary is


class Teachers(NamedTuple):
    """Models that another one learns from: at each word their mean distribution is a part of the target distribution.

    They have its vocabularies and its device (see ops/soft_cross_entropy.py).
    """

    models: Sequence[NMT]
    weight: float  # w, above 0 and at most 1


class NMT:
    """An attention model with weights in `params`, named views of one flat vector.

    src_vocab_size, tgt_vocab_size, embed_size, hidden_size and the further fields of NMTConfig;
    dtype "float32" or "float64"; device "cpu", "cuda" or "cuda:N"; the same seed gives the same
    weights whatever the dtype; seed None: all weights are zero, and are to be filled.  kernels "plain" or, on a GPU
    alone, "fused", the default there, or "persistent", and matmul "float32" or "tf32" are those of
    `scratchnmt.kernels.choose`.  Raises InputError if a size or a choice is out of range.
    """

    def __init__(self, src_vocab_size: int, tgt_vocab_size: int, embed_size: int, hidden_size: int, *,
                 dtype: str = "float32", device: str = "cpu", seed: int | None = 0, kernels: str | None = None,
                 matmul: str = "float32", **choices: Any):
        if dtype not in ("float32", "float64"):
            raise InputError(f"dtype is {dtype!r}, expected float32 or float64")
        if unknown := unknown_names(choices, NMTConfig.__dataclass_fields__):
            raise TypeError(f"NMT: unknown choices {unknown}")
        self.config = NMTConfig(src_vocab_size=src_vocab_size, tgt_vocab_size=tgt_vocab_size, embed_size=embed_size,
                                hidden_size=hidden_size, **choices)
        xp = device_module(device)
        self.kernels = choose(kernels, matmul, device, dtype)
        if self.kernels.lstm_steps is not None and self.config.cell != "lstm":
            raise InputError(f'kernels "{kernels}" is for cell "lstm": of "{self.config.cell}" it has no kernels, '
                             'choose kernels "fused"')
        try:
            self.params = Parameters(self.config.shapes(), dtype, xp)
        except MemoryError as error:
            raise InputError(f"out of memory on {device} for the model's weights ({error}): "
                             "lower hidden_size, embed_size or the vocabularies' sizes") from error
        if seed is not None:
            initialize(self.params, self.config.init, seed, self.config.recurrent_cell)

    @classmethod
    def preset(cls, name: str, src_vocab_size: int, tgt_vocab_size: int, embed_size: int, hidden_size: int,
               **choices: Any) -> NMT:
        """The model of a paper or a course, by name (see PRESETS in config.py); choices go before the preset's.

        "cs224n" Stanford's assignment; "context-feeding" the context fed back, logits from the state; "luong" four
        layers, one direction, reversed source, input feeding (2015); "bahdanau" (2015); "sutskever" (2014) and "cho"
        (2014) without attention.
        """
        name = OLD_PRESETS.get(name, name)
        check_choice("preset", name, PRESETS)
        return cls(src_vocab_size, tgt_vocab_size, embed_size, hidden_size, **PRESETS[name] | choices)

    @property
    def computing(self) -> str:
        """Where and how, for people: "cpu", "cuda:0, fused kernels, products in tf32"."""
        device = device_of(self.params.flat)
        if device == "cpu":
            return device
        if self.kernels is PLAIN:
            return f"{device}, plain kernels"
        products: Any = self.kernels.product  # of kernels/product.py
        kind = "fused" if self.kernels.lstm_steps is None else "persistent"
        return f"{device}, {kind} kernels, products in {products.matmul}"

    @property
    def recordable(self) -> bool:
        """Whether a step on a GPU makes the same launches for every batch of one shape (see kernels/graph.py)."""
        return attention_class(self.config).recordable(self.config)

    def warm_up(self) -> None:
        """Make what is kept for good before the first recording, whose memory is for what is made on the way."""
        flat = self.params.flat
        padding_bias(array_module(flat), device_of(flat), self.config.encoder_size, flat.dtype)

    def with_params(self, params: Mapping[str, Array]) -> NMT:
        """The same model over other weights (not copied), of any dtype; complex ones, to check it, run plain."""
        other = copy.copy(self)
        other.params = params  # type: ignore[assignment]  # for these uses any mapping will do
        if any(array.dtype.kind == "c" for array in params.values()):
            other.kernels = PLAIN
        return other

    def forward(self, src: Array, src_lengths: Array, tgt: Array, rng: Any = None, out: Parameters | None = None,
                teachers: Teachers | None = None) -> tuple[Array, NMTCache]:
        """The summed loss in nats (with label smoothing and R-Drop, if configured) and what backward needs.

        src (S, B) source ids, padded with 0; src_lengths (B,) in any order; tgt (T+1, B) from <s> to
        </s>, padded with 0: best all three on the host, where they are checked without waiting for a GPU.
        rng, of the model's device, draws the dropout masks; None: no dropout, and one pass of R-Drop's two, which
        would be the same.  out: the buffer that will be given to backward, for the gradient of the vocabulary's
        weights, which is made on the way.  teachers: they read the batch, too, without dropout, and have a share in the
        loss; not with R-Drop.
        Raises ValueError for shapes or lengths that do not fit, IndexError for ids outside a vocabulary.
        """
        passes = 1 if rng is None else self.config.passes
        return self.forward_inputs(prepare_inputs(src, src_lengths, tgt, self.config.longest, passes), rng, out,
                                   teachers)

    def forward_inputs(self, inputs: Inputs, rng: Any = None, out: Parameters | None = None,
                       teachers: Teachers | None = None) -> tuple[Array, NMTCache]:
        """`forward` of a batch that is laid out already."""
        # not with a tied table: backward adds the embedding's gradient to it, and may be called twice
        dW = None if out is None else out.get("vocab.W")
        r_drop = self.config.r_drop if inputs.passes == 2 else 0.0
        taught = {} if teachers is None else {
            "teachers": [model._as_teacher(inputs) for model in teachers.models], "teacher_weight": teachers.weight}
        return self._forward(inputs, rng, label_smoothing=self.config.label_smoothing, r_drop=r_drop, dW=dW, **taught)

    def nll(self, src: Array, src_lengths: Array, tgt: Array) -> float:
        """-log p of all target tokens, summed: no dropout, no label smoothing, nothing kept for backward."""
        inputs = prepare_inputs(src, src_lengths, tgt, self.config.longest)
        return float(self._forward(inputs, None, gradients=False)[0])

    def token_log_probs(self, src: Array, src_lengths: Array, tgt: Array) -> Array:
        """log p of every target token, given those before it (T, B), 0 where tgt is padding: `nll` token by token.

        The same pass as in training (forced decoding), without dropout, label smoothing or anything for backward.
        """
        inputs = prepare_inputs(src, src_lengths, tgt, self.config.longest)
        losses, _, _ = self._row_losses(inputs, None)
        return self._by_word(-losses, inputs)

    def sentence_losses(self, src: Array, src_lengths: Array, tgt: Array,
                        rng: Any = None) -> tuple[Array, SentenceLossesCache]:
        """-log p of each target given its source (B,), and what `sentence_losses_backward` needs.

        Arguments and errors as of `forward`, whose loss, without label smoothing and R-Drop, is their sum.
        """
        inputs = prepare_inputs(src, src_lengths, tgt, self.config.longest)
        losses, below, output = self._row_losses(inputs, rng)
        sentences = to_device_of(inputs.tgt_packing.rows % inputs.tgt.shape[1], losses)
        return self._by_word(losses, inputs).sum(axis=0), SentenceLossesCache(below, output, sentences)

    def sentence_losses_backward(self, dlosses: Array, cache: SentenceLossesCache,
                                 out: Parameters | None = None) -> Parameters:
        """The gradient by every weight, from that of the losses (B,); the rest as of `backward`."""
        dW = None if out is None else out.get("vocab.W")
        drows = self.kernels.rows.take(to_device_of(dlosses, cache.output.x), cache.sentences)
        dx, dW = linear_cross_entropy_rows_backward(drows, cache.output, dW=dW)
        return self.backward(cache.below._replace(output=LinearCrossEntropyCache(dx, dW)), out)

    def _row_losses(self, inputs: Inputs, rng: Any) -> tuple[Array, NMTCache, LinearCrossEntropyRowsCache]:
        """The loss of each packed row of the target, and both caches."""
        o, below = self._attentional_outputs(inputs, rng)
        losses, output = linear_cross_entropy_rows_forward(o, self._vocab_weight(self.params), inputs.targets,
                                                           kernels=self.kernels)
        return losses, below, output

    def _by_word(self, losses: Array, inputs: Inputs) -> Array:
        """The losses of packed rows as (T, B), 0 where there is no word."""
        words = array_module(losses).zeros(inputs.tgt.size, losses.dtype)
        words[to_device_of(inputs.tgt_packing.rows, losses)] = losses
        return words.reshape(inputs.tgt.shape)

    def _forward(self, inputs: Inputs, rng: Any, **options: Any) -> tuple[Array, NMTCache]:
        o, cache = self._attentional_outputs(inputs, rng)
        loss, output = linear_cross_entropy_forward(o, self._vocab_weight(self.params), inputs.targets,
                                                    rows=inputs.target_rows, kernels=self.kernels, **options)  # (5)
        return loss, cache._replace(output=output)

    def _as_teacher(self, inputs: Inputs) -> Teacher:
        """What its logits of the words of a batch are made of, without dropout; rows are those of any model."""
        return Teacher(self._attentional_outputs(inputs, None)[0], self._vocab_weight(self.params))

    def _attentional_outputs(self, inputs: Inputs, rng: Any) -> tuple[Array, NMTCache]:
        """(1) to (4), and a cache that lacks (5)."""
        params, config, kernels = self.params, self.config, self.kernels
        xp = array_module(params["embed.src"])
        src_packing, tgt_packing = place(inputs.src_packing, xp), place(inputs.tgt_packing, xp)
        embeddings: dict[str, tuple[EmbeddingCache, DropoutCache | None]] = {}
        x = self._embed("embed.src", inputs.src, inputs.src_tokens, rng, embeddings)  # (1)
        (h_enc, states), encoder = encoder_forward(params, config, x, src_packing, rng, kernels)  # (2)
        y = self._embed("embed.tgt", inputs.tgt, inputs.tgt_tokens, rng, embeddings)  # (3)
        mask = to_device_of(inputs.mask, h_enc)
        o, decoder = decoder_forward(params, config, y, tgt_packing, h_enc, mask, states, rng, kernels)  # (4)
        return o, NMTCache(embeddings, encoder, decoder, None)

    def backward(self, cache: NMTCache, out: Parameters | None = None) -> Parameters:
        """The gradient of the loss by every weight, under the weights' names.

        out: an earlier result to be overwritten, which spares a training loop the allocation.
        """
        if (output := cache.output) is None:
            raise ArgumentError("NMT.backward: nothing was kept for it, since only the loss was asked for: use forward")
        if out is None:
            shapes = {name: array.shape for name, array in self.params.items()}
            out = Parameters(shapes, output.dx.dtype, array_module(output.dx))
        put = self.kernels.rows.put
        put(out["embed.src"], ..., 0)
        if not self.config.tie_embeddings:
            put(out["embed.tgt"], ..., 0)
        dW = self._vocab_weight(out)
        if not np.may_share_memory(dW, output.dW):
            put(dW, ..., output.dW)  # (5)
        with branch(self.kernels) as beside:  # the weights of the decoder, while the encoder goes back
            dy, dh_enc, dstates = decoder_backward(output.dx, cache.decoder, self.params, self.config, out,
                                                   beside)  # (4)
            dx = encoder_backward(dh_enc, dstates, cache.encoder, self.params, out)  # (2)
        for name, gradient in (("embed.src", dx), ("embed.tgt", dy)):  # (1), (3)
            lookup, dropout = cache.embeddings[name]
            if dropout is not None:
                gradient = self.kernels.dropout.dropout_backward(gradient, dropout).dx
            self.kernels.embedding.embedding_backward(gradient, lookup, dW=out[name])
        return out

    def start(self, src: Array, src_lengths: Array) -> SearchState:
        """Encode src (S, B) once; the state of B sentences with one hypothesis each, before <s>.

        src holds ids, padded with 0; src_lengths (B,) in any order.  Raises ValueError for shapes or lengths that do
        not fit, or a source with more tokens than the score "location" knows positions, IndexError for ids outside the
        vocabulary.
        """
        src, src_lengths = to_device(src, "cpu"), to_device(src_lengths, "cpu")
        xp = array_module(self.params["embed.src"])
        x = self._embed("embed.src", src, None, None, {})
        check_shapes("NMT.start", src=("S B", src), src_lengths=("B", src_lengths))
        check_longest(src_lengths, self.config.longest)
        packing = place(pack(src_lengths, len(src)), xp)
        (h_enc, states), _ = encoder_forward(self.params, self.config, x, packing, kernels=self.kernels)
        mask = to_device_of(np.arange(len(src))[:, None] < src_lengths, h_enc)
        return start_search(self.params, self.config, h_enc, mask, states, self.kernels)

    def step(self, state: SearchState, y_prev: Array) -> tuple[Array, Array, SearchState]:
        """logits (B, K, V) of the next word, attention (B, K, S), the new state, after words y_prev (B, K).

        y_prev holds ids on the model's device.  They are not checked, since a search makes them of logits: NumPy raises
        IndexError for one of V or more, and counts one below zero from the vocabulary's end.
        """
        y = self.params["embed.tgt"][y_prev]
        o, attention, state = next_state(self.params, self.config, state, y, self.kernels)
        return rows_times(o, self._vocab_weight(self.params), self.kernels), attention, state

    def beam_search(self, src_ids: Sequence[int] | Array, beam_size: int = 5, max_decoding_time_step: int = 70,
                    **options: Any) -> list[Hypothesis]:
        """Translations of one sentence of source ids, list[Hypothesis(value, score)], best first.

        options: those of scratchnmt.search.beam_search, which does this for many sentences at once.
        """
        from ..search import beam_search

        src = np.asarray(src_ids, dtype="int64")[:, None]
        options = {"n_best": beam_size, "max_steps": max_decoding_time_step, **options}
        return beam_search(self, src, np.array([len(src)]), beam_size=beam_size, **options)[0]

    def _vocab_weight(self, params: Mapping[str, Array]) -> Array:
        """W_vocab (H, V), or its gradient."""
        return params["embed.tgt"].T if self.config.tie_embeddings else params["vocab.W"]

    def _embed(self, name: str, ids: Array, tokens: tuple[Array, Array] | None, rng: Any,
               caches: dict[str, tuple[EmbeddingCache, DropoutCache | None]]) -> Array:
        x, cache = self.kernels.embedding.embedding_forward(ids, self.params[name], tokens=tokens)
        x, dropout = (x, None) if rng is None else self._drop(x, rng)
        caches[name] = cache, dropout
        return x

    def _drop(self, x: Array, rng: Any) -> tuple[Array, DropoutCache | None]:
        """Dropout of embeddings (T, B, E): of single numbers, of whole words, or of both."""
        config, dropout = self.config, self.kernels.dropout
        if not config.word_dropout:
            return dropout.dropout_forward(x, config.embed_dropout, rng=rng) if config.embed_dropout else (x, None)
        mask = dropout.dropout_mask(x.shape, config.embed_dropout, rng, x.real.dtype)
        words = dropout.dropout_mask((*x.shape[:-1], 1), config.word_dropout, rng, x.real.dtype)
        return dropout.dropout_forward(x, config.embed_dropout, mask=self.kernels.rows.multiply(mask, words))
