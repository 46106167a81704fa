"""Figures as text: tables in Markdown, which a person can read as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.truth.verdict import Figures


def markdown(rows: Sequence[Figures]) -> str:
    """One line a group. Ratios are root mean squares of error over stated standard uncertainty."""
    heads = (
        "cell",
        "runs",
        "refused",
        "wrong",
        "error/u",
        "length/u",
        "covered",
        "u",
        "|error|",
        "worst",
        "refused for",
    )
    lines = ["| " + " | ".join(heads) + " |", "| --- " + "| ---: " * (len(heads) - 2) + "| --- |"]
    for row in rows:
        cells = (
            row.group,
            str(row.runs),
            f"{row.refused:.1%}",
            str(row.wrong),
            f"{row.ratio:.3g} ± {row.ratio_error:.1g}",
            f"{row.length_ratio:.3g}",
            f"{row.coverage:.1%} ± {row.coverage_error:.1%}",
            f"{row.uncertainty:.2g}",
            f"{row.error:.2g}",
            f"{row.worst:.2g}",
            row.reason,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mutants(turned: Mapping[str, Sequence[str]]) -> str:
    """One line a mutation: whether the verdict turned, by how many broken bounds, and the first of them."""
    lines = ["| planted | verdict | broken bounds | the first |", "| --- | --- | ---: | --- |"]
    for name, broken in turned.items():
        verdict = "fails" if broken else "passes"
        lines.append(f"| {name} | {verdict} | {len(broken)} | {broken[0] if broken else ''} |")
    return "\n".join(lines)
