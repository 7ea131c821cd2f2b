"""Figures of a step that stay on the device until they are logged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch


class LoggedLater:
    """Mixin for a TRL trainer whose metrics may be tensors of one number each.

    To read a number of a GPU, the host waits until the GPU has done all that was asked of it. Here
    it reads all numbers of a step at once and when they are logged, which is when the trainer reads
    the loss too. Read one by one during the step, each would leave the GPU without work.
    """

    _metrics: dict[str, dict[str, list[Any]]]
    _total_train_tokens: Any

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Read the numbers, and log them."""
        lists = [values for metrics in self._metrics.values() for values in metrics.values()]
        numbers = read(value for values in lists for value in values if torch.is_tensor(value))
        for values in lists:
            values[:] = [next(numbers) if torch.is_tensor(value) else value for value in values]
        super().log(logs, *args, **kwargs)  # type: ignore[misc]


def read(values: Iterable[torch.Tensor]) -> Iterator[float]:
    """The numbers of scalar tensors, for which the host waits once."""
    scalars = [value.detach().double() for value in values]
    return iter(torch.stack(scalars).tolist() if scalars else [])
