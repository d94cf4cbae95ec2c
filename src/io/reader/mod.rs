//! asyncio's streams: what a transport does in the place of `StreamReaderProtocol.data_received`, when the protocol and its
//! `StreamReader` are asyncio's own. The state stays where asyncio has it, in the reader's attributes; whatever somebody
//! has replaced is called as on any loop.
//!
//! `known`: asyncio's classes, and whether they are as CPython has made them; `feed`: received bytes. Loop thread, GIL held.

pub mod feed;
mod known;
