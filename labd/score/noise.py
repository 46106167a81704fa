"""The noise of an instrument as a trace itself shows it, and what it makes of the mean over a window.

What a board does in a window is the measurand and looks like noise; the instrument's noise is seen alone where the
board is steady (`labd.score.steady`). So only rests are looked at, the stretches between windows.

White noise falls as one over the length of a mean, hum as one over its square, flicker does not fall, and a rest is
shorter than a window: so the three are told apart in the rests (`labd.score.spectrum`) and each is carried to the
window by its own law. A line of amplitude a at f makes the mean over T wrong by at most a/(π f T).

Flicker has no lowest frequency. What of it is slower than the windows of a run is alike in all of them, and does not
average out; it is taken to ten times their span. What is slower than that is the offset, which the maker answers for.

This is a Type A evaluation of a mean of correlated observations (GUM 4.2.7, which points to the Allan variance).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivers.api import Quantity
from labd.score.rules import Doubt, Remark
from labd.score.spectrum import Line, Means, hum, white_and_flicker, without_hum
from labd.score.steady import FRAME, Stretch, lowest, steady
from labd.score.uncertainty import Distribution, Scope, Term, TermName, quadrature

Floats = npt.NDArray[np.float64]

BLOCK_S = 1e-3
"""Rests are looked at in means of about so long: shorter than a byte at 9600 baud, longer than most instruments'
memory."""
STEADY = 100
"""So many blocks in steady stretches are looked for: white noise to 9 %."""
STEADY_MIN = 60
"""Fewest from which noise is told."""
UNTOLD = f"fewer than {STEADY_MIN} blocks of steady rest show none"
FLICKER_MIN = 0.25
"""Twice what the integral in `flicker_w` is for a window as long as the span, where its formula fails."""
NOISY = 3.0
"""So many times the declared noise is worth a remark."""
BELOW_SPAN = 10.0
"""Flicker is taken down to a period of so many times the span of a trace."""


@dataclass(frozen=True, slots=True)
class Rest:
    """A stretch of a recording that lies outside all windows.

    Args:
        start_s: When it begins, s.
        block_s: Length of a block, s.
        span_s: From the first window of its recording to the end of the last, s.
        blocks: Means of each analog column over consecutive blocks, in its unit, shape (n,); NaN for a block that holds
            what is not to be used.
    """

    start_s: float
    block_s: float
    span_s: float
    blocks: Mapping[Quantity, Floats]


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of the power at a window's level.

    Args:
        white: Density of white noise, W² s: the variance of a mean over T is `white`/T.
        flicker: W²: the one-sided density is `flicker`/f; 0 if none is seen.
        lines: Hum.
        white_freedom: Degrees of freedom of `white`.
        flicker_freedom: Degrees of freedom of `flicker`.
        steady_s: Time in steady stretches that this is from, s.
        span_s: From the first window to the end of the last, s.
    """

    white: float
    flicker: float
    lines: tuple[Line, ...]
    white_freedom: float
    flicker_freedom: float
    steady_s: float
    span_s: float

    def hum_w(self, duration_s: float) -> float:
        """The most that lines make of a mean over `duration_s`, root mean square over their phase, W."""
        parts = (each.amplitude_w * min(1.0, 1 / (math.pi * each.frequency_hz * duration_s)) for each in self.lines)
        return math.sqrt(sum(part**2 for part in parts) / 2)

    def flicker_w(self, duration_s: float) -> float:
        """Standard deviation of a mean by flicker of periods up to twice the span, W.

        ∫ h/f sinc²(f T) df from f₁ on is h (3/2 - γ - ln(2π f₁ T)) for f₁ T well below 1.
        """
        octaves = 1.5 - np.euler_gamma - math.log(math.pi * duration_s / max(self.span_s, duration_s))
        return math.sqrt(self.flicker * max(octaves, FLICKER_MIN))

    @property
    def drift_w(self) -> float:
        """Standard deviation by flicker of longer periods, which is alike in all windows, W."""
        return math.sqrt(self.flicker * math.log(BELOW_SPAN / 2))


