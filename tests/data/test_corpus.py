"""Pairs as ids on the disk are the pairs in memory, whoever encoded them, and what is not whole is no corpus."""

import errno
import gzip
import json
import os
import shutil
import signal
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from scratchnmt.data import corpus as corpus_module
from scratchnmt.data import encode
from scratchnmt.data.corpus import BLOCK, Corpus, Epoch, header_bytes
from scratchnmt.data.encode import encode_parallel, open_or_build
from scratchnmt.data.text import Text
from scratchnmt.data.vocab import SentencePieceVocabulary, WordVocabulary
from scratchnmt.errors import InputError, MachineError, WriteError
from scratchnmt.files import atomic

WORDS = WordVocabulary([f"w{n}" for n in range(50)])


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Two files of 2,500 lines, some blank, some long: more than two blocks."""
    folder, rng = tmp_path_factory.mktemp("text"), np.random.default_rng(0)
    sides = [[" ".join(f"w{n}" for n in rng.integers(0, 60, rng.integers(0, 12))) for _ in range(2500)]
             for _ in range(2)]
    for name, lines in zip(("src", "tgt"), sides, strict=True):
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder, sides


def built(folder, text, vocab=WORDS, max_length=10, **options):
    return open_or_build(folder / "corpus", str(text[0] / "src"), str(text[0] / "tgt"), vocab, vocab,
                         max_length=max_length, **options)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_a_corpus_on_the_disk_is_the_one_in_memory(text, tmp_path, processes, kind, monkeypatch):
    monkeypatch.setattr(encode, "CHUNK", 100)
    vocab, longest = WORDS, 10
    if kind == "pieces":
        pytest.importorskip("sentencepiece")
        vocab, longest = SentencePieceVocabulary.train(text[1][0], size=60), 30
    found, left_out = built(tmp_path, text, vocab, longest, processes=processes)
    expected, expected_left_out = encode_parallel(*text[1], vocab, vocab, max_length=longest)
    assert left_out == expected_left_out and sum(left_out) > 100
    assert list(found) == list(expected) and len(found) == 2500 - sum(left_out) and len(found) > BLOCK
    assert found.fingerprint() == expected.fingerprint() and found.tokens == expected.tokens
    np.testing.assert_array_equal(found.lengths(), expected.lengths())
    for one, other in zip(found.batch([5, 0, 1500]), expected.batch([5, 0, 1500]), strict=True):
        np.testing.assert_array_equal(one, other)
    number = 1700
    assert found.line(number) == expected.line(number) > number
    assert found[number][0] == vocab.encode(text[1][0][found.line(number) - 1])
    found.check(range(-(-len(found) // BLOCK)))
    found.forget()
    assert list(found) == list(expected)


@pytest.mark.parametrize("error", [BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
                                   RuntimeError("can't start new thread")], ids=["process", "thread"])
def test_where_no_process_can_be_started_the_corpus_is_not_blamed(text, tmp_path, monkeypatch, error):
    def start(_):
        raise error

    monkeypatch.setattr(get_context("spawn").Process, "start", start)
    with pytest.raises(MachineError, match="^no process can be started to encode the text .*: end other programs"):
        built(tmp_path, text, processes=2)
    assert not list(tmp_path.iterdir())


def test_few_lines_are_held_at_a_time_where_they_are_long(tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "CHUNK_BYTES", 1000)
    many, original = [], encode._encode
    monkeypatch.setattr(encode, "_encode", lambda lines, *how: many.append(len(lines[0])) or original(lines, *how))
    long, short = " ".join(["w1"] * 200), "w2"
    lines = [long, short, long, long, *[short] * 300, long]
    for name, side in ("src", lines), ("tgt", [short] * len(lines)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in side))
    found, left_out = built(tmp_path, (tmp_path,), max_length=300, processes=1)
    assert 3 == many[0] < many[1] < 100 and sum(many) == len(found) == len(lines) and left_out == (0, 0)
    assert [found.line(number) for number in (0, 4, len(lines) - 1)] == [1, 5, len(lines)]
    (tmp_path / "tgt").write_text("w2\n" * (len(lines) - 1))
    with pytest.raises(InputError, match=f"src has {len(lines)} lines and .*tgt has {len(lines) - 1}:"):
        built(tmp_path, (tmp_path,), max_length=300)


def test_a_corpus_is_a_sequence_of_pairs():
    pairs = [([5, 6], [7]), ([8], [9, 10]), ([5], [6])]
    corpus = Corpus.of(*zip(*pairs, strict=True))
    assert corpus.index(pairs[1]) == 1 and corpus.count(pairs[0]) == 1 and pairs[2] in corpus
    with pytest.raises(ValueError):
        corpus.index(([1], [1]))
    assert corpus[1:] == pairs[1:] and corpus[::-1] == pairs[::-1] == list(reversed(corpus)) and corpus[-1] == pairs[-1]


def test_it_is_made_once_and_anew_when_what_it_is_made_of_has_changed(text, tmp_path):
    said = []
    again = lambda **options: built(tmp_path, text, say=said.append, **options)
    first, left_out = again()
    before = (tmp_path / "corpus" / "ids.bin").stat().st_ino
    second, second_left_out = again()
    assert not said and (tmp_path / "corpus" / "ids.bin").stat().st_ino == before and second_left_out == left_out
    again(vocab=WordVocabulary([f"w{n}" for n in range(49)]))
    assert "text, vocabulary or max_length changed" in said.pop() and not said
    again()
    os.utime(text[0] / "src", ns=(1, 1))
    again()
    assert len(said) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def damage(folder, name, how):
    path = folder / "corpus" / name
    data = bytearray(path.read_bytes())
    if how == "cut":
        del data[-2:]
    elif how == "longer":
        data += b"}}"
    elif how == "gone":
        return path.unlink()
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("change", [{"left_out": ["a", {}]}, {"left_out": [-1, 0]}, {"left_out": 7}, {"pairs": 2.5},
                                    {"made_of": None}])
def test_a_header_with_wrong_content_and_a_right_checksum_is_made_anew(text, tmp_path, change):
    first, left_out = built(tmp_path, text)
    path = tmp_path / "corpus" / "header.json"
    path.write_bytes(header_bytes(json.loads(path.read_bytes()) | change))
    said = []
    second, found = built(tmp_path, text, say=said.append)
    assert len(said) == 1 and found == left_out and list(second) == list(first)


@pytest.mark.parametrize("name", ["header.json", "ids.bin", "index.bin", "blocks.bin"])
@pytest.mark.parametrize("how", ["cut", "longer", "gone", "flip"])
def test_a_damaged_corpus_is_noticed(text, tmp_path, name, how):
    built(tmp_path, text)
    expected = list(Corpus.open(tmp_path / "corpus"))
    damage(tmp_path, name, how)
    said = []
    with pytest.raises(InputError, match="corpus"):
        corpus = Corpus.open(tmp_path / "corpus")
        corpus.check(range(len(corpus.crcs)))  # as an epoch does, block by block
    if how != "flip":  # which is found while it is read
        assert list(built(tmp_path, text, say=said.append)[0]) == expected
        assert "has to be made anew: " in said[0] and name in said[0]


def test_a_corpus_of_another_version(text, tmp_path):
    built(tmp_path, text)
    path = tmp_path / "corpus" / "header.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(InputError, match="header.json has version 2, this program reads version 1"):
        Corpus.open(tmp_path / "corpus")


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_disk_that_fills_leaves_nothing_half_built(text, tmp_path, monkeypatch, function):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, function, full)
    with pytest.raises(WriteError, match="/corpus cannot be written: No space left"):
        built(tmp_path, text)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_cannot_be_taken_leaves_what_was_there(text, tmp_path, monkeypatch):
    expected = list(built(tmp_path, text)[0])
    replace, targets = os.replace, []

    def fails_once(source, target):
        targets.append(target)
        if targets.count(tmp_path / "corpus") == 1 and target == tmp_path / "corpus":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(WriteError, match="Input/output error"):
        built(tmp_path, text, max_length=11)
    assert list(Corpus.open(tmp_path / "corpus")) == expected and [p.name for p in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize("there", ["folder", "file"])
def test_what_is_no_corpus_is_never_replaced(text, tmp_path, there):
    if there == "file":
        (tmp_path / "corpus").write_text("mine")
    else:
        (tmp_path / "corpus").mkdir()
        (tmp_path / "corpus" / "train.en").write_text("mine")
    with pytest.raises(InputError, match="corpus is in the way: .* it holds (train.en|corpus); choose another folder"):
        built(tmp_path, text)
    assert "mine" in {path.read_text() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_link_to_another_disk_stays_one(text, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "corpus").symlink_to(tmp_path / "disk")
    built(tmp_path, text)
    assert (tmp_path / "corpus").is_symlink() and (tmp_path / "disk" / "header.json").exists()


def test_another_text_of_the_same_size_and_time_is_another(text, tmp_path):
    for side in ("src", "tgt"):
        (tmp_path / side).write_bytes((text[0] / side).read_bytes())
    first = built(tmp_path, (tmp_path,))[0].fingerprint()
    about = (tmp_path / "tgt").stat()
    (tmp_path / "tgt").write_bytes((text[0] / "tgt").read_bytes().replace(b"w1 ", b"w2 "))
    os.utime(tmp_path / "tgt", ns=(about.st_atime_ns, about.st_mtime_ns))
    said = []
    assert (tmp_path / "tgt").stat().st_size == about.st_size
    assert built(tmp_path, (tmp_path,), say=said.append)[0].fingerprint() != first and said


def test_text_that_cannot_be_read_more_than_once(tmp_path):
    os.mkfifo(tmp_path / "src")
    (tmp_path / "tgt").write_text("a\n")
    for refused in (lambda: built(tmp_path, (tmp_path,)), lambda: Text(tmp_path / "src")):
        with pytest.raises(InputError, match="src is not a regular file, expected a text file that can be read"):
            refused()


@pytest.mark.parametrize("content, message", [
    (gzip.compress(b"a\n" * 1000)[:-9], "tgt.gz is a damaged gzip file"), (b"plain", "tgt.gz is a damaged gzip file"),
    (None, "is a d"),
])
def test_text_that_cannot_be_read_is_not_taken_for_a_disk_that_cannot_be_written(tmp_path, content, message):
    (tmp_path / "src").write_text("a\n" * 1000)
    (tmp_path / "tgt.gz").write_bytes(content) if content else (tmp_path / "tgt.gz").mkdir()
    vocab = WordVocabulary(["a"])
    with pytest.raises(InputError, match=message) as error:
        open_or_build(tmp_path / "corpus", str(tmp_path / "src"), str(tmp_path / "tgt.gz"), vocab, vocab)
    assert not isinstance(error.value, WriteError) and sorted(p.name for p in tmp_path.iterdir()) == ["src", "tgt.gz"]


def test_a_damaged_block_of_a_corpus_that_is_not_ours_is_told_with_what_to_do(text, tmp_path, monkeypatch):
    built(tmp_path, text)
    damage(tmp_path, "ids.bin", "flip")

    def refuse(path, missing_ok=False):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(InputError, match=r"do not have their checksum; remove it \(Permission denied\), and"):
        Corpus.open(tmp_path / "corpus").check([0])


def test_a_damaged_block_is_made_anew_by_the_next_start(text, tmp_path):
    expected = list(built(tmp_path, text)[0])
    damage(tmp_path, "ids.bin", "flip")
    with pytest.raises(InputError, match="made anew when the run is resumed"):
        list(Epoch(Corpus.open(tmp_path / "corpus"), 64, "sentences", 1, [0]))
    assert list(built(tmp_path, text)[0]) == expected


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(WordVocabulary):
    """Takes the process with it that encodes."""

    def encode(self, line):
        return super().encode(line) if os.environ.get("FIRST") == str(os.getpid()) else die()


def test_a_worker_that_dies_is_told(text, tmp_path, monkeypatch):
    monkeypatch.setenv("FIRST", str(os.getpid()))
    with pytest.raises(InputError, match="a process that encodes the text ended before its work was done"):
        built(tmp_path, text, Deadly(["w1"]), processes=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("src, tgt, message", [
    ("a\nb\n", "a\n", "src has 2 lines and .*tgt has 1"), ("", "", "src is empty"),
    ("a\n \n", "\nb\n", "no sentence pair is left: of 2, 2 are blank on a side \\(.*src and .*tgt\\)"),
    ("a\nb\n" * 5000, "a\nb\n" * 4999 + "a\ncaf\udce9\n", "tgt, line 10000: byte 0xe9 is not UTF-8"),
])
@pytest.mark.parametrize("processes", [1, 2])
def test_text_that_cannot_be_used(tmp_path, src, tgt, message, processes):
    for name, content in (("src", src), ("tgt", tgt)):
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    vocab = WordVocabulary(["a", "b"])
    with pytest.raises(InputError, match=message):
        open_or_build(tmp_path / "corpus", str(tmp_path / "src"), str(tmp_path / "tgt"), vocab, vocab,
                      processes=processes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src", "tgt"]


# the order of an epoch

def corpus_of(count, seed=0):
    rng = np.random.default_rng(seed)
    ids = lambda: [rng.integers(4, 50, rng.integers(1, 9)).tolist() for _ in range(count)]
    return Corpus.of(ids(), ids())


@pytest.mark.parametrize("count", [5000, 4 * BLOCK, BLOCK + 1])
@pytest.mark.parametrize("by, size", [("sentences", 64), ("tokens", 300)])
@pytest.mark.parametrize("pool", [1, 8])
def test_every_pair_once_in_an_order_that_can_be_found_again(count, by, size, pool, monkeypatch):
    corpus = corpus_of(count)
    whole = Epoch(corpus, size, by, pool, [1, 2, 3])
    monkeypatch.setattr(corpus_module, "BUFFER", 2 * BLOCK)
    found = Epoch(corpus, size, by, pool, [1, 2, 3])
    assert len(found.parts) == max(1, -(-count // (2 * BLOCK))) and len(whole.parts) == 1
    for batches in (found, whole):
        assert sorted(np.concatenate(list(batches))) == list(range(count)) and len(list(batches)) == len(batches)
    again, other = (Epoch(corpus, size, by, pool, [1, 2, seed]) for seed in (3, 4))
    places = np.random.default_rng(0).permutation(len(found))[:20]
    assert all(np.array_equal(again[i], found[i]) for i in places)  # whichever is asked for first
    assert any(not np.array_equal(other[i], found[i]) for i in range(min(len(other), len(found))))
    with pytest.raises(IndexError):
        found[len(found)]


def test_a_buffer_holds_pairs_from_all_over_the_corpus_and_no_more_than_fits(monkeypatch):
    monkeypatch.setattr(corpus_module, "BUFFER", 4 * BLOCK)
    corpus = corpus_of(16 * BLOCK)
    batches = Epoch(corpus, 64, "sentences", 1, [0])
    first = np.concatenate(batches[: 4 * BLOCK // 64])
    blocks = np.unique(first // BLOCK)
    assert len(blocks) == 4 and len(first) == 4 * BLOCK and blocks.tolist() != [0, 1, 2, 3]
    assert len(np.unique(np.concatenate(batches[:4]) // BLOCK)) == 4  # shuffled within


def test_a_damaged_block_is_found_when_an_epoch_comes_to_it(text, tmp_path, monkeypatch):
    built(tmp_path, text)
    damage(tmp_path, "ids.bin", "flip")
    corpus = Corpus.open(tmp_path / "corpus")
    with pytest.raises(InputError, match=r"corpus is damaged: pairs 0 to 1,023|pairs 1,024 to 2,047"):
        list(Epoch(corpus, 64, "sentences", 1, [0]))


@pytest.mark.parametrize("when", ["gone", "replaced"])
def test_a_builder_has_its_own_corpus_whoever_is_faster(text, tmp_path, monkeypatch, when):
    """At that moment another one has moved this one's folder away, or put a corpus of something else in its place."""
    def replaced(*arguments):
        original(*arguments)
        monkeypatch.undo()
        shutil.rmtree(tmp_path / "corpus")
        if when == "replaced":
            built(tmp_path, text, max_length=5)

    original = atomic._take_place
    monkeypatch.setattr(atomic, "_take_place", replaced)
    found, left_out = built(tmp_path, text, max_length=10)
    expected, _ = encode_parallel(*text[1], WORDS, WORDS, max_length=10)
    assert list(found) == list(expected) and sum(left_out) > 100
    assert found.name == str(tmp_path / "corpus")


def test_a_corpus_that_is_replaced_while_it_is_opened_is_not_mixed_with_the_other(text, tmp_path, monkeypatch):
    def opened(folder, *rest):
        monkeypatch.undo()
        built(tmp_path, text, max_length=5)
        return Corpus.open(folder, *rest)

    built(tmp_path, text)
    monkeypatch.setattr(Corpus, "open", opened)
    found, _ = built(tmp_path, text, say=lambda _: None)
    assert list(found) == list(encode_parallel(*text[1], WORDS, WORDS, max_length=10)[0])
