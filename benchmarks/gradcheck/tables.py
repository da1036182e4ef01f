"""Tables and the lines between them, for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from .. import measure


class Printer:
    """Prints as it goes: some parts take minutes."""

    def __init__(self, markdown: bool = False) -> None:
        self.markdown = markdown

    def title(self, text: str) -> None:
        print(f"\n**{text}**" if self.markdown else f"\n{text}", flush=True)

    def text(self, text: str) -> None:
        print(f"\n{text}" if self.markdown else text, flush=True)

    def bullets(self, lines: Sequence[str]) -> None:
        print()
        print("\n".join(("- " if self.markdown else "  ") + line for line in lines), flush=True)

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        print()
        if self.markdown:
            alignment = [":--"] + ["--:"] * (len(header) - 1)
            print("\n".join(f"| {' | '.join(row)} |" for row in (header, alignment, *rows)), flush=True)
        else:
            measure.print_table(header, rows)
