"""The formats that a trace can be exported to; `labd.trace.export.writing` writes them."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """A format; its value is what people call it, and the suffix of its files."""

    CSV = "csv"
    NPZ = "npz"
    HDF5 = "hdf5"
    JLS = "jls"
    SR = "sr"
    PARQUET = "parquet"

    @property
    def suffix(self) -> str:
        """Suffix of its files, with the dot."""
        return f".{self.value}"
