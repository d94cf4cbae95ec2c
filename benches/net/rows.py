"""What is measured: the rows of the table, in its order."""

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True)
class Load:
    """What the load generator does: load/src/main.rs has the kinds."""

    kind: str
    connections: int = 1
    size: int = KIB


@dataclass(frozen=True)
class Served:
    """A server (of servers.py) under load from another process."""

    name: str
    title: str
    server: str
    load: Load
    bare: bool = False  # the same without Python is a server of load/src/serve.rs
    aim: float | None = None  # the processor time that pyloop is to reach, as a multiple of uvloop's


@dataclass(frozen=True)
class Inside:
    """Work (of inside.py, under the row's name) that one process does alone or with children of its own."""

    name: str
    title: str
    aim: float | None = None


Row = Served | Inside

_64 = 64
_ROWS: tuple[Row, ...] = (
    Served("protocol", "protocol, 1 KiB", "protocol", Load("tcp"), bare=True),
    Served("protocol-c64", "protocol, 1 KiB, 64 connections", "protocol", Load("tcp", _64), True, 0.75),
    Served("protocol-100k", "protocol, 100 KiB", "protocol", Load("tcp", 1, 100 * KIB), True, 0.92),
    Served("buffered-c64", "BufferedProtocol, 1 KiB, 64 connections", "buffered", Load("tcp", _64), aim=0.85),
    Served("streams-c64", "streams, 1 KiB, 64 connections", "streams", Load("tcp", _64), aim=0.60),
    Served("streams-100k", "streams, 100 KiB", "streams", Load("tcp", 1, 100 * KIB), aim=0.85),
    Served(
        "readexactly-c64", "readexactly, 1 KiB, 64 connections", "readexactly", Load("tcp", _64), aim=0.75
    ),
    Served("sock-c64", "sock_*, 1 KiB, 64 connections", "sock", Load("tcp", _64), aim=0.15),
    Served("tls-protocol-c64", "TLS protocol, 1 KiB, 64 connections", "tls", Load("tls", _64), True, 0.18),
    Served(
        "tls-streams-c64", "TLS streams, 1 KiB, 64 connections", "tls-streams", Load("tls", _64), aim=0.30
    ),
    Served("tls-100k", "TLS protocol, 100 KiB", "tls", Load("tls", 1, 100 * KIB), True, 0.62),
    Served("unix", "Unix socket, protocol, 1 KiB", "unix", Load("unix"), True, 0.82),
    Served("udp", "UDP, 1 KiB", "udp", Load("udp"), True, 0.92),
    Served("connections", "a new connection for 64 bytes", "protocol", Load("connect", 1, 64), True, 0.80),
    Served("uvicorn-c64", "uvicorn, 64 connections", "uvicorn", Load("http", _64), aim=0.78),
    Served("aiohttp-c64", "aiohttp, 64 connections", "aiohttp", Load("http", _64), aim=0.62),
    Served(
        "websockets-c64", "websockets, 1 KiB, 64 connections", "websockets", Load("websocket", _64), aim=0.85
    ),
    Inside("asyncpg", "asyncpg, select 1", 0.95),
    Inside("asyncpg-c16", "asyncpg, select 1, 16 connections", 0.95),
    Inside("bulk", "one way, 64 KiB writes, both ends in one loop"),
    Inside("both-ends", "protocol, 1 KiB, both ends in one loop"),
    Inside("spawn", "subprocess: spawn and wait"),
    Inside("pipe", "subprocess: 64 KiB through its pipes"),
    Inside("getaddrinfo", "getaddrinfo of 127.0.0.1"),
)
ROWS: dict[str, Row] = {row.name: row for row in _ROWS}
