"""Every operation with example arguments, in each of its configurations."""

from __future__ import annotations

from typing import Any

from ..arrays import Array, array_module
from ..ops import (
    activations,
    attention,
    cross_entropy,
    decoder_step,
    dropout,
    embedding,
    expected_risk,
    layer_norm_gates,
    layer_norm_lstm,
    linear,
    linear_cross_entropy,
    local,
    lstm,
    lstm_gates,
    multi_head,
    r_drop,
    soft_cross_entropy,
    tanh_dropout,
)
from .case import Case, Draw, cases, ids, lengths, mask, normal, paired_targets, prefix_mask, scaled_mask, targets


def _attention_step_backward(dcontext: Array, cache: Any) -> dict[str, Array]:
    """With what a loop over time leaves to one product at its end."""
    dquery, dscore, dkeys, dv = attention.attention_step_backward(dcontext, cache)
    dkeys = dscore.transpose(0, 2, 1) @ cache.query if dkeys is None else dkeys
    return {"query": dquery, "keys": dkeys, "values": cache.weights.transpose(0, 2, 1) @ dcontext, "v": dv}


def _predict_place_backward(dp: Array, cache: Any) -> dict[str, Array]:
    """With what a loop over time leaves to its end."""
    dq, du = local.predict_place_backward(dp, cache)
    return {"q": dq, "v": cache.tanh.T @ du}


def _layer_norm_gates_backward(dh: Array, dc: Array, cache: Any) -> dict[str, Array]:
    """With what a loop over time leaves to its end; the bias of the gates is a part of z."""
    dz, dc_prev = layer_norm_gates.layer_norm_gates_backward(dh, dc, cache)
    dg, db = layer_norm_gates.layer_norm_gains(dh, dz, cache.z, cache.kept)
    return {"z": dz, "c_prev": dc_prev, "g": dg, "b_c": db[..., 4 * dh.shape[-1] :]}


def _dropout_forward(x: Array, rate: float, mask: Array | None = None, seed: int = 0):
    """By a mask, or by a generator that is the same each time."""
    rng = array_module(x).random.default_rng(seed) if mask is None else None
    return dropout.dropout_forward(x, rate, rng=rng, mask=mask)


def _taught_forward(x: Array, W: Array, targets: Array, teacher_x: Array, teacher_W: Array, **options: Any):
    """linear_cross_entropy with teachers, each in a part of two arrays."""
    teachers = [linear_cross_entropy.Teacher(*each) for each in zip(teacher_x, teacher_W, strict=True)]
    return linear_cross_entropy.linear_cross_entropy_forward(x, W, targets, teachers=teachers, **options)


def _local(*names_and_shapes: str, **fixed: Any) -> Draw:
    """Arguments of local_attention; what is not told is None."""
    told = {text.split()[0] for text in names_and_shapes}
    left_out = {name: None for name in ("window_W", "window_v", "W", "v") if name not in told}
    return normal("h B H", *names_and_shapes, mask=prefix_mask, **left_out, **fixed)


_ONE = ("x T B I", "Wx 1 I 4H", "Wh 1 H 4H", "b 1 4H")
_TWO = ("x T B I", "Wx 2 I 4H", "Wh 2 H 4H", "b 2 4H")
_NORMED = ("x T B I", "Wx 2 I 4H", "Wh 2 H 4H", "b 2 5H", "g 2 9H", "h0 2 B H", "c0 2 B H")
_PLACE = ("window_W H H", "window_v H")
_QUERY = ("query B Q A", "keys B S A", "values B S M")

