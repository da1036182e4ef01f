"""Pictures: where the words of a translation looked (in a file, or as lines of text), and how a training run went."""

from __future__ import annotations

import json
import os
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from math import exp, inf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from .data.text import decode_lines
from .errors import END, ArgumentError, InputError, require
from .files.atomic import replace_file
from .files.reading import read_limited

_DOTS_PER_INCH = 150
_COLUMNS = ("epoch", "seconds", "train_loss", "valid_ppl", "valid_bleu")
_LINEAR = ("epoch", "seconds", "valid_bleu")  # along whose axes ticks are equally far apart
_METRICS_LIMIT = 1 << 27  # bytes: some hundred thousand validations
_SERIES = {"font.family": ["DejaVu Sans"], "font.size": 9}
_SHADES = ((0.7, "██"), (0.4, "▓▓"), (0.2, "▒▒"), (0.07, "░░"))  # least weight for each
_NO_LETTERS = ("Last Resort", ".LastResort", "Adobe Blank")  # fonts that have a box, or nothing, for every character
_EMOJI = 0x1F000  # from here on
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH")


def attention_map(src_tokens: Sequence[str], tgt_tokens: Sequence[str], matrix: np.ndarray,
                  path: str | os.PathLike) -> None:
    """Draw weights (T, S), a row for each target token, a column for each source token; darker is more.

    The extension of `path` says the kind of picture (.png, .svg, .pdf); InputError if it says none, or if matplotlib
    is not installed.  Characters that matplotlib's own font lacks are drawn with installed ones; a warning tells of
    those that none has.  ValueError if the weights are not (T, S).
    """
    matrix = np.asarray(matrix)
    expected = (len(tgt_tokens), len(src_tokens))
    if matrix.shape != expected:
        raise ArgumentError(f"attention_map: matrix has shape {matrix.shape}, expected (T, S) = {expected}")
    figure = _figure(max(2.5, 0.42 * expected[1] + 1.5), max(2.0, 0.32 * expected[0] + 1.2))
    axes = figure.add_subplot()
    axes.imshow(matrix, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    names, families = [_literal(token) for token in src_tokens], families_for((*src_tokens, *tgt_tokens))
    axes.set_xticks(range(expected[1]), names, rotation=45, ha="left", rotation_mode="anchor", family=families)
    axes.set_yticks(range(expected[0]), [_literal(token) for token in tgt_tokens], family=families)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(expected[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(expected[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # it was told once, and with a remedy
        _save(figure, path)


def attention_text(src_tokens: Sequence[str], tgt_tokens: Sequence[str], matrix: np.ndarray) -> str:
    """Weights (T, S) as lines: a row for each target token, a column for each source token."""
    margin = max(map(len, tgt_tokens), default=0)
    widths = [max(2, len(token)) for token in src_tokens]
    header = (token.center(w) for token, w in zip(src_tokens, widths, strict=True))
    lines = [" " * margin + "  " + " ".join(header)]
    for token, row in zip(tgt_tokens, matrix, strict=True):
        cells = (_shade(weight).center(w) for weight, w in zip(row, widths, strict=True))
        lines.append(f"{token.rjust(margin)}  {' '.join(cells)}")
    return "\n".join(line.rstrip() for line in lines)


def learning_curves(metrics_path: str | os.PathLike, out_path: str | os.PathLike) -> None:
    """Draw a run's metrics.jsonl: perplexity in training and validation over epochs, BLEU over minutes."""
    records = _read_metrics(metrics_path)
    style = {"marker": "o", "markersize": 3}
    column = {name: [record[name] for record in records] for name in _COLUMNS}
    minutes = [seconds / 60 for seconds in column["seconds"]]
    train_ppl = [exp(loss if isnan(loss) else min(loss, 700.0)) for loss in column["train_loss"]]
    figure = _figure(8.0, 3.2)
    left, right = figure.subplots(1, 2)
    left.plot(column["epoch"], train_ppl, color="0.6", label="training", **style)
    left.plot(column["epoch"], column["valid_ppl"], color="C0", label="validation", **style)
    left.set(xlabel="epochs", ylabel="perplexity", yscale="log")
    ticker = require("matplotlib.ticker", extra="train")
    left.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(ticker.FuncFormatter(lambda ppl, _: f"{ppl:g}"))
    left.yaxis.set_minor_locator(ticker.NullLocator())
    left.legend(frameon=False)
    right.plot(minutes, column["valid_bleu"], color="C1", **style)
    right.set(xlabel="minutes of training", ylabel="validation BLEU (greedy)")
    for axes in (left, right):
        axes.set_xlim(left=0)
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, out_path, like=metrics_path)


def check_picture(path: str | os.PathLike) -> None:
    """InputError if no picture can be written under this name, as far as this can be told beforehand."""
    _kind(_figure(1.0, 1.0), path)
    if not Path(path).parent.is_dir():
        raise InputError(f"{path} cannot be written: {Path(path).parent} is not a folder")


def _figure(width: float, height: float) -> Any:
    matplotlib = require("matplotlib", extra="train")
    with matplotlib.rc_context(_SERIES):
        return require("matplotlib.figure", extra="train").Figure((width, height), layout="constrained")


def _save(figure: Any, path: str | os.PathLike, like: str | os.PathLike | None = None) -> None:
    kind = _kind(figure, path)
    with replace_file(path, like=like) as new:
        figure.savefig(new, dpi=_DOTS_PER_INCH, format=kind)


def _kind(figure: Any, path: str | os.PathLike) -> str:
    """What a picture's name says that it is, "png" for example; InputError if it says nothing that is known."""
    kinds, kind = figure.canvas.get_supported_filetypes(), Path(path).suffix.lower().removeprefix(".")
    if kind not in kinds:
        known = ", ".join(f".{kind}" for kind in sorted(kinds))
        raise InputError(f"{path}: a picture's name ends in one of {known}")
    return kind


def _shade(weight: float) -> str:
    return next((shade for least, shade in _SHADES if weight >= least), "·")


def _literal(token: str) -> str:
    """The token as it is: matplotlib would read formulas between dollar signs."""
    return token.replace("$", r"\$")


def _read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    try:
        lines = decode_lines(read_limited(path, _METRICS_LIMIT), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if record["train_loss"] is None:  # all steps were skipped
                record["train_loss"] = nan
            numbers = {name: float(record[name]) for name in _COLUMNS}
            for name in _LINEAR:
                if END <= abs(numbers[name]) < inf:  # the library that draws fails at what it makes of these
                    raise ValueError(f"its {name} is {numbers[name]}")
            records.append(numbers)
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
            raise InputError(f"{path}, line {number}, is not the record of a validation: {error}") from error
    if not records:
        raise InputError(f"{path} holds no validation yet")
    return records


def families_for(texts: Iterable[str]) -> list[str]:
    """Names of fonts for matplotlib, which takes the first that has a character: its own, then what is installed.

    Its own has no Chinese, Hindi or Thai, while the system often has.  Warns, with the name of a font to install, of
    scripts that none of them has: their characters will be boxes.
    """
    own = list(require("matplotlib", extra="train").rcParams["font.family"])
    manager = require("matplotlib.font_manager", extra="train")
    lacking = {letter for text in texts for letter in text if letter.isprintable() and not letter.isspace()}
    for name in own:
        lacking -= _letters(manager.findfont(manager.FontProperties(family=[name])), lacking)
    if not lacking:
        return own
    chosen: list[str] = []
    fonts = [(name, _letters(path, lacking)) for name, path in _installed(manager)]
    while lacking and fonts:
        name, letters = max(fonts, key=lambda font: (len(font[1] & lacking), "Noto Sans" in font[0], "Sans" in font[0]))
        if not letters & lacking:
            break
        chosen.append(name)
        lacking -= letters
    if lacking:
        wanted = " and ".join(sorted({_font_of(letter) for letter in lacking}))
        warnings.warn(f"no installed font has all characters of the picture, which shows boxes for them: install "
                      f"{wanted}", stacklevel=3)
    return own + chosen


def _installed(manager: Any) -> Iterator[tuple[str, str]]:
    """(name, file) of each font of the system, those included that came after matplotlib made its list."""
    known = {font.fname for font in manager.fontManager.ttflist}
    for path in set(manager.findSystemFonts()) - known:
        with suppress(Exception):  # a file that the library cannot read, for whatever reason
            manager.fontManager.addfont(path)
    for font in manager.fontManager.ttflist:
        if font.style == "normal" and not font.name.startswith(_NO_LETTERS):
            yield font.name, font.fname


def _letters(path: str, wanted: set[str]) -> set[str]:
    """Those that a font has and that can be drawn: not those of colour, which are pictures."""
    font_manager = require("matplotlib.font_manager", extra="train")
    try:
        font = font_manager.get_font(path)
    except Exception:  # noqa: BLE001  what is raised of a font that cannot be read differs from version to version
        return set()
    return {letter for letter in wanted if font.get_char_index(ord(letter))} if font.scalable else set()


def _font_of(letter: str) -> str:
    """The name of a font of the Noto family that has a letter, by the first word of its name in Unicode."""
    name = unicodedata.name(letter, "")
    if name.startswith(_EAST_ASIAN):
        return "Noto Sans CJK"
    if unicodedata.category(letter)[0] in "LMN":  # letters, their marks, digits
        return f"Noto Sans {name.partition(' ')[0].capitalize()}"
    return "Noto Emoji" if ord(letter) >= _EMOJI else "Noto Sans Symbols"
