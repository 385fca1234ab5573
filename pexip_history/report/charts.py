"""Pictures as SVG: no script, text of one size at every width, colours from the page's style.

Positions across are percentages and there is no viewBox, so that a phone gets narrower bars and not smaller
letters. Every text is escaped here, by markupsafe.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

HEIGHT = 150
"""Of the plot, pixels."""
ABOVE = 22
BELOW = 28
ROW = 34
LONGEST = 34
"""Characters of a label; the table beside has the whole."""


@dataclass(frozen=True)
class Words:
    """What a picture is called, for those who see it and for those who hear it."""

    ident: str
    title: str
    description: str


def columns(
    words: Words,
    labels: Sequence[str],
    series: Sequence[tuple[str, Sequence[float]]],
    unit: str,
    *,
    share: bool = False,
    gaps: Sequence[bool] = (),
    pale: Sequence[bool] = (),
) -> Markup:
    """A column for each label, its series (a style's class, and values) stacked.

    `share`: the values are parts of 100. `unit` follows a number in what a pointer is shown. `gaps` are the places
    that are hatched, since not all of them is covered, `pale` those of few values, drawn lighter.
    """
    sums = [sum(values) for values in zip(*(values for _, values in series), strict=True)]
    top, step = (100.0, 25.0) if share else _scale(max(sums, default=0))
    width = 100 / max(1, len(labels))
    parts = [_patterns(words), _grid(top, step, "%" if share else ""), _hatched(words, gaps, labels, width)]
    best = sums.index(max(sums)) if sums and not share and len(series) == 1 and max(sums) > 0 else None
    for place, label in enumerate(labels):
        base = 0.0
        for kind, values in series:
            if (value := values[place]) <= 0:
                continue
            height = value / top * HEIGHT
            y = ABOVE + HEIGHT - base - height
            shown = f"{value:.1f} %" if share else f"{value:,.0f}"
            hint = Markup("<title>{}: {} {}</title>").format(label, shown, unit)
            style = f"{kind} most" if place == best else f"{kind} few" if pale and pale[place] else kind
            box = (place * width + width * 0.1, y, width * 0.8, height)
            parts.append(_rect(style, box, hint))
            if kind == "terrible":  # told apart without its colour too
                parts.append(_rect("", box, hint, f"{words.ident}-stripes"))
            base += height
        if place == best:
            anchor = "start" if place * width < 8 else "end" if place * width > 92 else "middle"
            at = place * width + width / 2
            parts.append(_text(at, ABOVE + HEIGHT - base - 5, f"{sums[place]:,.0f}", anchor, "best"))
    return _svg(words, ABOVE + HEIGHT + BELOW, "plot", [*parts, *_below(labels, width)])


def _below(labels: Sequence[str], width: float) -> Iterator[Markup]:
    """A few of the labels, below their columns."""
    for place in range(0, len(labels), max(1, math.ceil(len(labels) / 5))):
        yield _text(place * width + width / 2, ABOVE + HEIGHT + 21, labels[place], "middle")


def bars(words: Words, rows: Sequence[tuple[str, float, str]], kind: str = "s1") -> Markup:
    """A bar for each row (label, value, the value as it is said), longest first or as they come.

    The values are shares, 0 to 1: a full bar is all of it.
    """
    parts = []
    for place, (label, value, said) in enumerate(rows):
        y = place * ROW
        short = label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"
        parts += [
            _text(0, y + 13, short, "start", "name"),
            _text(100, y + 13, said, "end", "name"),
            Markup(
                '<rect class="rail" x="0" y="{0}" width="100%" height="9" /><rect class="{1}" x="0" y="{0}" '
                'width="{2}%" height="9" />'
            ).format(y + 18, kind, _short(min(value, 1) * 100)),
        ]
    return _svg(words, max(1, len(rows)) * ROW, "list", parts)


def _rect(kind: str, box: tuple[float, float, float, float], hint: Markup, pattern: str = "") -> Markup:
    """x and width in percent, y and height in pixels; `pattern` is the ident of one."""
    x, y, width, height = map(_short, box)
    look = Markup('fill="url(#{})"').format(pattern) if pattern else Markup('class="{}"').format(kind)
    return Markup('<rect {} x="{}%" y="{}" width="{}%" height="{}">{}</rect>').format(look, x, y, width, height, hint)


def _patterns(words: Words) -> Markup:
    """Stripes for what is terrible, and hatching for what is not covered."""
    return Markup(
        '<defs><pattern id="{0}-stripes" width="5" height="5" patternUnits="userSpaceOnUse">'
        '<path class="stripe" d="M0 2.5H5" /></pattern>'
        '<pattern id="{0}-gap" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<path class="hatch" d="M3 0V7" /></pattern></defs>'
    ).format(words.ident)


def _hatched(words: Words, gaps: Sequence[bool], labels: Sequence[str], width: float) -> Markup:
    parts = []
    for place, gap in enumerate(gaps):
        if gap:
            hint = Markup("<title>{}: not wholly covered</title>").format(labels[place])
            parts.append(_rect("", (place * width, ABOVE, width, HEIGHT), hint, f"{words.ident}-gap"))
    return Markup("").join(parts)


def _svg(words: Words, height: int, kind: str, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="{kind}" role="img" aria-labelledby="{ident}-t {ident}-d" height="{height}">'
        '<title id="{ident}-t">{title}</title><desc id="{ident}-d">{description}</desc>{parts}</svg>'
    ).format(
        kind=kind,
        ident=words.ident,
        height=height,
        title=words.title,
        description=words.description,
        parts=Markup("\n").join(parts),
    )


def _grid(top: float, step: float, sign: str) -> Markup:
    lines = []
    for number in range(round(top / step) + 1):
        y = _short(ABOVE + HEIGHT - number * step / top * HEIGHT)
        lines.append(Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}" />').format(y))
        lines.append(
            Markup('<text class="axis" x="-6" y="{}" text-anchor="end">{:,g}{}</text>').format(
                _short(float(y) + 4), number * step, sign
            )
        )
    return Markup("").join(lines)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "axis") -> Markup:
    return Markup('<text class="{}" x="{}%" y="{}" text-anchor="{}">{}</text>').format(
        kind, _short(x), _short(y), anchor, text
    )


def _scale(most: float) -> tuple[float, float]:
    """The end of an axis that begins with 0, and the step of its lines: whole numbers."""
    step = 1.0
    while most / step > 5:
        step *= 2.5 if f"{step:g}".startswith("2") else 2
    return max(step, math.ceil(most / step) * step), step


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
