"""Everything once, in seconds: what is run with other versions of Python and of the packages (see versions.py)."""

import json

import pytest

from scratchnmt.data.toy import toy_corpus
from scratchnmt.errors import require

SMALL = ["--embed-size", 8, "--hidden-size", 8, "--vocab-size", 90, "--max-steps", 3, "--metric", "bleu"]


@pytest.mark.parametrize("vocab", ["word", "unigram", "bpe"])
def test_a_model_is_trained_resumed_and_used(call, tmp_path, vocab):
    for package in ("sacrebleu", "sentencepiece", "safetensors", "tqdm", "matplotlib", "threadpoolctl"):
        pytest.importorskip(package)
    files = {}
    for split, sides in toy_corpus(train=60, valid=6, test=4)._asdict().items():
        for side in ("src", "tgt"):
            files[f"{split}_{side}"] = tmp_path / f"{split}.{side}"
            files[f"{split}_{side}"].write_text("\n".join(getattr(sides, side)) + "\n", encoding="utf-8")
    data = [part for name, path in files.items() if not name.startswith("test")
            for part in (f"--{name.replace('_', '-')}", path)]
    run, source, reference = tmp_path / "run", files["test_src"], files["test_tgt"]
    commands = [
        ("train", *data, "--out", run, *SMALL, "--vocab", vocab),
        ("train", "--out", run, "--resume", "--max-steps", 5),
        ("translate", "--model", run, "--input", source, "--beam", 2, "--attention", tmp_path / "map.png"),
        ("evaluate", "--model", run, "--src", source, "--ref", reference, "--json"),
    ]
    printed = []
    for command in commands:
        status, out, err = call(*command)
        assert status == 0, err
        printed.append(out)
    assert len(printed[2].splitlines()) == 4 and "bleu" in json.loads(printed[3])
    assert (tmp_path / "map.png").stat().st_size and (run / "learning-curves.png").stat().st_size


def test_gradients_are_right(call):
    status, out, _ = call("gradcheck", "lstm_cell", "attention")
    assert status == 0 and "ok" in out


def test_weights_of_keras_can_be_read(tmp_path):
    pytest.importorskip("h5py")
    h5py = require("h5py", extra="keras")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["kernel"] = [[1.0, 2.0]]
    with h5py.File(tmp_path / "weights.h5") as file:
        assert file["kernel"][()].tolist() == [[1.0, 2.0]]
