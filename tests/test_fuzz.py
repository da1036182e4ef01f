"""Spoilt files, in the short form of tests/stress/fuzz.py, and what that and tests/stress/guided.py have found."""

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stress.mutations import SEALED, mutate, targets

from scratchnmt.data.text import read_lines
from scratchnmt.data.vocab import load_vocabulary
from scratchnmt.errors import InputError
from scratchnmt.files.run_folder import RunFolder

pytest.importorskip("safetensors")
pytest.importorskip("sentencepiece")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    found = targets(tmp_path_factory.mktemp("files"))
    return {name: (target, target.path.read_bytes(), target.load()) for name, target in found.items()}


@settings(max_examples=600, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_spoilt_file_is_refused_by_one_sentence_or_is_what_it_was(files, data):
    name = data.draw(st.sampled_from(sorted(files)))
    target, right, expected = files[name]
    spoilt = mutate(right, random.Random(data.draw(st.integers(0, 2**32))))
    target.path.write_bytes(spoilt)
    try:
        found = target.load()
    except InputError as error:
        assert len(str(error)) < 2000 and "\n" not in str(error)
    else:
        assert found == expected or not name.startswith(SEALED)
    finally:
        target.path.write_bytes(right)


def test_a_number_of_layers_that_would_fill_the_memory(files):
    target, right, _ = files["first version: config.json"]
    content = json.loads(right)
    content["model"]["layers"] = 10**9
    target.path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="layers is 1000000000, expected at most 100"):
        target.load()
    target.path.write_bytes(right)


def test_a_name_of_five_thousand_letters_is_not_repeated_whole(files):
    target, right, _ = files["first version: config.json"]
    target.path.write_text(json.dumps({**json.loads(right), "9" * 5000: 1}))
    with pytest.raises(InputError, match=r"it has \['9{90,100}\.\.\., which is not known"):
        target.load()
    target.path.write_bytes(right)


def test_words_nested_deeper_than_python_can_follow(tmp_path):
    (tmp_path / "words").write_text('{"format": ' + "[" * 100_000)
    with pytest.raises(InputError, match="is not a vocabulary that can be used"):
        load_vocabulary(tmp_path / "words")


@pytest.mark.parametrize("left", [b"\x1f", b"\x00" * 8, b"plain\n"])
def test_what_is_called_gz_and_is_none(tmp_path, left):
    (tmp_path / "text.gz").write_bytes(left)
    with pytest.raises(InputError, match="text.gz is a damaged gzip file: it does not begin as one"):
        read_lines(tmp_path / "text.gz")


def test_a_path_outside_the_folder_is_never_read(files, tmp_path):
    target, right, _ = files["first version: config.json"]
    secret = tmp_path / "secret.vocab.json"
    secret.write_text("{}")
    for name in (str(secret), "../../etc/passwd", "joint.vocab.json/../joint.vocab.json", "/dev/zero"):
        content = json.loads(right)
        content["vocabularies"] = {"src": name, "tgt": name}
        content["checksums"][name] = "0"
        target.path.write_text(json.dumps(content))
        with pytest.raises(InputError, match="config.json is damaged: its vocabularies are"):
            RunFolder(target.path.parent).read()
    target.path.write_bytes(right)
