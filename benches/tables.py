"""What the benchmarks print: rates and tables for a terminal or a document, and what is running now."""

import sys
from collections.abc import Sequence


def rate_text(rate: float) -> str:
    """4_200_000 -> "4.20 M"."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if rate >= size:
            digits = 2 if rate < 10 * size else 1 if rate < 100 * size else 0
            return f"{rate / size:.{digits}f} {unit}"
    return f"{rate:.0f}  "


def text(rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """The table for a terminal, or for a document; the first row is the heading."""
    widths = [max(2, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = zip(row, widths, strict=True)
        lines.append([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def progress(words: str) -> None:
    """What is running now, for a person who waits."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)


def chosen(given: str, known: Sequence[str]) -> list[str]:
    """The names in a comma-separated option, or an error that says which there are."""
    names = given.split(",")
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"not known: {', '.join(unknown)}; there are: {', '.join(known)}")
    return names
