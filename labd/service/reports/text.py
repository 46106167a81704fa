"""The morning report as Markdown, which reads well as plain text too: short, the most important first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labd.plus_minus import with_k
from labd.score.regression import Quantity
from labd.service.placement import STEPS_ALONE
from labd.service.reports.messages import BrokenRule, ChangeFound, MorningReport

NAMES = {
    Quantity.ENERGY: "energy per inference",
    Quantity.THROUGHPUT: "throughput",
    Quantity.ACCURACY: "accuracy",
}
_UNITS = {Quantity.ENERGY: (1e6, "µJ"), Quantity.THROUGHPUT: (1.0, "inf/s"), Quantity.ACCURACY: (100.0, "%")}


def one_line(text: str) -> str:
    """Words of people and boards on one line, without what would command a terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def figure_text(value: float, quantity: Quantity) -> str:
    """A figure with its unit: `14.23 µJ`."""
    scale, unit = _UNITS[quantity]
    return f"{value * scale:#.4g} {unit}"


def latest_text(change: ChangeFound) -> str:
    """The latest figure with its uncertainty, and what it is held against: `14.23 ± 0.11 µJ (k = 1), was 13.8 µJ`."""
    scale, unit = _UNITS[change.quantity]
    latest = change.points[-1] if change.points else None
    if latest is None or not latest.standard_uncertainty:
        figure = figure_text(change.value, change.quantity)
    else:
        figure = with_k(latest.value * scale, latest.standard_uncertainty * scale, unit)
    was, nights = figure_text(change.baseline_value, change.quantity), len(change.baseline_nights)
    return f"{figure}, was {was} over {nights} {'night' if nights == 1 else 'nights'}"


def change_text(change: ChangeFound) -> str:
    """How much a cell changed, with its interval of 95 %: `+3.0 % (+2.7 to +3.3)`, in points for a share."""
    unit = "%" if change.quantity.relative else "points"
    low, high = change.interval
    return f"{change.change * 100:+.1f} {unit} ({low * 100:+.1f} to {high * 100:+.1f})"


def since_text(change: ChangeFound) -> str:
    """Since when, whether it is news, and how many of its nights no wire has placed."""
    ended = "" if change.ended_night is None else f", over since night {change.ended_night}"
    news = "new" if change.new else f"told in night {change.alarm_night}"
    return f"since night {change.since_night}, {news}{ended}{alone_text(change.steps_alone, 'night')}"


def alone_text(steps_alone: Sequence[float], noun: str) -> str:
    """The mark of figures that rest on the steps of the current alone: `, 3 nights placed by steps alone`."""
    count = len(steps_alone)
    return f", {count} {noun}{'' if count == 1 else 's'} placed by {STEPS_ALONE}" if count else ""


def said_text(rule: BrokenRule) -> str:
    """What was found of a broken rule, and what each witness said of it."""
    return "; ".join((rule.detail, *rule.said))


def evidence_text(evidence: float) -> str:
    """An e-value for people: `4,200`."""
    return f"{evidence:,.0f}" if evidence < 1e6 else f"{evidence:.1e}"


def rate_text(report: MorningReport) -> str:
    """How the cells were judged, one sentence."""
    watched, effect = report.watched, report.watched.min_effect * 100
    return (
        f"{watched.cells} figures over {watched.nights} nights against baseline {watched.baseline}; at most one false "
        f"alarm in {watched.nights_per_false_alarm:g} nights over all of them, changes below {effect:.2g} % are "
        "not told. Ranges of changes cover 95 %."
    )


def markdown(report: MorningReport) -> str:
    """The whole report."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: MorningReport) -> Iterator[str]:
    yield f"# {report.sweep}, night {report.night}: {_plain(report.headline)}"
    yield ""
    yield f"Due {report.due_at:%Y-%m-%d %H:%M} UTC, took {report.duration_s / 3600:.1f} h, {report.attempts} attempts."
    for title, changes in (
        ("Regressions", report.regressions),
        ("Improvements", report.improvements),
        ("Over again", report.recovered),
    ):
        words = (
            f"{change.cell} on {change.board}, {NAMES[change.quantity]}: {change_text(change)}, {since_text(change)}"
            for change in changes
        )
        yield from _section(title, words)
    yield from _section(
        "Not done",
        (
            f"{reason.count} {reason.state} ({reason.cause or '-'}): {reason.sentence} {reason.remedy} "
            f"Jobs {_numbers(reason.jobs, reason.count)}."
            for reason in report.reasons
        ),
    )
    yield from _section(
        "Rules broken",
        (f"{rule.rule}: {said_text(rule)}. Jobs {_numbers(rule.jobs, rule.count)}." for rule in report.broken_rules),
    )
    yield from _section(
        "Remarks",
        (f"{one.about}: {one.detail}. Jobs {_numbers(one.jobs, one.count)}." for one in report.remarks),
    )
    yield from _section(
        "Boards to look at", (f"{board.id}: {'; '.join(board.reasons)}" for board in report.boards_to_see)
    )
    yield from _section(
        "Instruments",
        (f"{one.id}: {one.state}, lost {one.times_lost} times. {one.reason}" for one in report.instruments_to_see),
    )
    yield from _section(
        "Golden jobs",
        (
            f"{one.board}: {one.deviation:+.2%} from its median"
            + ("" if one.slope_per_week is None else f", {one.slope_per_week:+.2%} a week")
            + f" (band ±{one.band:.1%})"
            + alone_text(one.steps_alone, "run")
            for one in report.golden
        ),
    )
    yield from _section(
        "Unsteady",
        (f"{one.cell} on {one.board}: spread {one.spread:.2%}, was {one.usual_spread:.2%}" for one in report.unsteady),
    )
    yield from _section(
        "Boards",
        (
            f"{board.id}: {board.done} done, {board.failed} failed, {board.invalid} invalid, "
            f"busy {board.utilisation:.0%}"
            for board in report.boards
        ),
    )
    yield from _section("The lab", report.notices)
    if report.omitted:
        left = (f"{number} more of {name.replace('_', ' ')}" for name, number in report.omitted.items())
        yield from _section("Left out", left)
    yield ""
    yield rate_text(report)


def _section(title: str, entries: Iterator[str] | tuple[str, ...]) -> Iterator[str]:
    lines = [f"- {_plain(entry)}" for entry in entries]
    if lines:
        yield from ("", f"## {title}", "", *lines)


def _plain(text: str) -> str:
    """Words of people and boards as they are: they make no heading, no link and no HTML."""
    return one_line(text).replace("<", "&lt;").replace("[", "\\[")


def _numbers(jobs: tuple[int, ...], count: int) -> str:
    more = f" and {count - len(jobs)} more" if count > len(jobs) else ""
    return ", ".join(map(str, jobs)) + more
