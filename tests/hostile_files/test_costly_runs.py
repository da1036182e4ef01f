"""Models, corpora and metrics that are made to cost more than their size, and whatever is drawn of all kinds."""

import json
import os
import random
from functools import partial

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("sentencepiece")
from hostile_files.bounds import cost
from stress import malicious
from stress.malicious import KINDS
from test_stress import fuzz  # the script

from scratchnmt import NMT
from scratchnmt.checkpoint import load_model as load_nmt
from scratchnmt.checkpoint import save_model
from scratchnmt.data.corpus import BLOCK, BLOCKS, HEADER, IDS, INDEX, ROW, Corpus, block_crc, header_bytes
from scratchnmt.data.vocab import WordVocabulary, load_vocabulary
from scratchnmt.errors import InputError
from scratchnmt.files.reading import bytes_with_checksum
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.files.tensors import write_tensors
from scratchnmt.interop import read_cs224n_vocabularies, read_state_dict
from scratchnmt.sequential import Dense, Sequential, load_model

LONG = 9 * 10**4299  # has as many digits as Python reads and prints; four times as much it does not print


@pytest.mark.parametrize("name", KINDS)
def test_whatever_is_drawn_costs_what_its_size_allows(name, tmp_path):
    kind, ended = KINDS[name], set()
    base = fuzz.child(lambda: fuzz.REFUSED)[2]  # a child begins with the memory of this process
    for n in range(12):
        path = tmp_path / "file"
        path.write_bytes(kind.make(random.Random(f"{name} {n}")))
        share = 1 + path.stat().st_size / fuzz.EACH
        for _ in range(3):  # another process may keep the caches of this core busy for a while
            outcome, seconds, memory = cost(partial(kind.load, path))
            if fuzz.within(share, seconds):
                break
        ended.add(outcome)
        assert fuzz.within(share, seconds) and memory - base < 300 * share, (n, outcome, seconds, memory - base)
    assert ended <= {fuzz.NAMES[fuzz.REFUSED], fuzz.NAMES[fuzz.NOT_SEALED]}


