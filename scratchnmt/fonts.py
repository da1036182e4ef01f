"""Fonts for the words of a picture: matplotlib's own has no Chinese, Hindi or Thai, while the system often has."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from .errors import require

_NO_LETTERS = ("Last Resort", ".LastResort", "Adobe Blank")  # fonts that have a box, or nothing, for every character
_PICTURES = 0x1F000  # from here on
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH")


def families_for(texts: Iterable[str]) -> list[str]:
    """Names of fonts for matplotlib, which takes the first that has a character: its own, then what is installed.

    Warns, with the name of a font to install, of scripts that none of them has: their characters will be boxes.
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
    return "Noto Emoji" if ord(letter) >= _PICTURES else "Noto Sans Symbols"
