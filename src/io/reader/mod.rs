//! asyncio's streams: what a transport does in the place of `StreamReaderProtocol.data_received`, when the protocol and
//! its `StreamReader` are asyncio's own. The state stays where asyncio has it, in the reader's attributes; whatever
//! somebody has replaced is called as on any loop.
//!
//! `known`: asyncio's classes, and whether they are as CPython has made them; `feed`: received bytes; `calls`: who
//! calls `read`, `drain` and their like gets a `coroutine`, which goes by `steps`. Loop thread, GIL held.

mod calls;
pub mod coroutine;
pub mod feed;
mod known;
mod steps;
