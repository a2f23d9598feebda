"""What is closed at the end of a `with` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import NoReturn, TypeVar

from allfocus.runtime.errors import UsageError

T = TypeVar("T", bound="Closing")


class Closing(ABC):
    """`with` calls `close` at the end, also after an error."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held; a second call does nothing."""

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            f"a {type(self).__name__} is neither copied nor sent to another process, as it holds "
            "an engine, a file or a thread: make one there, such as by allfocus.load in each worker"
        )

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
