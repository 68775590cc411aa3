"""Small pictures of numbers, drawn on the server: SVG that takes its colours from the page's style sheet."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

WIDTH: Final = 600
HEIGHT: Final = 90
_GAP: Final = 1


class Series(NamedTuple):
    """Numbers of one kind, one for each bar; `style` is a class of the style sheet."""

    name: str
    style: str
    values: Sequence[int]

    @property
    def total(self) -> int:
        return sum(self.values)


def draw_bars(title: str, series: Sequence[Series]) -> Markup:
    """Bars that stand on each other, the earliest at the left; a reader without eyes hears the title and the totals."""
    bars = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    highest = max([*bars, 1])
    width = WIDTH / max(len(bars), 1)
    parts: list[Markup] = []
    for at in range(len(bars)):
        below = 0.0
        for one in series:
            height = one.values[at] / highest * HEIGHT
            if height:
                parts.append(
                    Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                        one.style, at * width, HEIGHT - below - height, width - _GAP, height
                    )
                )
            below += height
    told = ", ".join(f"{one.name} {one.total:,}" for one in series)
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}: {}">'
        '<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/>{}</svg>'
    ).format(WIDTH, HEIGHT, title, told, WIDTH, HEIGHT, HEIGHT, Markup("").join(parts))


def by_outcome(minutes: Sequence[Mapping[str, int]]) -> list[Series]:
    """Of counts by state for each minute: what is done, what waits, what failed, what was given up or thrown away."""
    kinds = (
        ("delivered", "good", ("DELIVERED",)),
        ("waiting", "wait", ("QUEUED",)),
        ("failed", "fail", ("FAILED",)),
        ("dropped or discarded", "gone", ("DROPPED", "DISCARDED")),
    )
    return [
        Series(name, style, [sum(states.get(state, 0) for state in known) for states in minutes])
        for name, style, known in kinds
    ]
