"""How a figure and its uncertainty are written: one way for lines, tables, pictures and reports.

What stands behind a ± is the standard uncertainty, coverage factor k = 1 (JCGM 100:2008, 7.2.1), unless it says another
k. It is said once for a table or a picture, `STANDARD`, or by the figure itself where it stands alone, `with_k`.
"""

from __future__ import annotations

import math

STANDARD = "standard uncertainty, k = 1"
"""What the uncertainties of a table or a picture are."""
PLUS_MINUS = f"value ± {STANDARD}"
"""What stands above a table of figures."""


def plus_minus(value: float, uncertainty: float, unit: str) -> str:
    """A figure and its uncertainty, both to two digits of the latter: `14.23 ± 0.11 µJ`.

    It is for places that say beside it what the uncertainty is: `STANDARD`.
    """
    if not (math.isfinite(uncertainty) and uncertainty > 0):
        return f"{value:.6g} ± {uncertainty:g} {unit}"
    exponent = math.floor(math.log10(uncertainty)) - 1
    decimals = max(0, -exponent)
    rounded = round(value, -exponent), round(uncertainty, -exponent)
    return f"{rounded[0]:.{decimals}f} ± {rounded[1]:.{decimals}f} {unit}"


def with_k(value: float, uncertainty: float, unit: str, k: int = 1) -> str:
    """A figure that stands alone, and what its uncertainty is: `14.23 ± 0.11 µJ (k = 1)`.

    Args:
        value: The figure.
        uncertainty: k standard uncertainties, in the same unit.
        unit: As it is written.
        k: The coverage factor.
    """
    return f"{plus_minus(value, uncertainty, unit)} (k = {k})"
