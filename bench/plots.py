"""The comparison with others and the cost of HTTPS in docs/performance.md: `python -m bench.plots`.

A part of the page whose figures nobody has taken yet is not there.
"""

import argparse
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from bench.figures import kept, origin
from bench.peers.lineup import EVERYBODY, OURS
from bench.peers.table import BURSTS
from bench.pipeline import RESULTS

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PICTURE = DOCS / "performance.md", DOCS / "peers.svg"
OF_HTTPS = ("idle", "idle-https", "burst-1", "burst-https", "handshakes")
"""Figures of which the part about HTTPS is made."""

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


def markdown(result: dict[str, Any], *, older: bool) -> str:
    """The figures as a table, over http with the picture."""
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
    tls = result.get("tls")
    head = (
        "The same over HTTPS, all with the same certificate. Compare within a table, since the machine's speed varies "
        "between them.\n\n"
        if tls
        else f"![Deliveries a second of everybody, as in the table]({PICTURE.name})\n\n"
    )
    return "\n".join(
        [f"{head}Medians of {result['rounds']} rounds (least–most); {origin(result, older=older)}.\n", *lines]
    )


def https(results: Mapping[str, tuple[dict[str, Any], bool]]) -> str:
    """What HTTPS costs: idle latency and bursts of a whole stack, and single requests."""
    found = {name: result["figures"] for name, (result, _) in results.items()}
    idle = {name: "p50 {p50_ms:.1f} ms, p99 {p99_ms:.0f} ms".format_map(found[name]) for name in ("idle", "idle-https")}
    bursts = {name: f"{found[name]['per_second_median']:,.0f}/s" for name in ("burst-1", "burst-https")}
    stacks, single = (origin(results[name][0], older=results[name][1]) for name in ("burst-https", "handshakes"))
    lines = [
        f"{stacks}:\n",
        "| | http | HTTPS |",
        "| --- | --- | --- |",
        f"| `idle`, `idle-https` | {idle['idle']} | {idle['idle-https']} |",
        f"| `burst-1`, `burst-https` | {bursts['burst-1']} | {bursts['burst-https']} |",
        f"\nSingle requests of the worker's HTTP client, one after the other ({single}):\n",
        "| a request by | p50 ms | p99 ms | CPU of the sender, ms | of the receiver, ms |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for one in found["handshakes"]["kinds"].values():
        figures = " | ".join(f"{one[name]:.2f}" for name in ("p50_ms", "p99_ms", "sender_cpu_ms", "receiver_cpu_ms"))
        lines.append(f"| {one['title']} | {figures} |")
    return "\n".join(lines)


def parts() -> dict[str, str]:
    """The text of each part whose figures are there."""
    results = kept()
    found = {
        part: markdown(results[name][0], older=results[name][1])
        for part, name in (("peers", "peers"), ("peers by HTTPS", "peers-https"))
        if name in results
    }
    if all(name in results for name in OF_HTTPS):
        found["HTTPS"] = https({name: results[name] for name in OF_HTTPS})
    return found


def placed(page: str, part: str, text: str) -> str:
    """The page with this text in its part, which is made at the end if it is missing."""
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    before, mark, rest = page.partition(begin)
    if not mark:
        return f"{page}\n{begin}\n\n{text}\n\n{end}\n"
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"


def main() -> None:
    """Write the picture and all parts."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    result = json.loads((RESULTS / "peers.json").read_text())
    PICTURE.write_text(picture(result["figures"]))
    page = PAGE.read_text()
    for part, text in parts().items():
        page = placed(page, part, text)
    PAGE.write_text(page)
    print(f"{PICTURE} is of {result['machine']['at']}; {PAGE} has {', '.join(parts())}.")


if __name__ == "__main__":
    main()
