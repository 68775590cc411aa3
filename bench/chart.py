"""The picture of a run, as SVG by hand: a panel of bars for each headline, readable on light and on dark ground."""

import statistics
from html import escape

import api
import goals
import mail
import start
from report import Results, shown

HEADLINES = (
    (api.work_name(api.DESCRIBE, 32), "more is better"),
    (goals.CHANGE, "more is better"),
    (goals.SMALL, "more is better"),
    (goals.EACH, "more is better"),
    (mail.work_name(64, mail.REUSED), "more is better"),
    (start.START, "less is better"),
)
WIDTH, LABEL, VALUE, BAR, GAP, EDGE = 860, 260, 90, 16, 6, 16
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.ground { fill: #ffffff } .title { font-weight: 600 } .small { fill: #57606a; font-size: 12px }
.ours { fill: #0969da } .peer { fill: #8c959f } .spread { stroke: #24292f; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117 } text { fill: #e6edf3 } .small { fill: #9198a1 }
  .ours { fill: #4493f8 } .peer { fill: #656c76 }
  .spread { stroke: #e6edf3 }
}
"""


def draw(results: Results, caption: str) -> str:
    """Bars are medians, thin lines go from the lowest to the highest round; each panel has a scale of its own."""
    parts: list[str] = []
    top = 24
    for work, sense in HEADLINES:
        whos = results.of(work)
        if not whos:
            continue
        parts.append(f'<text class="title" x="0" y="{top}">{escape(work)}</text>')
        parts.append(
            f'<text class="small" x="{WIDTH}" y="{top}" text-anchor="end">{escape(results.units[work])}, {sense}</text>'
        )
        top += 10
        longest = max(max(values) for values in whos.values())
        for who, values in whos.items():
            parts += _bar(who, values, longest, top)
            top += BAR + GAP
        top += 28
    parts.append(f'<text class="small" x="0" y="{top}">{escape(caption)}</text>')
    height = top + 12
    # A ground of its own: a page's colours need not be the system's, by which the picture chooses.
    box = f"{-EDGE} 0 {WIDTH + 2 * EDGE} {height}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{WIDTH + 2 * EDGE}" height="{height}" '
        f'role="img" aria-label="Medians of make bench">\n<style>{STYLE}</style>\n'
        f'<rect class="ground" x="{-EDGE}" width="100%" height="100%" rx="6"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bar(who: str, values: list[float], longest: float, top: int) -> list[str]:
    room = WIDTH - LABEL - VALUE
    median = statistics.median(values)
    low, mid, high = (LABEL + value / longest * room for value in (min(values), median, max(values)))
    middle, kind = top + BAR / 2, "ours" if who.startswith("Readdress") else "peer"
    return [
        f'<text x="{LABEL - 8}" y="{top + 12}" text-anchor="end">{escape(who)}</text>',
        f'<rect class="{kind}" x="{LABEL}" y="{top}" width="{max(1, mid - LABEL):.1f}" height="{BAR}" rx="2"/>',
        f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{max(high, mid) + 8:.1f}" y="{top + 12}">{shown(median)}</text>',
    ]
