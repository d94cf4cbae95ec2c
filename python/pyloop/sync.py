"""tokio's channels and locks for Python: between tasks, loops, threads and Rust code.

    sender, receiver = pyloop.sync.mpsc(16)

| | |
|---|---|
| `oneshot()` | one value, once |
| `mpsc(capacity)`, `unbounded()` | a queue with many senders |
| `broadcast(capacity)` | every receiver gets every item |
| `watch(initial)` | a value that changes; readers see the newest |
| `Semaphore(permits)` | permits, in the order of asking |
| `Notify()` | wakes one task, or all that wait |
| `Barrier(parties)` | lets tasks pass when so many have come |

They belong to no loop: a task of pyloop's, of asyncio's or of uvloop's loop may wait at one end while another
loop, a thread or Rust code is at the other. Any thread may call what does not wait (`try_send`, say);
`blocking_send` and `blocking_recv` are for threads without a loop. What a cancelled `recv` would have
received is not lost.
"""

from __future__ import annotations

from pyloop import _whole  # noqa: F401
from pyloop._sync import (
    Acquire,
    Barrier,
    BroadcastReceiver,
    BroadcastSender,
    Closed,
    Empty,
    Full,
    Lagged,
    NoPermits,
    Notify,
    OneshotReceiver,
    OneshotSender,
    Permit,
    Receiver,
    Semaphore,
    Sender,
    WatchReceiver,
    WatchSender,
    broadcast,
    mpsc,
    oneshot,
    unbounded,
    watch,
)

__all__ = [
    "Acquire",
    "Barrier",
    "BroadcastReceiver",
    "BroadcastSender",
    "Closed",
    "Empty",
    "Full",
    "Lagged",
    "NoPermits",
    "Notify",
    "OneshotReceiver",
    "OneshotSender",
    "Permit",
    "Receiver",
    "Semaphore",
    "Sender",
    "WatchReceiver",
    "WatchSender",
    "broadcast",
    "mpsc",
    "oneshot",
    "unbounded",
    "watch",
]
