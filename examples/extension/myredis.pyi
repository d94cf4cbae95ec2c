from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, final

__all__ = ["Client", "RedisError", "Subscription"]

type _Reply = str | int | bytes | list[_Reply] | None

class RedisError(Exception): ...

@final
class Client:
    @staticmethod
    def connect(host: str, port: int) -> Coroutine[Any, Any, Client]: ...
    def execute(self, *words: bytes | bytearray) -> Coroutine[Any, Any, _Reply]: ...
    def subscribe(self, channel: str) -> Coroutine[Any, Any, Subscription]: ...
    def __aenter__(self) -> Coroutine[Any, Any, Self]: ...
    def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Coroutine[Any, Any, None]: ...

@final
class Subscription:
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, bytes]: ...