def measure_noise(rests: Sequence[Rest], felt: Mapping[Quantity, float]) -> Noise | None:
    """Noise of the power at the level of a run's windows, from its rests.

    Args:
        rests: Outside the windows; all of one block length.
        felt: W per unit of each column that makes the power: a current's noise is felt times the mean voltage.

    Returns:
        None if fewer than `STEADY_MIN` blocks are steady.
    """
    if not rests:
        return None
    powers = [_felt_power(rest, felt) for rest in rests]
    block_s = rests[0].block_s
    quiet = powers
    for _ in range(2):  # hum hides what the board does in a frame: it is taken off before frames are chosen for good
        spans = steady(quiet)
        quiet = [without_hum(power, mine, block_s) for power, mine in zip(powers, spans, strict=True)]
    spans = steady(quiet)
    found = [
        Stretch(rest.start_s + span.start * block_s, power[span], calm[span])
        for rest, power, calm, mine in zip(rests, powers, quiet, spans, strict=True)
        for span in mine
    ]
    stretches = lowest(found, STEADY)
    count = sum(len(stretch.power) for stretch in stretches)
    if count < STEADY_MIN:
        return None
    lines, rested = hum([stretch.power for stretch in stretches], block_s)
    fitted = white_and_flicker(rested, block_s, _apart(stretches, rested, block_s))
    return Noise(
        white=fitted.white,
        flicker=fitted.flicker,
        lines=lines,
        white_freedom=fitted.white_freedom,
        flicker_freedom=fitted.flicker_freedom,
        steady_s=count * block_s,
        span_s=max(rest.span_s for rest in rests),
    )


def _apart(stretches: Sequence[Stretch], rested: Sequence[Floats], block_s: float) -> Means:
    """The mean of the first frame of each stretch, without hum."""
    return Means(
        starts_s=np.array([stretch.start_s for stretch in stretches]),
        length_s=FRAME * block_s,
        values=np.array([float(each[:FRAME].mean()) for each in rested]),
    )


def _felt_power(rest: Rest, felt: Mapping[Quantity, float]) -> Floats:
    """The columns' blocks as the window's power feels them: linear, so that noise common to both counts as it is."""
    parts = [factor * rest.blocks[quantity] for quantity, factor in felt.items()]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def noise_terms(noise: Noise | None, declared_w: float, duration_s: float, period_s: float) -> tuple[Term, ...]:
    """Terms of a window's energy, J: noise, and drift where flicker is seen.

    Measured white noise below the declared one is not believed: it is what a rest shows, and instruments may be noisier
    at the level of a window.

    Args:
        noise: What the rests show; None if they do not tell.
        declared_w: Standard deviation of a sample's power by the declared noise, W.
        duration_s: Length of the window, s.
        period_s: Sample period, s.
    """
    samples = duration_s / period_s
    declared = declared_w / math.sqrt(samples)
    if noise is None:
        return (
            _term(TermName.NOISE, declared * duration_s, None, f"declared noise of {samples:.0f} samples; {UNTOLD}"),
        )
    white = math.sqrt(noise.white / duration_s)
    hum, flicker = noise.hum_w(duration_s), noise.flicker_w(duration_s)
    below = math.fsum(
        (
            white**4 / noise.white_freedom if white > declared else 0.0,
            flicker**4 / noise.flicker_freedom,
        )
    )
    total = math.sqrt(max(white, declared) ** 2 + hum**2 + flicker**2)
    parts = [
        f"white noise as {'measured' if white > declared else 'declared'}",
        *(f"hum of {line.frequency_hz:g} Hz" for line in noise.lines),
        *(["flicker"] if noise.flicker > 0 else []),
    ]
    source = f"{', '.join(parts)}, from {noise.steady_s:.2g} s of steady rest"
    freedom = total**4 / below if below > 0 else None
    terms = [_term(TermName.NOISE, total * duration_s, freedom, source)]
    if noise.flicker > 0:
        slow = f"flicker of periods from 2 to {BELOW_SPAN:g} times the span of the windows"
        drift = _term(TermName.DRIFT, noise.drift_w * duration_s, noise.flicker_freedom, slow)
        terms.append(drift.model_copy(update={"scope": Scope.RUN}))
    return tuple(terms)


def noise_remark(noise: Noise | None, windows: Sequence[tuple[int, float, float]], period_s: float) -> Remark | None:
    """Say so where a window is over `NOISY` times as noisy as its instrument declares.

    Args:
        noise: What the rests show.
        windows: Of each its trial, the standard deviation of a sample by declared noise, W, and its length, s.
        period_s: Sample period, s.
    """
    if noise is None:
        return None
    worst: tuple[float, int, str] = (NOISY, -1, "")
    for trial, declared_w, duration_s in windows:
        declared = quadrature(noise_terms(None, declared_w, duration_s, period_s))
        terms = noise_terms(noise, declared_w, duration_s, period_s)
        if declared > 0:
            worst = max(worst, (quadrature(terms) / declared, trial, terms[0].source))
    times, trial, source = worst
    if trial < 0:
        return None
    detail = f"the window of trial {trial} is {times:.3g} times as noisy as the instrument declares: {source}"
    return Remark(about=Doubt.NOISE, detail=detail)


def _term(name: TermName, uncertainty: float, freedom: float | None, source: str) -> Term:
    return Term(
        name=name,
        standard_uncertainty=uncertainty,
        distribution=Distribution.NORMAL if freedom is None else Distribution.STUDENT,
        scope=Scope.WINDOW,
        degrees_of_freedom=freedom,
        source=source,
    )
