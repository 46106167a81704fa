"""The morning report as one page that needs nothing else: its first screen answers whether the night went well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from labd.plus_minus import STANDARD
from labd.service.placement import STEPS_ALONE
from labd.service.reports.figures import boards_chart, change_chart, golden_chart
from labd.service.reports.messages import ChangeFound, Mood, MorningReport
from labd.service.reports.text import NAMES, change_text, evidence_text, latest_text, rate_text, said_text, since_text

CHARTS_MAX = 24
"""Most changes that are drawn."""
BOARDS_MAX = 60
GOLDEN_MAX = 16
GOLDEN_FEW = 6
"""So many are drawn even if nothing is the matter with them."""
_MOODS = {
    Mood.WELL: ("The night went well", "#009e73"),
    Mood.LOOK: ("Done, with something to look at", "#b87d00"),
    Mood.BAD: ("Something is wrong", "#d55e00"),
}
_BARS = f"Bars: {STANDARD}. Open circles: windows placed by {STEPS_ALONE}, which no wire confirms."
_CSS = """
:root { --ink: #1f2933; --faint: #66727f; --line: #e4e7eb; }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink); margin: 0;
  background: #f5f7fa }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 60px }
header { background: #fff; border-radius: 10px; border-left: 10px solid var(--mood); padding: 22px 28px;
  box-shadow: 0 1px 3px #0002 }
h1 { font-size: 30px; margin: 0; color: var(--mood); line-height: 1.2 }
header p { margin: 6px 0 0; font-size: 17px } header .when { color: var(--faint); font-size: 14px }
h2 { font-size: 19px; margin: 34px 0 10px }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 14px }
.tile { flex: 1 1 110px; background: #fff; border-radius: 10px; padding: 12px 16px; box-shadow: 0 1px 3px #0002 }
.tile b { display: block; font-size: 27px; line-height: 1.15; font-variant-numeric: tabular-nums }
.tile span { color: var(--faint); font-size: 13px } .hot b { color: #d55e00 } .good b { color: #009e73 }
.zero b { color: #b6bfc9 }
.card { background: #fff; border-radius: 10px; padding: 14px 18px; box-shadow: 0 1px 3px #0002 }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(520px, 1fr)); gap: 14px }
.charts svg, .card > svg { width: 100%; height: auto; display: block }
.card > svg.narrow { max-width: 720px }
.card p { margin: 2px 0 0; color: var(--faint); font-size: 13px } .card p strong { color: var(--ink) }
.key { margin: -6px 0 10px; color: var(--faint); font-size: 13px }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top;
  padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line) }
th { color: var(--faint); font-weight: 500; font-size: 13px }
tr:last-child td { border-bottom: 0 } .n { font-variant-numeric: tabular-nums; white-space: nowrap }
.new { background: #d55e00; color: #fff; border-radius: 4px; padding: 0 6px; font-size: 12px }
footer { color: var(--faint); margin-top: 34px; font-size: 13px }
"""


def page(report: MorningReport) -> str:
    """The page, complete; it loads nothing from anywhere."""
    return "\n".join(_parts(report))


def _parts(report: MorningReport) -> Iterator[str]:
    verdict, tint = _MOODS[report.mood]
    name = f"{escape(report.sweep)}, night {report.night}"
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}: {verdict}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_CSS}</style></head>'
    yield f'<body style="--mood: {tint}"><main><header><h1>{verdict}</h1><p>{escape(report.headline)}</p>'
    yield f'<p class="when">{name} of {escape(report.lab)}, due {report.due_at:%A, %d %B %Y, %H:%M} UTC, '
    yield f"took {report.duration_s / 3600:.1f} h</p></header>"
    yield from _tiles(report)
    yield from _changes("What got worse", report.regressions)
    yield from _table(
        "Boards to look at",
        ("board", "state", "why"),
        ((one.id, one.state, "; ".join(one.reasons)) for one in report.boards_to_see),
    )
    yield from _table(
        "What was not done",
        ("jobs", "how", "why", "what to do", "which"),
        (
            (str(one.count), one.state, one.sentence, one.remedy, ", ".join(map(str, one.jobs)))
            for one in report.reasons
        ),
    )
    yield from _table(
        "Rules that were broken",
        ("jobs", "rule", "the first of them", "which"),
        ((str(one.count), one.rule, said_text(one), ", ".join(map(str, one.jobs))) for one in report.broken_rules),
    )
    yield from _table(
        "What to know of the figures",
        ("jobs", "about", "the first of them", "which"),
        ((str(one.count), one.about, one.detail, ", ".join(map(str, one.jobs))) for one in report.remarks),
    )
    yield from _table(
        "Instruments",
        ("instrument", "now", "times lost", "why"),
        ((one.id, one.state, str(one.times_lost), one.reason) for one in report.instruments_to_see),
    )
    yield from _changes("What got better", report.improvements)
    if report.boards:
        yield f'<h2>Boards</h2><div class="card">{_narrow(boards_chart(report.boards[:BOARDS_MAX]))}</div>'
    charted = [one for one in report.golden if len(one.points) > 1]
    moved = sum(one.outside or one.drifting for one in charted)  # the worst come first
    drawn = tuple(charted[: min(max(moved, GOLDEN_FEW), GOLDEN_MAX)])
    if drawn:
        yield f'<h2>Golden jobs</h2><p class="key">Against their median. {_BARS}</p>'
        yield f'<div class="card">{golden_chart(drawn)}'
        if len(charted) > len(drawn):
            left = "are steady" if len(drawn) >= moved else "stand in the report's JSON"
            yield f"<p>{len(charted) - len(drawn)} more {left}.</p>"
        yield "</div>"
    yield from _table(
        "Unsteady cells",
        ("cell", "board", "quantity", "spread", "was"),
        (
            (one.cell, one.board, NAMES[one.quantity], f"{one.spread:.2%}", f"{one.usual_spread:.2%}")
            for one in report.unsteady
        ),
    )
    yield from _changes("Over again", report.recovered)
    yield from _table("The lab", ("noted during the night",), ((notice,) for notice in report.notices))
    left = "; ".join(f"{number} more of {name.replace('_', ' ')}" for name, number in report.omitted.items())
    yield f"<footer>{escape(rate_text(report))} {escape(report.note)} {escape('Left out: ' + left if left else '')}"
    yield f"<br>Made {report.made_at:%Y-%m-%d %H:%M} UTC.</footer></main></body></html>"


def _narrow(chart: str) -> str:
    return chart.replace("<svg", '<svg class="narrow"', 1)


def _tiles(report: MorningReport) -> Iterator[str]:
    counts = report.counts
    new = sum(change.new for change in report.regressions)
    tiles: Sequence[tuple[int, str, str]] = (
        (counts.done, f"of {counts.total} done", "good"),
        (len(report.regressions), f"got worse, {new} new", "hot"),
        (counts.failed, "failed", "hot"),
        (counts.invalid, "invalid", "hot"),
        (counts.expired + counts.cancelled + counts.left_over, "expired, cancelled or left over", "hot"),
        (len(report.boards_to_see), "boards to look at", "hot"),
        (report.retried, "tried more than once", ""),
    )
    yield '<div class="tiles">'
    for number, words, kind in tiles:
        yield f'<div class="tile {kind if number else "zero"}"><b>{number}</b><span>{words}</span></div>'
    yield "</div>"


def _changes(title: str, changes: tuple[ChangeFound, ...]) -> Iterator[str]:
    if not changes:
        return
    yield f'<h2>{title}</h2><p class="key">{_BARS}</p><div class="charts">'
    for change in changes[:CHARTS_MAX]:
        chart = change_chart(change) if change.points else f"<strong>{escape(change.cell)}</strong>"
        new = '<span class="new">new</span> ' if change.new else ""
        yield f'<div class="card">{chart}<p>{new}<strong>{escape(change_text(change))}</strong>, '
        yield f"{escape(since_text(change))}; {latest_text(change)}; evidence "
        yield f"{evidence_text(change.evidence)}, an alarm takes {evidence_text(change.threshold)}</p></div>"
    yield "</div>"
    if len(changes) > CHARTS_MAX:
        yield f"<p>{len(changes) - CHARTS_MAX} more stand in the report's JSON.</p>"


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    body = [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    if body:
        head = "".join(f"<th>{cell}</th>" for cell in heads)
        yield f'<h2>{title}</h2><div class="card"><table><tr>{head}</tr>{"".join(body)}</table></div>'
