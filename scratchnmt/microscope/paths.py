"""The ways by which a gradient comes to a quantity: what each is called, and the textbook's line that adds it."""

from __future__ import annotations

from ..models.config import FREE, NMTConfig
from .quantity import ENCODERS, Quantity
from .record import GradientPath

# what a path is called: by the function that adds it, the operation and the weight without its layer
PATHS = {
    ("_by_chunks", "product", "vocab.W"): ("loss", "this word's loss, by the vocabulary"),
    ("_by_chunks", "product", "embed.tgt"): ("loss", "this word's loss, by the vocabulary"),
    ("microscope", "loss", ""): ("loss", "this word's loss, by the vocabulary"),
    ("step_backward", "transposed_product", "combine.W"): ("readout", "the output o[t], by combine.W"),
    ("step_backward", "attention_step_backward", ""): ("query", "attention, as the query"),
    ("step_backward", "product", "attention.W"): ("query", "attention, as the query"),
    ("step_backward", "transposed_product", "attention.Wq"): ("query", "attention, as the queries"),
    ("step_backward", "transposed_product", "window.W"): ("place", "attention, for the place of the window"),
    ("_layers_backward", "transposed_product", "decoder.Wh"): ("recurrence", "the LSTM's next step, by Wh"),
    ("_layers_backward", "transposed_product", "decoder.Wx"): ("above", "the layer above"),
    ("_start_gradients", "transposed_product", "decoder.Wh"): ("start", "fed to every step"),
    ("step_backward", "lstm_gates_backward", ""): ("next", "the next step, by its forget gate"),
    ("steps_backward", "lstm_gates_backward", ""): ("next", "the next step, by its forget gate"),
    ("steps_backward", "transposed_product", "encoder.Wh"): ("recurrence", "the LSTM's next step, by Wh"),
    ("lstm_backward", "product", "encoder.Wx"): ("input", "the LSTM that reads it"),
    ("_weight_gradients", "product", "decoder.Wx"): ("input dec", "the decoder, which reads it"),
    ("_sums", "product", ""): ("values", "attention, as a value"),
    ("attention_keys_backward", "product", "attention.W"): ("keys", "attention, as a key"),
    ("dkeys", "product", ""): ("keys", "attention, as a key"),
    ("backward", "product", "attention.Wk"): ("keys", "attention, as the keys"),
    ("backward", "product", "attention.Wv"): ("values", "attention, as the values"),
    ("encoder_backward", "product", "init.Wh"): ("first", "the decoder's first state"),
    ("encoder_backward", "product", "init.Wc"): ("first", "the decoder's first cell"),
}


# the textbook's line that adds what comes by a path
TEXTBOOK = {
    ("h_dec", "readout"): "dh_dec[t] += dh", ("h_dec", "query"): "dh_dec[t] += dscore[s] * keys[s]",
    ("h_dec", "recurrence"): "dh_dec[t - 1] += dh_and_o[:H]",
    ("c_dec", "state"): "dc += dtanh_c * (1 - cell.tanh_c**2)", ("c_dec", "next"): "dc_dec[t - 1] += dc",
    ("o", "loss"): 'do[t] += params["vocab.W"] @ dlogits', ("o", "feeding"): "do[t - 1] += dh_and_o[H:]",
    ("h_enc", "values"): "dh_enc[s] += weights[s] * da",
    ("h_enc", "keys"): 'dh_enc[s] += params["attention.W"] @ dkeys[s]',
    ("h_fwd", "recurrence"): "dh_fwd[s - 1] += dh", ("h_fwd", "first"): "dh_fwd[S - 1] += dh_last[:H]",
    ("h_fwd", "values"): "dh_fwd[s] += dh_enc[s][:H]", ("h_fwd", "keys"): "dh_fwd[s] += dh_enc[s][:H]",
    ("h_bwd", "recurrence"): "dh_bwd[s + 1] += dh", ("h_bwd", "first"): "dh_bwd[0] += dh_last[H:]",
    ("h_bwd", "values"): "dh_bwd[s] += dh_enc[s][H:]", ("h_bwd", "keys"): "dh_bwd[s] += dh_enc[s][H:]",
    ("c_fwd", "state"): "dc += dtanh_c * (1 - cell.tanh_c**2)", ("c_fwd", "next"): "dc_fwd[s - 1] += dc",
    ("c_fwd", "first"): "dc_fwd[S - 1] += dc_last[:H]",
    ("c_bwd", "state"): "dc += dtanh_c * (1 - cell.tanh_c**2)", ("c_bwd", "next"): "dc_bwd[s + 1] += dc",
    ("c_bwd", "first"): "dc_bwd[0] += dc_last[H:]",
    ("x", "input fwd"): 'grads["embed.src"][src[s]] += dx', ("x", "input bwd"): 'grads["embed.src"][src[s]] += dx',
    ("y", "input dec"): 'grads["embed.tgt"][tgt[t]] += dy',
    ("a", "readout"): 'da, dh = np.split(params["combine.W"] @ dp, [2 * H])',
}


def line_of_textbook(config: NMTConfig, id: str, path: str) -> str:
    """The textbook's line for a path; none if the model is not the one that the textbook has."""
    default = NMTConfig(config.src_vocab_size, config.tgt_vocab_size, config.embed_size, config.hidden_size)
    same = all(value == getattr(default, name) for name, value in config.to_dict().items()
               if name not in (*FREE, "tie_embeddings"))
    return TEXTBOOK.get((id, path), "") if same else ""


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
