"""Whether what `[keep]` says of traces makes sense: watermarks in their order, rules that say something and are met."""

from __future__ import annotations

from collections.abc import Iterator

from labd.config.findings import Finding
from labd.config.models import Keep, KeepRule


def check_keep(keep: Keep) -> Iterator[Finding]:
    """`critical_gb` lies below `low_gb`, and every rule names traces and says one thing of them."""
    if keep.critical_gb >= keep.low_gb and (keep.low_gb, keep.critical_gb) != (0, 0):
        message = f"{keep.critical_gb:g} GB is not below low_gb = {keep.low_gb:g}: captures stop before traces go"
        yield Finding(("keep", "critical_gb"), message, "lower it, or raise low_gb; 0 for both switches both off")
    for index, rule in enumerate(keep.rule):
        path = ("keep", "rule", index)
        if rule.keep and rule.max_age_days is not None:
            message = "traces that are kept for ever have no age limit"
            yield Finding((*path, "max_age_days"), message, "remove it, or remove keep = true")
        if not rule.keep and rule.max_age_days is None:
            message = "does not say what becomes of these traces"
            yield Finding(path, message, "add max_age_days = ... or keep = true")
        if not rule.outcome and not rule.label:
            message = "does not say which traces it is about"
            yield Finding(
                path, message, "add outcome = [...] or label = {...}; for all traces write [keep] max_age_days"
            )


def warn_keep(keep: Keep) -> Iterator[Finding]:
    """A rule that an earlier one leaves nothing to is likely not in its place."""
    for index, rule in enumerate(keep.rule):
        for earlier in range(index):
            if _covers(keep.rule[earlier], rule):
                message = f"is never met: all its traces meet keep.rule[{earlier}] before"
                yield Finding(("keep", "rule", index), message, "put it first, or remove it")
                break


def _covers(first: KeepRule, second: KeepRule) -> bool:
    """Whether every trace that meets the second rule meets the first."""
    outcomes = not first.outcome or (bool(second.outcome) and set(second.outcome) <= set(first.outcome))
    return outcomes and first.label.items() <= second.label.items()
