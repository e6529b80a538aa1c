"""The comparison with others as picture and table in docs/performance.md: `python -m bench.plots`."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from bench.peers.lineup import EVERYBODY, OURS
from bench.peers.table import BURSTS
from bench.pipeline import RESULTS

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PICTURE = DOCS / "performance.md", DOCS / "peers.svg"
MARKS = ("<!-- peers -->", "<!-- end of peers -->")

WIDTH, LABELS, NUMBERS = 860, 220, 70
"""Of the picture, of its names on the left, and of the figures behind the longest bar; in pixels."""

BAR, GAP, HEAD = 16, 8, 40
INK, OURS_COLOUR, OTHERS_COLOUR, RANGE_COLOUR = "#1f2933", "#0f766e", "#94a3b8", "#1f2933"

Figures = Mapping[str, dict[str, Any]]


def picture(figures: Figures) -> str:
    """SVG: for each kind of burst a bar for everybody's median, with a line over the range of the rounds."""
    most = max(one[burst]["per_second"]["most"] for one in figures.values() for burst in BURSTS)
    scale = (WIDTH - LABELS - NUMBERS) / most
    parts: list[str] = []
    top = 0
    for burst, words in BURSTS.items():
        parts.append(f'<text x="0" y="{top + 22}" font-weight="bold">Deliveries a second, {escape(words)}</text>')
        top += HEAD
        for contestant in (one for one in EVERYBODY if one.name in figures):
            rate = figures[contestant.name][burst]["per_second"]
            colour = OURS_COLOUR if contestant is OURS else OTHERS_COLOUR
            middle, end = top + BAR / 2, LABELS + rate["median"] * scale
            ends = f'x1="{LABELS + rate["least"] * scale:.1f}" x2="{LABELS + rate["most"] * scale:.1f}"'
            parts += [
                f'<text x="{LABELS - 10}" y="{top + 12}" text-anchor="end">{escape(contestant.title)}</text>',
                f'<rect x="{LABELS}" y="{top}" width="{end - LABELS:.1f}" height="{BAR}" fill="{colour}"/>',
                f'<line {ends} y1="{middle}" y2="{middle}" stroke="{RANGE_COLOUR}" stroke-width="1.5"/>',
                f'<text x="{LABELS + max(rate["most"], rate["median"]) * scale + 8:.1f}" y="{top + 12}">'
                f"{rate['median']:,.0f}</text>",
            ]
            top += BAR + GAP
    style = f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}"'
    background = f'<rect width="{WIDTH}" height="{top}" fill="white"/>'
    body = "\n".join([background, *parts])
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style} role="img">\n{body}\n</svg>\n'


def markdown(result: Mapping[str, Any]) -> str:
    """The picture and the same in figures."""
    lines = [
        "| | deliveries/s at 1 subscription | at 5 | CPU s per 1,000 at 1 | at 5 | idle p50 ms | p99 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    figures: Figures = result["figures"]
    for contestant in (one for one in EVERYBODY if one.name in figures):
        mine = figures[contestant.name]
        rates = (mine[burst]["per_second"] for burst in BURSTS)
        cells = [f"{rate['median']:,.0f} ({rate['least']:,.0f}–{rate['most']:,.0f})" for rate in rates]
        cells += [f"{mine[burst]['cpu_seconds_per_1000']['median']:.2f}" for burst in BURSTS]
        cells += [f"{mine['idle'][key]['median']:.1f}" for key in ("p50_ms", "p99_ms")]
        lines.append(f"| {contestant.title} | {' | '.join(cells)} |")
    machine = result["machine"]
    where = (
        f"{machine['cores']} cores, Python {machine['python']}, {machine['at'][:10]}, load {machine['load_before']:.1f}"
    )
    table = "\n".join(lines)
    return (
        f"![Deliveries a second of everybody, as in the table]({PICTURE.name})\n\n"
        f"Medians of {result['rounds']} rounds (least–most); {where} before.\n\n{table}"
    )


def main() -> None:
    """Write both."""
    result = json.loads((RESULTS / "peers.json").read_text())
    PICTURE.write_text(picture(result["figures"]))
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{markdown(result)}\n\n{MARKS[1]}{after}")
    print(f"{PICTURE} and the table in {PAGE} are of {result['machine']['at']}.")


if __name__ == "__main__":
    main()
