"""A picture as SVG: rectangles, lines, dots and words. What is drawn twice is the same text."""

from xml.sax.saxutils import escape

#: Of a letter, as a part of the size: the fonts of two systems differ, so more than most of them have.
LETTER = 0.58
INK, PALE, GRID = "#24292f", "#656d76", "#d8dee4"


def number(value: float) -> str:
    """Two digits behind the point, or fewer."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Picture:
    """What is drawn later is in front. Lengths are in pixels, from the left upper corner."""

    def __init__(self, width: float, height: float, about: str) -> None:
        size = f'width="{number(width)}" height="{number(height)}"'
        seen = f'viewBox="0 0 {number(width)} {number(height)}" role="img"'
        font = 'font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif"'
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {seen} {font}>',
            f"<title>{escape(about)}</title>",
        ]
        # Legible on a dark page, too.
        self.box(0, 0, width, height, "#ffffff")

    def box(self, x: float, y: float, width: float, height: float, fill: str, tip: str = "") -> None:
        """A rectangle; `tip` is shown to who points at it."""
        inner = f"><title>{escape(tip)}</title></rect>" if tip else "/>"
        size = f'width="{number(width)}" height="{number(height)}"'
        self._parts.append(f'<rect x="{number(x)}" y="{number(y)}" {size} fill="{fill}"{inner}')

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str = GRID, width: float = 1) -> None:
        """A straight one."""
        ends = " ".join(
            f'{name}="{number(value)}"' for name, value in (("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2))
        )
        self._parts.append(f'<line {ends} stroke="{stroke}" stroke-width="{number(width)}"/>')

    def dot(self, x: float, y: float, radius: float, fill: str) -> None:
        """A full circle."""
        self._parts.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="{fill}"/>')

    def words(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        fill: str = INK,
        at: str = "start",
        bold: bool = False,
    ) -> None:
        """A line of text on the base line `y`; `at`: what of it is at `x` (start, middle or end)."""
        weight = ' font-weight="600"' if bold else ""
        place = f'x="{number(x)}" y="{number(y)}" font-size="{number(size)}"'
        self._parts.append(f'<text {place} fill="{fill}" text-anchor="{at}"{weight}>{escape(text)}</text>')

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>", ""])


def fitting(text: str, room: float, size: float) -> str:
    """As much of the text as there is room for; nothing for less than three letters."""
    most = int(room / (size * LETTER))
    if len(text) <= most:
        return text
    return f"{text[: most - 1]}…" if most > 3 else ""
