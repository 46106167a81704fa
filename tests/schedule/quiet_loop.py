"""An event loop for labs whose clock a test moves: it runs until nobody has anything left to do, and never waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Stops its loop where it would wait for something to come from outside."""

    stop: Callable[[], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self.stop()
        return super().select(0)


class _AtOnce(ThreadPoolExecutor):
    """Threads that are none."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class QuietLoop(asyncio.SelectorEventLoop):
    """Runs tasks until all of them wait for something that none of them will bring."""

    def __init__(self) -> None:
        selector = _Selector()
        super().__init__(selector)
        selector.stop = self.stop
        self.set_default_executor(_AtOnce(1))

    def settle(self) -> None:
        """Run until there is nothing left to do."""
        self.run_forever()

    def turn(self, turns: int) -> None:
        """Run that many turns, and leave whatever is under way as it is."""
        for _ in range(turns):
            self.call_soon(self.stop)
            self.run_forever()

    def done(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of what waits for nothing but others that have something to do."""
        task = self.create_task(coroutine)
        self.settle()
        return task.result()

    def end(self) -> None:
        """Cancel all tasks, those that try to do something yet as well, and close."""
        self.end_tasks()
        self.close()

    def end_tasks(self) -> None:
        """Cancel all tasks, those that try to do something yet as well."""
        while tasks := asyncio.all_tasks(self):
            for task in tasks:
                task.cancel()
            self.settle()
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.exception()  # it is of a daemon that is no more
