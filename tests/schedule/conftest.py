"""Nothing of the histories is left in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.schedule.histories import memory


@pytest.fixture(autouse=True, scope="module")
def nothing_left_in_memory() -> Iterator[None]:
    yield
    memory.forget()
