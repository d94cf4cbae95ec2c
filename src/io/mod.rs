//! Layer 7, descriptors: `poller` (epoll or kqueue, nested in tokio's), `registrations` (what it is told, and when),
//! `table` and `watched` (what is known of each descriptor), `watch` (who waits for which one), `sock` and `sock_plain`
//! (the `sock_*` calls as Rust futures), `stream` (transports), `reader` (asyncio's streams above them), `descriptor`
//! and `protocol_of` (which one an object is, and what kind of socket), `dns` (numeric addresses without a thread).

pub mod address;
pub mod datagram;
pub mod descriptor;
pub mod dns;
pub mod poller;
pub mod protocol_of;
pub mod reader;
pub mod registrations;
pub mod sock;
pub mod sock_plain;
pub mod stream;
pub mod syscall;
pub mod table;
pub mod transport;
pub mod transports;
pub mod watch;
pub mod watched;
