"""Things made ahead: while one is used, threads make the next ones.

A batch follows from its step alone (`batches`), so that making it earlier changes no number in it.

    the student     [ step 0 ][ step 1 ][ step 2 ]
    a thread  [ 0 ] [  1  ]   [  2  ]   [  3  ]
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """Makes numbered things in `workers` threads of one core each; without any, when asked."""

    def __init__(self, make: Callable[[int], Made], workers: int) -> None:
        self._make, self._workers = make, workers
        self._begun: dict[int, Future[Made]] = {}
        if workers:
            self._pool = ThreadPoolExecutor(workers, "ahead", torch.set_num_threads, (1,))

    def take(self, number: int, stop: int) -> Made:
        """Give a thing, and have those after it begun, of those below `stop`.

        What making it raises is raised here.
        """
        if not self._workers:
            return self._make(number)
        wanted = range(number, min(number + self._workers + 1, stop))
        for n in self._begun.keys() - set(wanted):
            self._begun.pop(n).cancel()
        for n in wanted:
            if n not in self._begun:
                self._begun[n] = self._pool.submit(self._make, n)
        return self._begun.pop(number).result()

    def forget(self) -> None:
        """Make anew what was made ahead: what it was made from has changed."""
        for begun in self._begun.values():
            begun.cancel()
        self._begun.clear()