def test_what_a_file_says_of_itself_does_not_reach_the_terminal_as_it_is(tmp_path):
    from scratchnmt.files.tensors import read_tensors

    header = json.dumps({"a": {"dtype": "\x1b[2J\nx", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "f").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    for read in (read_tensors, load_model, read_state_dict):
        with pytest.raises(InputError) as error:
            read(tmp_path / "f")
        assert str(error.value).isprintable()


def test_a_message_has_a_bounded_length_and_keeps_its_remedy():
    message = str(InputError("f is " + "y" * 100_000 + ": save it again"))
    assert len(message) <= 2000 and message.startswith("f is yy") and message.endswith("yy: save it again")
    assert str(InputError("short")) == "short"


def model_folder(path, **changes):
    """A model that is saved, and then said to be of another config."""
    vocabulary = WordVocabulary(["a", "b"])
    save_model(path, NMT(6, 6, 4, 4), vocabulary, vocabulary)
    config = json.loads((path / "config.json").read_bytes())
    config["model"] |= changes
    (path / "config.json").write_bytes(bytes_with_checksum(config))
    return RunFolder(path)


@pytest.mark.parametrize("name", ["embed_size", "hidden_size", "src_vocab_size", "max_source", "heads", "r_drop"])
def test_a_model_whose_size_is_longer_than_what_python_prints(name, tmp_path):
    folder = model_folder(tmp_path / "m", **{name: LONG}, dropout=0.1)
    for read in (lambda: folder.check_room("model.safetensors", folder.read()), lambda: load_nmt(tmp_path / "m")):
        with pytest.raises(InputError, match=f"config.json is damaged: {name} is 9000"):
            read()


@pytest.mark.parametrize("name", ["pairs", "tokens", "content"])
def test_a_corpus_whose_size_is_longer_than_what_python_prints(name, tmp_path):
    told = {"format": "scratchnmt corpus", "version": 1, "pairs": 1, "tokens": 2, "dtype": "<u2", "content": 0,
            "left_out": [0, 0], "made_of": {}, name: LONG}
    (tmp_path / "header").write_bytes(bytes_with_checksum(told))
    with pytest.raises(InputError, match="its sizes are none"):
        malicious._read_corpus(tmp_path / "header")


@pytest.mark.parametrize("name", ["epoch", "seconds", "valid_bleu"])
def test_metrics_that_are_larger_than_can_be_drawn(name, tmp_path):
    pytest.importorskip("matplotlib")
    right = {"epoch": 1, "seconds": 1, "train_loss": 1, "valid_ppl": 2, "valid_bleu": 3}
    for value in (1.7e308, -1.7e308, 2.0**63):
        (tmp_path / "metrics").write_text(f"{json.dumps(right)}\n{json.dumps(right | {name: value})}\n")
        with pytest.raises(InputError, match=f"line 2, is not the record of a validation: its {name} is"):
            learning_curves(tmp_path / "metrics")


def overlapping_corpus(folder, blocks, change):
    """An encoded corpus of right checksums, and as many tokens as pairs."""
    rows, ids = np.zeros(blocks * BLOCK, ROW), np.ones(24 * blocks * BLOCK, "<u2")
    change(rows, len(ids))
    crcs = [block_crc(rows[start : start + BLOCK], ids[int(rows["start"][start]) : int(rows["start"][last])
                                                       + int(rows["src"][last]) + int(rows["tgt"][last])])
            for start, last in ((n * BLOCK, n * BLOCK + BLOCK - 1) for n in range(blocks))]
    folder.mkdir()
    for name, array in ((IDS, ids), (INDEX, rows), (BLOCKS, np.array(crcs, "<u4"))):
        array.tofile(folder / name)
    (folder / HEADER).write_bytes(header_bytes({
        "pairs": len(rows), "tokens": len(ids), "dtype": "<u2", "content": 0, "left_out": [0, 0], "made_of": {}}))
    return Corpus.open(folder)


def whole(rows, tokens):
    rows["start"], rows["src"], rows["tgt"] = np.arange(len(rows)) * 24, 20, 4


def all_the_same(rows, tokens):
    rows["src"] = tokens - 1
    rows["tgt"] = 1


def behind_the_end(rows, tokens):
    whole(rows, tokens)
    rows["src"][-1] = 2**32 - 1


def far_away(rows, tokens):
    rows["start"], rows["src"], rows["tgt"] = 2**63 + 5, 2**32 - 1, 1


def one_is_empty(rows, tokens):
    whole(rows, tokens)
    rows["src"][7], rows["tgt"][7] = 0, 24


def test_a_corpus_whose_pairs_follow_one_another_is_whole(tmp_path):
    overlapping_corpus(tmp_path / "c", 3, whole).check(range(3))


@pytest.mark.parametrize("change", [all_the_same, behind_the_end, far_away, one_is_empty])
def test_a_corpus_whose_pairs_share_their_tokens_or_have_none(change, tmp_path):
    corpus = overlapping_corpus(tmp_path / "c", 3, change)
    with pytest.raises(InputError, match="do not follow one another"):
        corpus.check(range(3))


@pytest.mark.parametrize("sizes", [(1, 2), (2, 1)])
def test_a_corpus_with_ids_that_the_vocabulary_does_not_have(sizes, tmp_path):
    """Its checksums are right: whoever made it has made them, too.  All ids are 1."""
    overlapping_corpus(tmp_path / "c", 3, whole)
    Corpus.open(tmp_path / "c", None, (2, 2)).check(range(3))
    with pytest.raises(InputError, match="pairs 0 to 1,023 have ids that the vocabulary does not have"):
        Corpus.open(tmp_path / "c", None, sizes).check(range(3))


def test_a_tensor_file_whose_json_is_nested_deeper_than_any(tmp_path, monkeypatch):
    """Else who goes on with the state of a run, and saves it, fails."""
    from scratchnmt.files import tensors

    deep = []
    for _ in range(60):
        deep = [deep]
    with monkeypatch.context() as unread:
        unread.setattr(tensors, "_read_back", lambda path: None)
        write_tensors(tmp_path / "f", {}, {"deep": deep})
    with pytest.raises(InputError, match="f was not written by scratchnmt, or is damaged"):
        tensors.read_tensors(tmp_path / "f")


@pytest.mark.parametrize("changes", [
    {"layers": [{"kind": "Dense", "name": "a\nb", "units": 3}] * 2},
    {"layers": [{"kind": "Dense", "name": "a.\nb", "units": 3}]},
    {"layers": [{"kind": "Dense", "name": "a\nb", "units": 3, "use_bias": False}]},
    {"name": "a\nb", "trainable": 5, "layers": []},
], ids=["twice", "a dot", "of integers", "network"])
def test_names_with_line_feeds_do_not_make_lines_of_an_error(changes, tmp_path):
    about = {"name": "s", "dtype": "float32", "input_shape": [2], "compiled": None}
    write_tensors(tmp_path / "f", {"a\nb.W": np.ones((2, 3), int)}, {"sequential": about | changes})
    with pytest.raises(InputError) as error:
        load_model(tmp_path / "f")
    assert str(error.value).isprintable() and str(tmp_path / "f") in str(error.value)


def test_pieces_with_line_feeds_do_not_make_lines_of_an_error(tmp_path):
    from scratchnmt.data.vocab import SentencePieceVocabulary

    model = SentencePieceVocabulary.train(["a dog runs", "le chien"] * 5, size=40).to_bytes()
    (tmp_path / "f").write_bytes(model.replace(b"<pad>", b"<\np >"))
    with pytest.raises(InputError) as error:
        load_vocabulary(tmp_path / "f")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("load", [
    read_state_dict, read_cs224n_vocabularies, load_vocabulary, load_model,
    lambda path: Sequential([Dense(3, input_shape=(2,))]).load_weights(path),
    lambda path: malicious.read_tensors(path), lambda path: learning_curves(path),
], ids=["state_dict", "vocab.json", "vocabulary", "network", "weights of a network", "tensors", "metrics"])
def test_a_pipe_in_the_place_of_a_file_is_refused(load, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    ended, _, _ = cost(lambda: load(tmp_path / "pipe"))
    assert ended == fuzz.NAMES[fuzz.REFUSED]
    with pytest.raises(InputError, match="pipe is not a regular file"):
        load(tmp_path / "pipe")


def learning_curves(path):
    from scratchnmt.plots import learning_curves

    learning_curves(path, path.with_name("curves.png"))
