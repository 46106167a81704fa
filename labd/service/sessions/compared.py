"""A figure that is made again beside the one that was published, at the published digits."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

_EXACT = Context(prec=400)
"""Room for every digit of any float64: a flipped bit makes a sample of 1e38 µJ."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure of ours, rounded as the published one beside it; None for what is not there."""

    ours: float | None = None
    published: float | None = None

    @property
    def agrees(self) -> bool:
        """False only if both are there and differ."""
        return self.ours is None or self.published is None or self.ours == self.published

    @property
    def value(self) -> float | None:
        """Ours, or the published one where we have none."""
        return self.published if self.ours is None else self.ours

    @property
    def as_published(self) -> bool:
        """Whether the figure is echoed from the results, and nothing checks it."""
        return self.ours is None and self.published is not None

    def document(self) -> dict[str, Any]:
        """The figure as JSON."""
        return {"value": self.value, "published": self.published, "as_published": self.as_published}


def rounded_as(value: float, printed: Decimal) -> Decimal:
    """A figure with as many decimals as the printed one."""
    step = Decimal(1).scaleb(int(printed.as_tuple().exponent))
    return Decimal(value).quantize(step, rounding=ROUND_HALF_UP, context=_EXACT)


def compared(ours: float | None, published: Decimal | None) -> Compared:
    """Our figure at the digits of the published one."""
    if published is None:
        return Compared(ours=ours)
    return Compared(
        ours=None if ours is None else float(rounded_as(ours, published)),
        published=float(published),
    )
