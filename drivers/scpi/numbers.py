"""Numbers as SCPI devices answer them, and the codes that stand for none.

9.91E37 says that there is no reading, 9.9E37 and -9.9E37 stand for infinities (SCPI-1999 volume 1, 7.2.1.5 and
7.2.1.4); in ASCII some devices write NAN, INF and NINF. None of them is a reading, so none may pass for one.
"""

from __future__ import annotations

NO_NUMBER = 9.89e37
"""From this size on a number is one of the codes; a little below 9.9E37, for devices that round it to fewer digits."""
_WORDS = frozenset({"NAN", "INF", "INFINITY", "NINF"})


def parse_number(answer: str) -> float | None:
    """Return the number of an answer, None where the device says that it has none.

    Raises:
        ValueError: the answer is neither.
    """
    text = answer.strip()
    if text.lstrip("+-").upper() in _WORDS:
        return None
    value = float(text)
    return value if abs(value) < NO_NUMBER else None
