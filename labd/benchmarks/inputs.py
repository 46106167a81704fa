"""What a benchmark's inputs are: arrays that lie beside this file, a folder a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Inputs:
    """A benchmark's inputs as sent to the board, and their true classes.

    Args:
        data: int8 or uint8, shape (n, bytes an input).
        labels: uint8, shape (n,).
    """

    data: npt.NDArray[np.int8]
    labels: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def payload(self, index: int) -> bytes:
        """The bytes that `db` loads for input `index`."""
        return bytes(self.data[index].tobytes())


@cache
def read_inputs(benchmark_id: str) -> Inputs:
    """The inputs of one benchmark, read once."""
    with (files(__package__) / benchmark_id / "inputs.npz").open("rb") as stream, np.load(stream) as arrays:
        return Inputs(data=arrays["inputs"], labels=arrays["labels"])
