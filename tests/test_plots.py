"""The pictures are drawn, in the kind that the name says, with the text that was given."""

import json

import numpy as np
import pytest

from scratchnmt.errors import InputError
from scratchnmt.plots import attention_map, families_for, learning_curves

pytest.importorskip("matplotlib")

SRC, TGT = ["▁Ein", "Mädchen", "$x_1$", "</s>"], ["une", "fille", "çà"]
WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(4), 3)


def records(path, n=3):
    rows = [{"step": i, "epoch": i + 0.5, "seconds": 60.0 * i, "tokens": i, "train_loss": 3.0 - i, "valid_ppl": 9.0 - i,
             "valid_bleu": 10.0 * i, "learning_rate": 1e-3} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.filterwarnings("error")  # a glyph that the font lacks is a warning
@pytest.mark.parametrize("name, start", [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")])
def test_the_extension_says_the_kind(tmp_path, name, start):
    attention_map(SRC, TGT, WEIGHTS, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_the_map_shows_every_token_as_it_is(tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")  # text as text
    attention_map(SRC, TGT, WEIGHTS, tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    for token in (*SRC, *TGT):
        assert token.replace("<", "&lt;").replace(">", "&gt;") in svg


def test_one_word_is_enough_for_a_map(tmp_path):
    attention_map(["a"], ["b"], [[1.0]], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_matrix_that_does_not_fit_its_words(tmp_path):
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(3, 4\)"):
        attention_map(SRC, TGT, WEIGHTS.T, tmp_path / "a.png")


@pytest.mark.parametrize("n", [1, 3])
def test_learning_curves(tmp_path, n):
    learning_curves(records(tmp_path / "metrics.jsonl", n), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_or_written_is_said(tmp_path):
    metrics = records(tmp_path / "metrics.jsonl")
    for name in ("curves", "curves.txt"):
        with pytest.raises(InputError, match=r"\.png"):
            learning_curves(metrics, tmp_path / name)
    with pytest.raises(InputError, match="cannot be written"):
        learning_curves(metrics, tmp_path / "absent" / "a.png")
    with pytest.raises(InputError, match="cannot be read"):
        learning_curves(tmp_path / "absent.jsonl", tmp_path / "a.png")
    for content, message in (("", "no validation"), ('{"step": 1}\n', "line 1"), ("{\n", "line 1"), ("[]\n", "line 1")):
        metrics.write_text(content)
        with pytest.raises(InputError, match=message):
            learning_curves(metrics, tmp_path / "a.png")


@pytest.fixture
def font(tmp_path, monkeypatch):
    """A new font of the system with a black square for each of two Chinese characters, 猫 and 狗."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib import font_manager

    pen = TTGlyphPen(None)
    for move, point in (("moveTo", (0, 0)), ("lineTo", (0, 900)), ("lineTo", (900, 900)), ("lineTo", (900, 0))):
        getattr(pen, move)(point)
    pen.closePath()
    square, names = pen.glyph(), [".notdef", "cat", "dog"]
    made = FontBuilder(1000)
    made.setupGlyphOrder(names)
    made.setupCharacterMap({ord("猫"): "cat", ord("狗"): "dog"})
    made.setupGlyf(dict.fromkeys(names, square))
    made.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    made.setupHorizontalHeader()
    made.setupNameTable({"familyName": "Two Beasts", "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(tmp_path / "beasts.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_: [str(tmp_path / "beasts.ttf"), "/absent.ttf"])
    return "Two Beasts"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_font_that_is_installed_is_found_for_words_that_the_own_one_lacks(tmp_path, font, kind):
    assert families_for(["a", "猫"])[-1] == font and font not in families_for(["a", "é"])
    attention_map(["猫", "a"], ["狗"], [[1, 0]], tmp_path / f"a.{kind}")


def test_without_one_the_font_to_install_is_named_once(tmp_path, monkeypatch, recwarn):
    from matplotlib import font_manager

    ours = [one for one in font_manager.fontManager.ttflist if one.name.startswith(("DejaVu", "Last Resort"))]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", ours)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_: [])
    attention_map(["猫", "ひ"], ["नमस्ते"], [[1, 0]], tmp_path / "a.png")
    (warning,) = recwarn.list
    assert str(warning.message).endswith("install Noto Sans CJK and Noto Sans Devanagari")
