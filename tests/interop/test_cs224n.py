"""Weights and gradients under PyTorch's names: bit for bit the same numbers, and PyTorch's loss and gradients."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnmt import NMT, NMTConfig
from scratchnmt.errors import InputError
from scratchnmt.interop import gradients_from_pytorch, gradients_to_pytorch, nmt_from_pytorch, nmt_to_pytorch
from scratchnmt.interop.cs224n import Piece

AGREEMENT = 1e-10  # of a tensor's largest element, as in test_parity
SIZES = dict(src_vocab_size=13, tgt_vocab_size=11, embed_size=6, hidden_size=4)
CONFIGURATIONS = {
    "the course's": {}, "feeds the context": dict(feed="context"), "feeds nothing": dict(feed="none"),
    "dot": dict(score="dot"), "dot, context": dict(score="dot", feed="context"),
    "one direction": dict(bidirectional=False), "one direction, dot": dict(bidirectional=False, score="dot"),
    "one direction, nothing fed": dict(bidirectional=False, feed="none"), "wide embedding": dict(embed_size=9),
}
COURSE = {  # as the course's code lists them, at e = 6, h = 4
    "model_embeddings.source.weight": (13, 6), "model_embeddings.target.weight": (11, 6),
    "encoder.weight_ih_l0": (16, 6), "encoder.weight_hh_l0": (16, 4),
    "encoder.bias_ih_l0": (16,), "encoder.bias_hh_l0": (16,),
    "encoder.weight_ih_l0_reverse": (16, 6), "encoder.weight_hh_l0_reverse": (16, 4),
    "encoder.bias_ih_l0_reverse": (16,), "encoder.bias_hh_l0_reverse": (16,),
    "decoder.weight_ih": (16, 10), "decoder.weight_hh": (16, 4), "decoder.bias_ih": (16,), "decoder.bias_hh": (16,),
    "h_projection.weight": (4, 8), "c_projection.weight": (4, 8), "att_projection.weight": (4, 8),
    "combined_output_projection.weight": (4, 12), "target_vocab_projection.weight": (11, 4),
}


def model(seed=0, dtype="float64", **choices):
    return NMT(**{**SIZES, **choices}, dtype=dtype, seed=seed)


def state(seed=0, **choices):
    """A state_dict whose second biases are not zero."""
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(-1, 1, array.shape) for name, array in nmt_to_pytorch(model(**choices)).items()}


def bits(array):
    return np.ascontiguousarray(array).view(np.uint8).tobytes()


def batch(seed=1, sentences=5):
    rng = np.random.default_rng(seed)
    src_lengths, tgt_lengths = rng.integers(1, 7, sentences), rng.integers(1, 6, sentences)
    src, tgt = np.zeros((src_lengths.max(), sentences), int), np.zeros((tgt_lengths.max() + 1, sentences), int)
    for b, (s, t) in enumerate(zip(src_lengths, tgt_lengths, strict=True)):
        src[:s, b] = rng.integers(3, 13, s)
        tgt[: t + 1, b] = [1, *rng.integers(3, 11, t - 1), 2]
    return src, src_lengths, tgt


# round trips


@settings(max_examples=40)
@given(seed=st.integers(0, 999), dtype=st.sampled_from(["float32", "float64"]),
       combined=st.sampled_from(["a,h", "h,a"]), choices=st.sampled_from(list(CONFIGURATIONS.values())),
       V=st.integers(1, 5), E=st.integers(1, 5), half=st.integers(1, 3))
def test_what_goes_out_comes_back_bit_for_bit(seed, dtype, combined, choices, V, E, half):
    sizes = dict(src_vocab_size=V, tgt_vocab_size=V + 1, embed_size=E, hidden_size=2 * half)
    before = model(seed, dtype, **{**choices, **sizes})
    special = np.array([-0.0, 0.0, np.nan, np.inf, -np.inf, 1e-40, -3.0], dtype)
    rng = np.random.default_rng(seed)
    places = rng.random(before.params.flat.size) < 0.3
    before.params.flat[places] = rng.choice(special, places.sum())
    sent = nmt_to_pytorch(before, combined=combined)
    after = nmt_from_pytorch(sent, before.config, combined=combined)
    assert bits(after.params.flat) == bits(before.params.flat) and after.params.flat.dtype == dtype
    for name in sent:
        assert sent[name].flags.c_contiguous and not np.shares_memory(sent[name], before.params.flat)
        assert "bias_hh" not in name or not sent[name].any()
    grads = gradients_to_pytorch(before.params, before.config, combined=combined)
    back = gradients_from_pytorch(grads, before.config, combined=combined)
    assert bits(back.flat) == bits(before.params.flat)
    for name in grads:
        assert bits(grads[name]) == bits(grads[name.replace("bias_hh", "bias_ih")])


@pytest.mark.parametrize("choices", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_the_shapes_tell_the_config(choices):
    before = model(**choices, dropout=0.25)
    open_to_choice = {"feed": "context"} if before.config.memory_size == 4 and before.config.feed == "context" else {}
    after = nmt_from_pytorch(nmt_to_pytorch(before), dropout=0.25, **open_to_choice)
    assert after.config == before.config and bits(after.params.flat) == bits(before.params.flat)


@pytest.mark.parametrize("choices", [dict(bidirectional=False), dict(score="dot")], ids=str)
def test_an_encoder_as_wide_as_the_decoder_leaves_open_what_is_fed(choices):
    before = model(**choices, feed="context")
    assert nmt_from_pytorch(nmt_to_pytorch(before)).config.feed == "output"
    assert nmt_from_pytorch(nmt_to_pytorch(before), feed="context").config == before.config


def test_names_and_shapes_are_the_courses():
    assert {name: array.shape for name, array in nmt_to_pytorch(model()).items()} == COURSE


def test_weights_add_the_biases_and_gradients_do_not():
    theirs = state()
    ours = nmt_from_pytorch(theirs).params
    assert np.array_equal(ours["decoder.b"], theirs["decoder.bias_ih"] + theirs["decoder.bias_hh"])
    assert np.array_equal(ours["encoder.b"][1],
                          theirs["encoder.bias_ih_l0_reverse"] + theirs["encoder.bias_hh_l0_reverse"])
    grads = gradients_from_pytorch(theirs, model().config)
    assert np.array_equal(grads["decoder.b"], theirs["decoder.bias_ih"])
    assert np.array_equal(grads["encoder.b"][0], theirs["encoder.bias_ih_l0"])


def test_the_order_of_a_and_h():
    theirs = state()
    ours = nmt_from_pytorch(theirs).params
    W = theirs["combined_output_projection.weight"]
    turned = {**theirs, "combined_output_projection.weight": np.concatenate([W[:, 8:], W[:, :8]], axis=1)}
    assert np.array_equal(nmt_from_pytorch(turned, combined="h,a").params.flat, ours.flat)
    assert not np.array_equal(nmt_from_pytorch(theirs, combined="h,a").params.flat, ours.flat)
    for call in (lambda: nmt_from_pytorch(theirs, combined="h;a"), lambda: nmt_to_pytorch(model(), combined="ah")):
        with pytest.raises(InputError, match="combined is 'h;a'|combined is 'ah'"):
            call()


def test_a_model_that_is_given_is_filled():
    given_model, theirs = model(dtype="float32"), state()
    assert nmt_from_pytorch(theirs, given_model) is given_model
    assert given_model.params.flat.dtype == np.float32
    assert np.array_equal(given_model.params["attention.W"], theirs["att_projection.weight"].T.astype("float32"))
    with pytest.raises(TypeError, match="that is given"):
        nmt_from_pytorch(theirs, given_model, dropout=0.1)
    with pytest.raises(TypeError, match="dropout"):
        nmt_from_pytorch(theirs, given_model.config, dropout=0.1)


@pytest.mark.parametrize("kind, dtype", [("float16", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_the_dtype_is_that_of_the_tensors(kind, dtype):
    theirs = {name: array.astype(kind) for name, array in state().items()}
    ours = nmt_from_pytorch(theirs)
    assert ours.params.flat.dtype == dtype
    exact = theirs["decoder.bias_ih"].astype(dtype) + theirs["decoder.bias_hh"].astype(dtype)
    assert np.array_equal(ours.params["decoder.b"], exact)
    assert nmt_from_pytorch(theirs, dtype="float64").params.flat.dtype == np.float64


# refusals


def test_everything_that_does_not_fit_is_listed():
    theirs = state()
    del theirs["c_projection.weight"], theirs["encoder.bias_hh_l0_reverse"]
    theirs |= {"extra.weight": np.zeros((2, 3)), "decoder.weight_ih": np.zeros((16, 11)),
               "target_vocab_projection.weight": np.zeros((12, 4))}
    given_model = model()
    before = given_model.params.flat.copy()
    for target in (None, given_model, given_model.config):
        with pytest.raises(InputError) as error:
            nmt_from_pytorch(theirs, target)
        for part in ("missing: c_projection.weight, encoder.bias_hh_l0_reverse", "unknown: extra.weight (2, 3)",
                     "decoder.weight_ih is (16, 11), expected (16, 10)",
                     "target_vocab_projection.weight is (12, 4), expected (11, 4)"):
            assert part in str(error.value)
    assert np.array_equal(given_model.params.flat, before)  # nothing is written before all is checked
    with pytest.raises(InputError, match="missing: .*c_projection"):
        gradients_from_pytorch(theirs, given_model.config)


@pytest.mark.parametrize("name", COURSE)
def test_each_name_is_missed_and_each_shape_looked_at(name):
    with pytest.raises(InputError, match=rf"missing: {name}$"):
        nmt_from_pytorch({n: array for n, array in state().items() if n != name})
    wrong = {**state(), name: np.zeros((*COURSE[name], 1))}
    with pytest.raises(InputError, match=rf"{name} is \(.*, 1\), expected"):
        nmt_from_pytorch(wrong)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", [name for name, shape in COURSE.items() if len(shape) == 2])
def test_a_size_that_contradicts_the_others_is_refused(name, axis):
    if axis == 0 and name == "model_embeddings.source.weight":
        return  # nothing else has the source's words
    shape = list(COURSE[name])
    shape[axis] += 1
    with pytest.raises(InputError, match="of another shape: .*, expected"):
        nmt_from_pytorch({**state(), name: np.zeros(shape)})


def test_a_model_without_its_backward_direction_is_not_taken_for_one_of_one_direction():
    with pytest.raises(InputError, match="missing: encoder.weight_ih_l0_reverse, encoder.weight_hh_l0_reverse"):
        nmt_from_pytorch({name: array for name, array in state().items() if "reverse" not in name})


def test_the_convolution_of_a_later_year_is_explained():
    with pytest.raises(InputError, match="post_embed_cnn.weight .6, 6, 2.* Chinese edition"):
        nmt_from_pytorch({**state(), "post_embed_cnn.weight": np.zeros((6, 6, 2)), "post_embed_cnn.bias": np.zeros(6)})


@pytest.mark.parametrize("choices", [
    dict(layers=2), dict(score="concat"), dict(attention="local-m"), dict(query="previous"),
    dict(tie_embeddings=True, embed_size=4),
], ids=str)
def test_what_there_are_no_names_for_is_refused(choices):
    other = model(**choices)
    name = next(iter(choices))
    for call in (lambda: nmt_to_pytorch(other), lambda: nmt_from_pytorch(state(), other.config),
                 lambda: gradients_to_pytorch(other.params, other.config)):
        with pytest.raises(InputError, match=f"no names for a model with {name} = "):
            call()


@pytest.mark.parametrize("value, message", [
    (None, "decoder.bias_ih is None"), (np.zeros(16, int), "decoder.bias_ih holds int"),
    (np.array(["x"] * 16), "decoder.bias_ih holds"), ("words", "decoder.bias_ih holds"),
])
def test_what_is_no_array_of_numbers_is_refused(value, message):
    with pytest.raises(InputError, match=message):
        nmt_from_pytorch({**state(), "decoder.bias_ih": value})


def test_sizes_cannot_be_chosen():
    with pytest.raises(TypeError, match="hidden_size"):
        nmt_from_pytorch(state(), hidden_size=4)
    with pytest.raises(TypeError, match="colour"):
        nmt_from_pytorch(state(), colour="red")
    with pytest.raises(InputError, match="not those of the config"):
        gradients_to_pytorch(model().params, model(embed_size=9).config)


def test_pytorch_is_not_imported():
    code = ("import sys; from scratchnmt import NMT; from scratchnmt.interop import *\n"
            "nmt_from_pytorch(nmt_to_pytorch(NMT(5, 5, 2, 2)))\n"
            "print(sorted({'torch', 'safetensors', 'cupy'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8").stdout == "[]\n"


# PyTorch


def pytorch_model(seed=0, **choices):
    torch = pytest.importorskip("torch")
    from torch_model import TorchNMT

    torch.manual_seed(seed)
    return TorchNMT(**{**SIZES, **choices}).double()  # both of its biases are random


@pytest.mark.parametrize("choices", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_loss_and_gradients_are_those_of_the_model_that_the_weights_came_from(choices):
    theirs = pytorch_model(**choices)
    import torch
    from torch_weights import gradients

    ours = nmt_from_pytorch(theirs.state_dict(), NMTConfig(**{**SIZES, **choices}))
    src, lengths, tgt = batch()
    loss, cache = ours.forward(src, lengths, tgt)
    grads = ours.backward(cache)
    expected = theirs(*map(torch.from_numpy, (src, lengths, tgt)))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=AGREEMENT)
    found = gradients_from_pytorch({name: p.grad for name, p in theirs.named_parameters()}, ours.config)
    witness = gradients(ours.params, theirs)
    for name, grad in grads.items():
        assert np.array_equal(found[name], witness[name]) and witness[name].any()
        assert np.abs(grad - witness[name]).max() <= AGREEMENT * np.abs(witness[name]).max(), name


@pytest.mark.parametrize("choices", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_the_weights_go_where_the_witness_puts_them(choices):
    theirs, others = pytorch_model(0, **choices), pytorch_model(1, **choices)
    import torch
    from torch_weights import copy_weights

    ours = model(seed=3, **choices)
    copy_weights(ours.params, theirs)
    others.load_state_dict({name: torch.from_numpy(array) for name, array in nmt_to_pytorch(ours).items()})
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, others.state_dict()[name]), name


def test_gradients_on_the_way_out_are_pytorchs_own():
    theirs = pytorch_model()
    import torch

    ours = nmt_from_pytorch(theirs.state_dict())
    src, lengths, tgt = batch(2)
    grads = gradients_to_pytorch(ours.backward(ours.forward(src, lengths, tgt)[1]), ours.config)
    theirs(*map(torch.from_numpy, (src, lengths, tgt))).backward()
    for name, parameter in theirs.named_parameters():
        assert np.abs(grads[name] - parameter.grad.numpy()).max() <= AGREEMENT * parameter.grad.abs().max().item(), name


def test_parameters_that_require_gradients_and_foreign_numbers():
    theirs = pytorch_model()
    import torch

    ours = nmt_from_pytorch(dict(theirs.named_parameters()))
    assert np.array_equal(ours.params.flat, nmt_from_pytorch(theirs.state_dict()).params.flat)
    with pytest.raises(InputError, match="h_projection.weight cannot be made an array"):
        nmt_from_pytorch({**theirs.state_dict(), "h_projection.weight": torch.zeros(4, 8, dtype=torch.bfloat16)})


@pytest.mark.parametrize("spoil", [
    lambda theirs: theirs["decoder.weight_ih"].__setitem__((3, 2), 1e300),
    lambda theirs: [theirs[name].__setitem__(3, 3e38) for name in ("decoder.bias_ih", "decoder.bias_hh")]])
def test_weights_that_are_too_large_for_the_models_dtype(spoil):
    theirs, ours = nmt_to_pytorch(model()), model(seed=1, dtype="float32")
    spoil(theirs)
    before = ours.params.flat.copy()
    with pytest.raises(InputError, match="^decoder.(weight|bias)_ih holds a number that is too large for float32"):
        nmt_from_pytorch(theirs, ours)
    assert np.array_equal(ours.params.flat, before)


# the page


def test_the_pages_table_is_that_of_the_code():
    page = (Path(__file__).resolve().parents[2] / "docs" / "pytorch.md").read_text(encoding="utf-8")
    config = model().config
    sizes = dict(V_src=13, V_tgt=11, E=6, H=4)
    shape = lambda cell: eval(re.sub(r"(\d)H", r"\1*H", cell), {}, sizes)
    theirs, ours = {}, {}
    for row in re.findall(r"^\| (`\w.*|the same .*)$", page, re.MULTILINE):
        cells = [re.findall(r"`([^`]+)`", cell) for cell in row.split(" | ")[:4]]
        reverse = "..._reverse" in cells[0]
        for name in cells[0]:
            if name != "..._reverse":
                theirs |= {name + suffix: shape(cells[1][0]) for suffix in ("", "_reverse")[: 1 + reverse]}
        assert ours.setdefault(cells[2][0], shape(cells[3][0])) == shape(cells[3][0])
    assert theirs == COURSE and ours == config.shapes()


def test_a_part_is_a_tuple():
    assert Piece("decoder.b", 1).index("decoder.b") == 0
