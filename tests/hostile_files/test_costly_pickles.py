"""Files of PyTorch that are whole and made to cost more than their size."""

import struct

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("sentencepiece")
from hostile_files.bounds import bounded, cost
from stress import malicious
from stress.malicious import dictionary, large, number, tensor, word
from test_stress import fuzz  # the script

from scratchnmt.errors import InputError
from scratchnmt.interop import nmt_from_pytorch, read_state_dict


def pickled(folder, *contents):
    """Archives of torch.save."""
    for n, content in enumerate(contents):
        (folder / f"{n}.pt").write_bytes(malicious.zipped({"a/data.pkl": b"\x80\x02" + content + b".",
                                                           "a/data/0": np.arange(6, dtype="<f4").tobytes()}))
    return [folder / f"{n}.pt" for n in range(len(contents))]


DOUBLED = b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60))


def test_containers_through_the_memo_and_keys_that_are_no_words(tmp_path):
    colliding = [large(n * (2**61 - 1)) for n in range(1, 40_000)]
    same = [word("x" * 500_000) + b"q\x00", word("x" * 500_000) + b"q\x01", *[b"h\x00", b"h\x01"] * 100_000]
    names = word("m" * 500_000) + b"q\x00" + word("Vocab") + b"q\x01" + b"h\x00h\x01\x93" * 100_000  # STACK_GLOBAL
    bounded(read_state_dict, *pickled(
        tmp_path, names, b"}" + DOUBLED + tensor() + b"s", dictionary([(key, b"N") for key in colliding]),
        dictionary([(word("a"), DOUBLED)]), b"}" + word("state_dict") + DOUBLED + b"s",
        dictionary([(key, b"N") for key in same]), b"(" + word("storage") + DOUBLED * 4 + b"tQ",
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + DOUBLED * 5 + b"tR", DOUBLED + DOUBLED + b"R",
        dictionary([(b"N", tensor())]), dictionary([(b"\x88", tensor())])))


def test_arguments_that_are_many_and_given_again_and_again(tmp_path):
    many = malicious.again_and_again(more=100_000, calls=20_000)
    bounded(read_state_dict, *pickled(tmp_path, many + dictionary([(b"N", b"N")])))


def colliding(bits):
    """Numbers of at most 32 bits which, as keys of a dict of 2**bits places, are each compared with many others.

    CPython looks for place 5 i + 1 after i, once it has taken account of all bits of the number: a third of all places
    are the first of that course, and the other numbers come to it in its first half.
    """
    places = 1 << bits
    course, turn = [0], np.full(places, places)
    while len(course) < places // 3:
        course.append((5 * course[-1] + 1) % places)
    turn[course] = np.arange(len(course))
    others, start = [], places
    while len(others) < places // 3 - 10:
        numbers = np.arange(start, start := start + (1 << 20))
        place, rest, meets = numbers % places, numbers, turn[numbers % places] < len(course)
        while rest.any():
            rest = rest >> 5
            place = (5 * place + rest + 1) % places
            meets &= turn[place] < len(course)
        others += numbers[meets & (turn[place] < len(course) // 2)].tolist()
    return course + others[: places // 3 - 10]


def test_what_is_beside_the_tensors_can_be_printed(tmp_path):
    args = dictionary([(word("dropout_rate"), b"G" + struct.pack(">d", 0.3)), (word("deep"), DOUBLED)])
    path, = pickled(tmp_path, dictionary([(word("state_dict"), dictionary([(word("w"), tensor())])),
                                          (word("args"), args)]))
    ended, _, _ = cost(lambda: repr(read_state_dict(path)))
    assert ended == fuzz.NAMES[fuzz.NOT_SEALED] and read_state_dict(path).args == {"dropout_rate": 0.3}


def test_small_numbers_that_collide_as_keys_and_in_the_memo(tmp_path):
    numbers = colliding(17)
    bounded(read_state_dict, *pickled(
        tmp_path, dictionary([(b"J" + number.to_bytes(4, "little"), b"N") for number in numbers]),
        b"N" + b"".join(b"r" + number.to_bytes(4, "little") for number in numbers)))


@pytest.mark.parametrize("first", [0, 1])  # Python 2's C code begins with 1
def test_the_memo_is_given_in_order(first, tmp_path):
    content = dictionary([(word(f"w{n}") + b"q%c" % (first + n), tensor()) for n in range(3)])
    (path,) = pickled(tmp_path, content)
    assert list(read_state_dict(path).tensors) == ["w0", "w1", "w2"]


def test_the_course_keys_its_words_by_small_numbers(tmp_path):
    inside = dictionary([(word("id2word"), dictionary([(number(n), word(f"w{n}")) for n in range(1000)]))])
    content = dictionary([(word("vocab"), b"cvocab\nVocab\n)\x81" + inside + b"b"),
                          (word("state_dict"), dictionary([(word("w"), tensor())]))])
    (path,) = pickled(tmp_path, content)
    assert list(read_state_dict(path).tensors) == ["w"]


def test_shapes_of_many_axes_and_one_storage_under_many_names(tmp_path):
    many = (1,) * 50_000
    bounded(read_state_dict, *pickled(
        tmp_path, dictionary([(word("w"), tensor(shape=many, strides=many))]),
        dictionary([(word("w"), tensor(shape=(0, *(2**31 - 1,) * 3), strides=(1,) * 4))]),
        dictionary([(word(f"w{n}"), tensor()) for n in range(500)])))
    tied, = pickled(tmp_path, dictionary([(word(f"w{n}"), tensor()) for n in range(4)]))
    assert len(read_state_dict(tied).tensors) == 4


def test_many_names_of_one_tensor_without_numbers(tmp_path):
    again = [(b"\x8c\x04%04x" % n, b"h\x00") for n in range(60_000)]  # eight bytes each
    path, = pickled(tmp_path, dictionary([(word("w"), tensor(shape=(0,), strides=(1,)) + b"q\x00"), *again]))
    bounded(read_state_dict, path, megabytes=120 * path.stat().st_size / 1e6, ends=(fuzz.NOT_SEALED,))


def test_nothing_is_converted_before_names_and_shapes_are_right(tmp_path, monkeypatch):
    from scratchnmt.interop import cs224n

    monkeypatch.setattr(cs224n, "_wide", lambda array: pytest.fail("converted"))
    with pytest.raises(InputError, match="unknown: w0"):
        nmt_from_pytorch({f"w{n}": np.zeros(10, "float16") for n in range(500)})


def test_shapes_without_numbers_that_say_how_large_the_model_is():
    names = ["model_embeddings.source.weight", "model_embeddings.target.weight", "encoder.weight_hh_l0",
             "decoder.weight_ih", "decoder.weight_hh", "h_projection.weight"]
    with pytest.raises(InputError, match="expected two axes"):
        nmt_from_pytorch({name: np.zeros((0, 2**58), "float32") for name in names})
