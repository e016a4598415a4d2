"""Plots as SVG, from text: dots on a logarithmic axis, and lines over one.

Rules
1. Each is a whole document with its own background, so that it reads on a dark page as well.
2. Axes are logarithmic: servers differ by factors, not by differences. So no bars: where such an
   axis begins is arbitrary, and with it how long a bar is.
3. Numbers stand at the marks; nobody has to measure with a ruler.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

_WIDTH: Final = 720
_LEFT, _RIGHT, _TOP, _BOTTOM = 140, 90, 56, 40
_STEP: Final = 30
_LINES_HEIGHT: Final = 380
_COLOURS: Final = ("#0b6e4f", "#c1442d", "#d98e04", "#5b5ea6", "#3a86c8", "#7a7a7a", "#a23b72")
_STYLE: Final = (
    "<style>text{font:13px system-ui,sans-serif;fill:#222}"
    ".title{font-weight:600;font-size:15px}.small{fill:#666;font-size:11.5px}</style>"
)


def _short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.3g}"


def _text(x: float, y: float, said: str, anchor: str = "start", kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{marked}>{escape(said)}</text>'


def _document(height: float, title: str, subtitle: str, parts: Iterator[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'width="{_WIDTH}" height="{height:.0f}" role="img">'
    )
    lines = [head, f"<title>{escape(title)}</title>", _STYLE]
    lines.append(f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#fff" rx="6"/>')
    lines += [_text(16, 26, title, kind="title"), _text(16, 44, subtitle, kind="small")]
    return "\n".join([*lines, *parts, "</svg>"]) + "\n"


class _Scale:
    """A logarithmic axis from whole powers of ten to whole powers of ten."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        """Where a value is."""
        part = (math.log10(value) - self.low) / (self.high - self.low)
        return self._begin + (self._end - self._begin) * part

    def ticks(self) -> list[float]:
        """The powers of ten."""
        return [10.0**power for power in range(self.low, self.high + 1)]


def dots(title: str, subtitle: str, values: Mapping[str, float]) -> str:
    """A dot for each name; the first one is ours."""
    bottom = _TOP + 12 + _STEP * len(values)
    scale = _Scale(list(values.values()), _LEFT, _WIDTH - _RIGHT)

    def parts() -> Iterator[str]:
        for tick in scale.ticks():
            x = scale.at(tick)
            yield f'<path d="M{x:.1f} {_TOP} V{bottom}" stroke="#ddd"/>'
            yield _text(x, bottom + 18, _short(tick), "middle", "small")
        for at, (name, value) in enumerate(values.items()):
            x, y = scale.at(value), _TOP + 21 + _STEP * at
            colour = _COLOURS[0] if at == 0 else "#7b8794"
            yield _text(_LEFT - 12, y + 4, name, "end")
            yield f'<path d="M{_LEFT} {y} H{x:.1f}" stroke="#bbb" stroke-dasharray="1 4"/>'
            yield f'<circle cx="{x:.1f}" cy="{y}" r="6" fill="{colour}"/>'
            yield _text(x + 12, y + 4, _short(value))

    return _document(bottom + _BOTTOM, title, subtitle, parts())


def lines(
    title: str, subtitle: str, across: Sequence[float], series: Mapping[str, Mapping[float, float]]
) -> str:
    """A line for each name over the places of `across`, which stand at equal distances."""
    bottom = _LINES_HEIGHT - _BOTTOM
    every = [value for points in series.values() for value in points.values()]
    scale = _Scale(every, bottom, _TOP + 10)
    step = (_WIDTH - _RIGHT - 40 - 60) / (len(across) - 1)
    places = {value: 60 + step * at for at, value in enumerate(across)}

    def parts() -> Iterator[str]:
        for tick in scale.ticks():
            y = scale.at(tick)
            yield f'<path d="M60 {y:.1f} H{_WIDTH - _RIGHT - 40}" stroke="#ddd"/>'
            yield _text(52, y + 4, _short(tick), "end", "small")
        for value, x in places.items():
            yield _text(x, bottom + 20, _short(value), "middle", "small")
        ends = _spread({name: scale.at(list(p.values())[-1]) for name, p in series.items() if p})
        for at, (name, points) in enumerate(series.items()):
            if points:
                spots = [(places[x], scale.at(y)) for x, y in points.items()]
                yield _line(name, spots, _COLOURS[at % len(_COLOURS)], ends[name])

    return _document(_LINES_HEIGHT, title, subtitle, parts())


def _line(name: str, spots: Sequence[tuple[float, float]], colour: str, label: float) -> str:
    path = " L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in spots)
    drawn = f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.2"/>'
    return f'{drawn}<g fill="{colour}">{dots}</g>{_text(spots[-1][0] + 10, label + 4, name)}'


def _spread(ends: Mapping[str, float], least: float = 16.0) -> dict[str, float]:
    """Labels that do not lie upon each other."""
    placed: dict[str, float] = {}
    above = -math.inf
    for name, y in sorted(ends.items(), key=lambda end: end[1]):
        placed[name] = above = max(y, above + least)
    return placed