CASES: tuple[Case, ...] = (
    *cases("tanh", activations.tanh_forward, activations.tanh_backward, {
        "": ("B I", normal("x B I")),
    }),
    *cases("sigmoid", activations.sigmoid_forward, activations.sigmoid_backward, {
        "": ("B I", normal("x B I")),
    }),
    *cases("relu", activations.relu_forward, activations.relu_backward, {
        "": ("B I", normal("x B I")),
    }),
    *cases("linear", linear.linear_forward, linear.linear_backward, {
        "": ("B I O", normal("x B I", "W I O", "b O")),
        "no bias, over time": ("T B I O", normal("x T B I", "W I O", b=None)),
    }),
    *cases("embedding", embedding.embedding_forward, embedding.embedding_backward, {
        "": ("T B V E", normal("W V E", ids=ids("T B", "V"))),
    }),
    *cases("dropout", _dropout_forward, dropout.dropout_backward, {
        "a mask": ("B I", normal("x B I", rate=0.3, mask=scaled_mask("B I"))),
        "a generator": ("B I", normal("x B I", rate=0.3, seed=7)),
    }, wrt=("x",)),
    *cases("softmax", activations.softmax_forward, activations.softmax_backward, {
        "": ("B S", normal("x B S")),
        "masked": ("B Q S", normal("x B Q S", mask=mask("B Q S"))),
    }),
    *cases("cross_entropy", cross_entropy.cross_entropy_forward, cross_entropy.cross_entropy_backward, {
        "": ("N V", normal("logits N V", targets=targets)),
        "label smoothing": ("N V", normal("logits N V", targets=targets, label_smoothing=0.1)),
    }),
    *cases("linear_cross_entropy", linear_cross_entropy.linear_cross_entropy_forward,
            linear_cross_entropy.linear_cross_entropy_backward, {
        "": ("N H V", normal("x N H", "W H V", targets=targets)),
        "label smoothing, in chunks": ("N H V", normal(
            "x N H", "W H V", targets=targets, label_smoothing=0.1, chunk_bytes=64)),
        "r_drop, label smoothing, in chunks": ("N H V", normal(
            "x 2N H", "W H V", targets=paired_targets, r_drop=0.7, label_smoothing=0.1, chunk_bytes=128)),
    }),
    *cases("linear_cross_entropy", _taught_forward, linear_cross_entropy.linear_cross_entropy_backward, {
        "two teachers, label smoothing, in chunks": ("N H V A", normal(
            "x N H", "W H V", "teacher_x 2 N A", "teacher_W 2 A V", targets=targets, teacher_weight=0.7,
            label_smoothing=0.1, chunk_bytes=256)),
    }, wrt=("x", "W")),
    *cases("soft_cross_entropy", soft_cross_entropy.soft_cross_entropy_forward,
           soft_cross_entropy.soft_cross_entropy_backward, {
        "a teacher": ("N V", normal("logits N V", "teacher_logits 1 N V", targets=targets, weight=0.7)),
        "two teachers, label smoothing": ("N V", normal(
            "logits N V", "teacher_logits 2 N V", targets=targets, weight=0.5, label_smoothing=0.1)),
        "two teachers and no reference": ("N V", normal(
            "logits N V", "teacher_logits 2 N V", targets=targets, weight=1.0)),
    }, wrt=("logits",)),
    *cases("r_drop", r_drop.r_drop_forward, r_drop.r_drop_backward, {
        "": ("N V", normal("logits 2N V", targets=paired_targets, alpha=0.7)),
        "label smoothing": ("N V", normal("logits 2N V", targets=paired_targets, alpha=3.0, label_smoothing=0.1)),
    }),
    *cases("linear_cross_entropy_rows", linear_cross_entropy.linear_cross_entropy_rows_forward,
            linear_cross_entropy.linear_cross_entropy_rows_backward, {
        "": ("N H V", normal("x N H", "W H V", targets=targets)),
        "in chunks": ("N H V", normal("x N H", "W H V", targets=targets, chunk_bytes=64)),
    }),
    *cases("expected_risk", expected_risk.expected_risk_forward, expected_risk.expected_risk_backward, {
        "": ("B S", normal("log_p B S", "risks B S", mask=mask("B S"), alpha=0.5)),
        "the sharpness of the paper": ("B S", normal("log_p B S", "risks B S", mask=mask("B S"), alpha=0.005)),
    }, wrt=("log_p",)),
    *cases("attention", attention.attention_forward, attention.attention_backward, {
        "dot": ("S B H", normal("h B H", "h_enc S B H", mask=mask("S B"), W=None, v=None, places=None)),
        "general": ("S B H M", normal("h B H", "h_enc S B M", "W M H", mask=mask("S B"), v=None, places=None)),
        "concat": ("S B H M A", normal("h B H", "h_enc S B M", "W H+M A", "v A", mask=mask("S B"), places=None)),
        "location": ("S B H M", normal("h B H", "h_enc S B M", "places S+M H", mask=mask("S B"), W=None, v=None)),
    }),
    *cases("attention_step", attention.attention_step_forward, _attention_step_backward, {
        "product": ("B Q S A M", normal(*_QUERY, mask=mask("B S"), v=None)),
        "concat": ("B Q S A M", normal(*_QUERY, "v A", mask=mask("B S"))),
    }),
    *cases("predict_place", local.predict_place_forward, _predict_place_backward, {
        "": ("B H T", normal("q B H", "v H", tokens=lengths("T"))),
    }),
    *cases("local_attention", local.local_attention_forward, local.local_attention_backward, {
        "local-m, dot": ("S B H", _local("h_enc S B H", D=1, t=2)),
        "local-m, concat": ("S B H M A", _local("h_enc S B M", "W H+M A", "v A", D=1, t=1)),
        "local-p, general": ("S B H M", _local("h_enc S B M", *_PLACE, "W M H", D=1)),
        "local-p, concat": ("S B H M A", _local("h_enc S B M", *_PLACE, "W H+M A", "v A", D=2)),
    }),
    *cases("multi_head_attention", multi_head.multi_head_attention_forward, multi_head.multi_head_attention_backward, {
        "one head": ("S B H M", normal(
            "h B H", "h_enc S B M", "Wq H H", "Wk M H", "Wv M H", mask=mask("S B"), heads=1)),
        "three heads": ("S B H M", normal(
            "h B 3H", "h_enc S B M", "Wq 3H 3H", "Wk M 3H", "Wv M 3H", mask=mask("S B"), heads=3)),
    }),
    *cases("tanh_dropout", tanh_dropout.tanh_dropout_forward, tanh_dropout.tanh_dropout_backward, {
        "": ("B I", normal("p B I", mask=None)),
        "a mask": ("B I", normal("p B I", mask=scaled_mask("B I"))),
    }, wrt=("p",)),
    *cases("decoder_lstm", decoder_step.decoder_lstm_forward, decoder_step.decoder_lstm_backward, {
        "": ("N I H", normal("z N 4H", "x N I", "W I 4H", "c_prev N H")),
    }, wrt=("z", "x", "c_prev")),
    *cases("combine", decoder_step.combine_forward, decoder_step.combine_backward, {
        "": ("N I H", normal("x N I", "W I H", p=None, mask=None)),
    }, wrt=("x",)),
    *cases("combine", decoder_step.combine_forward, decoder_step.combine_backward, {
        "added to another product, a mask": ("N I H", normal("x N I", "W I H", "p N H", mask=scaled_mask("N H"))),
    }, wrt=("x", "p")),
    *cases("layer_norm_gates", layer_norm_gates.layer_norm_gates_forward, _layer_norm_gates_backward, {
        "": ("B H", normal("z B 12H", "c_prev B H", "g 9H", "b_c H")),
    }),
    *cases("layer_norm_lstm", layer_norm_lstm.layer_norm_lstm_forward, layer_norm_lstm.layer_norm_lstm_backward, {
        "": ("T B I H", normal("x T B I", "Wx 1 I 4H", "Wh 1 H 4H", "b 1 5H", "g 1 9H",
                                lengths=lengths("T"), h0=None, c0=None)),
        "initial states": ("T B I H", normal(*_NORMED, lengths=lengths("T"))),
    }),
    *cases("layer_norm_lstm", layer_norm_lstm.layer_norm_lstm_forward, layer_norm_lstm.layer_norm_lstm_backward, {
        "recurrent dropout": ("T B I H", normal(*_NORMED, lengths=lengths("T"), m=scaled_mask("2 B H"))),
    }, wrt=("x", "Wx", "Wh", "b", "g", "h0", "c0")),
    *cases("lstm_gates", lstm_gates.lstm_gates_forward, lstm_gates.lstm_gates_backward, {
        "": ("B H", normal("z B 4H", "c_prev B H")),
    }),
    *cases("lstm_cell", lstm.lstm_cell_forward, lstm.lstm_cell_backward, {
        "": ("B I H", normal("x B I", "h_prev B H", "c_prev B H", "Wx I 4H", "Wh H 4H", "b 4H")),
    }),
    *cases("lstm", lstm.lstm_forward, lstm.lstm_backward, {
        "": ("T B I H", normal(*_ONE, lengths=lengths("T"), h0=None, c0=None)),
        "initial states": ("T B I H", normal(*_ONE, "h0 1 B H", "c0 1 B H", lengths=lengths("T"))),
        "two directions": ("T B I H", normal(*_TWO, lengths=lengths("T"), h0=None, c0=None)),
        "two directions, initial states": ("T B I H", normal(
            *_TWO, "h0 2 B H", "c0 2 B H", lengths=lengths("T"))),
    }),
    *cases("lstm", lstm.lstm_forward, lstm.lstm_backward, {
        "recurrent dropout": ("T B I H", normal(
            *_TWO, "h0 2 B H", "c0 2 B H", lengths=lengths("T"), m=scaled_mask("2 B H"))),
    }, wrt=("x", "Wx", "Wh", "b", "h0", "c0")),
)
