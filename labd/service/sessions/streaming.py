"""A streaming benchmark's figures again: how often the board heard its word, and how long it computed.

The MLCommons runner's convention. The first detection marks the start of the recording. A word is heard if a detection
comes from its start to 2 s after its end (the runner adds its second twice; the rules say 1 s), and all detections in
that time are used up by it. Of what is left, one within 1 s of another that counted does not count again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from labd.service.sessions.compared import Compared, compared
from labd.trace.sessions.published import Printed, PrintedDetections, Stream

_LATE_S = 2.0
_DEBOUNCE_MS = 1000
_FRAMES_MIN = 2


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """A streaming benchmark's figures beside the published ones.

    Args:
        detections: What the board heard and missed, counted again; None if its detections were not published.
        published: As printed; None if nothing is.
        duty_cycle: Share of the time in which it computes.
        inferences_per_s: Frames/s that it could take.
    """

    detections: PrintedDetections | None
    published: PrintedDetections | None
    duty_cycle: Compared
    inferences_per_s: Compared

    def counts(self) -> Iterator[tuple[str, Compared]]:
        """Each count by its name."""
        for name in ("true_positives", "false_negatives", "false_positives"):
            sides = (None if side is None else float(getattr(side, name)) for side in (self.detections, self.published))
            yield name, Compared(*sides)


def stream_figures(streams: Sequence[Stream], printed: Printed) -> StreamFigures:
    """Make the figures of a streaming benchmark again; the runner prints those of its last recording."""
    stream = streams[-1] if streams else None
    computing_s, period_s = (None, None) if stream is None else _times(stream)
    duty = None if computing_s is None or period_s is None else computing_s / period_s
    return StreamFigures(
        detections=None if stream is None else count_detections(stream),
        published=printed.detections,
        duty_cycle=compared(duty, printed.duty_cycle),
        inferences_per_s=compared(None if not computing_s else 1 / computing_s, printed.estimated_inferences_per_s),
    )


def count_detections(stream: Stream) -> PrintedDetections:
    """Count what the board heard, missed, and heard where nothing was said."""
    left = [at - stream.detections_ms[0] for at in stream.detections_ms[1:]]
    heard = 0
    for opens_s, closes_s in stream.windows_s:
        kept = [at for at in left if not opens_s <= at / 1000 <= closes_s + _LATE_S]
        heard += len(kept) < len(left)
        left = kept
    wrong: list[int] = []
    for at in sorted(left):
        if not wrong or at > wrong[-1] + _DEBOUNCE_MS:
            wrong.append(at)
    return PrintedDetections(heard, len(stream.windows_s) - heard, len(wrong))


def _times(stream: Stream) -> tuple[float | None, float | None]:
    """Mean time of computing a frame, and from one to the next, s; None with too few frames."""
    if len(stream.starts_s) < _FRAMES_MIN:
        return None, None
    computing_s = fmean(stop - start for start, stop in zip(stream.starts_s, stream.stops_s, strict=True))
    period_s = fmean(later - earlier for earlier, later in pairwise(stream.starts_s))
    return (computing_s, period_s) if computing_s > 0 and period_s > 0 else (None, None)
