"""Energy between two fractional sample indices: whole blocks from the pyramid, partial ones from the samples.

Sample k stands for the span [k, k+1) of the sample index and holds its power over that span. A window [start, stop)
takes the share of each sample that lies in it, so its energy is

    period · Σ_k power_k · |[k, k+1) ∩ [start, stop)|

All sums are float64, and pairwise; no running total over the whole trace is ever differenced.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from labd.trace.layout import BLOCK

Floats = npt.NDArray[np.float64]


def window_sums(windows: Floats, block_sums: Floats, power: Callable[[int, int], Floats]) -> Floats:
    """Sum of power over each window, W · samples.

    Args:
        windows: Fractional start and stop of each window, shape (n, 2), 0 <= start <= stop <= rows.
        block_sums: Sum of power over each whole block, shape (rows // 1000 or more,).
        power: Gives the power of samples `start` to `stop`, W, float64.

    Returns:
        float64 of shape (n,).
    """
    start, stop = windows[:, 0], windows[:, 1]
    head = -np.floor_divide(-start, BLOCK).astype(np.int64)  # first block that begins in the window
    tail = np.floor_divide(stop, BLOCK).astype(np.int64)  # first block that does not end in it
    sums = np.zeros(len(windows))
    inner = tail > head
    if inner.any():
        # A zero at the end lets `reduceat` be asked for a window that ends with the last block.
        bounds = np.column_stack([head[inner], tail[inner]]).ravel()
        sums[inner] = np.add.reduceat(np.append(block_sums, 0.0), bounds)[::2]
    # By place, not by window: neighbouring pieces share what had to be read for them.
    for k in np.argsort(start, kind="stable"):
        first, last = float(start[k]), float(stop[k])
        if inner[k]:
            sums[k] += _piece(first, float(head[k] * BLOCK), power)
        else:
            sums[k] += _piece(first, last, power)
    for k in np.argsort(stop, kind="stable"):
        if inner[k]:
            sums[k] += _piece(float(tail[k] * BLOCK), float(stop[k]), power)
    return sums


def _piece(start: float, stop: float, power: Callable[[int, int], Floats]) -> float:
    """Sum of power over a short stretch with fractional ends."""
    if stop <= start:
        return 0.0
    first, end = int(start), -int(-stop // 1)
    values = power(first, end)
    if end - first == 1:
        return float(values[0]) * (stop - start)
    ends = values[0] * (first + 1 - start) + values[-1] * (stop - (end - 1))
    return float(values[1:-1].sum() + ends)
