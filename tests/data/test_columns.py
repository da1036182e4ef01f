"""One column of a file of several is a text like any other; a table that is taken for a text is refused."""

import gzip
import json
import shutil
import subprocess

import pytest

from scratchnmt.data.formats import Column
from scratchnmt.data.text import Text, read_lines, read_parallel, stream_lines
from scratchnmt.errors import InputError

PAIRS = [("a dog", "un chien"), ("", ""), ("two cats", ""), ("x  y ", 'z "w"')] * 8
TSV = "".join(f"{n}\t{src}\t{tgt}\n" if src else "\n" for n, (src, tgt) in enumerate(PAIRS)).encode()
JSONL = "".join(json.dumps({"id": 1, "translation": {"en": src, "fr": tgt}, "a.b": src}) + "\n" if src else "\n"
                for src, tgt in PAIRS).encode()


@pytest.mark.parametrize("content, columns", [
    (TSV, ("2", "3")), (TSV.replace(b"\n", b"\r\n"), ("2", "3")), (gzip.compress(TSV), ("2", "3")),
    (JSONL, ("translation.en", "translation.fr")), (b"\xef\xbb\xbf" + JSONL, ("a.b", "translation.fr")),
])
def test_a_column_is_a_text(tmp_path, content, columns):
    path = tmp_path / "table"
    path.write_bytes(content)
    src, tgt = (Column(str(path), column) for column in columns)
    assert read_parallel(src, tgt) == ([src for src, _ in PAIRS], [tgt for _, tgt in PAIRS])
    assert list(Text(tgt)) == list(stream_lines(tgt)) == [tgt for _, tgt in PAIRS]


@pytest.mark.parametrize("content, column, sentence", [
    ("a\tb\nc\n", "2", "line 2 has 1 column separated by tabs, and column 2 was asked for"),
    ("a\tb\tc\n", "4", "line 1 has 3 columns"),
    ('{"en": "a"}\n', "2", "line 1 has 1 column .*the columns of JSON lines are keys"),
    ('{"en": "a"}\n\n{"de": "b", "fr": "c"}\n', "en", "line 3 has no key en, only de, fr"),
    ('{"target": "a"}\n', "traget", "line 1 has no key traget, only target; did you mean 'target'"),
    ('{"t": {"en": "a"}}\n', "t.de", "line 1 has no key t.de, only en"),
    ('{"t": "a"}\n', "t.de", "line 1 has no key t.de"),
    ('{"en": 3}\n', "en", "line 1: the value of en is not text"),
    ('{"en": "a\\ud800b"}\n', "en", "line 1: the value of en is not text"),
    ('["a", "b"]\n', "en", "line 1 is not a JSON object with the key en"),
    ("a\tb\n", "en", "line 1 is not a JSON object .*columns separated by tabs are named by their numbers"),
    ('{"en": "a"\n', "en", "line 1 is not JSON"),
    ('{"en": ' + "[" * 100_000 + "\n", "en", "line 1 is (not JSON|damaged)"),
])
def test_what_a_line_lacks_is_told(tmp_path, content, column, sentence):
    (tmp_path / "f").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=f"f, {sentence}"):
        read_lines(Column(str(tmp_path / "f"), column))


@pytest.mark.parametrize("name", ["0", "00", "\u00b2", "\u0663", "-1", "1.0", "9" * 5000])
def test_what_is_no_number_of_a_column_is_refused(tmp_path, name):
    (tmp_path / "f").write_text("a\tb\n")
    with pytest.raises(InputError, match="f, line 1 is not a JSON object with the key"):
        read_lines(Column(str(tmp_path / "f"), name))


def test_a_line_feed_in_json_ends_no_line(tmp_path):
    (tmp_path / "f").write_text('{"en": "a\\nb"}\n')
    assert read_lines(Column(str(tmp_path / "f"), "en")) == ["a b"]


@pytest.mark.parametrize("content, what, columns, first", [
    ("a b\tc\n" * 3, "2 columns separated by tabs", "1,2", ["a b"] * 3),
    ("a b\tc\td\n" * 50, "3 columns", "1,2", ["a b"] * 50),
    ('{"en": "a b", "de": "c"}\n' * 30, "JSON lines with the keys en, de", "en,de", ["a b"] * 30),
    ('{"my key": "a b", "de": "c"}\n' * 3, "JSON lines", "'my key,de'", ["a b"] * 3),
    ('{"\\u001b[2J": "a b", "$(ls)": "c"}\n' * 3, "JSON lines", r"'\?\[2J,\$\(ls\)'", ["a b"] * 3),
])
@pytest.mark.parametrize("suffix, pack", [("", bytes), (".gz", gzip.compress)])
def test_a_table_is_no_text_and_the_command_that_is_advised_makes_one(tmp_path, content, what, columns, first, suffix,
                                                                      pack):
    path = tmp_path / f"the pairs{suffix}"
    path.write_bytes(pack(content.encode()))
    told = f"{path.name} has .*{what}.*--train-tsv FILE --columns {columns};"
    for read in (lambda path: read_parallel(path, path), Text, lambda path: next(stream_lines(path))):
        with pytest.raises(InputError, match=told) as error:
            read(path)
    command = str(error.value).partition("take a column out: ")[2]
    if all(shutil.which(part.split()[0]) for part in command.split(" | ")):
        found = subprocess.run(command, shell=True, check=True, capture_output=True, encoding="utf-8").stdout
        assert found.splitlines() == first


@pytest.mark.parametrize("content", [
    "a\tb\nc\td\n", "a\tb\nc d\ne\tf\n", "a\n" * 25 + "a\tb\n" * 5, "{a}\n{b}\n{c}\n", '{"a": 1}\nb\nc\n', "\t\n" * 5,
])
def test_text_with_tabs_or_braces_is_text(tmp_path, content):
    (tmp_path / "f").write_text(content)
    assert list(stream_lines(tmp_path / "f")) == content.split("\n")[:-1]
