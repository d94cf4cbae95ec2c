//! Layer 7, descriptors: `poller` (epoll or kqueue, level-triggered, nested in tokio's), `watch` (who waits for which
//! descriptor), `sock` (the `sock_*` calls as Rust futures), `dns` (numeric addresses without a thread).

pub mod dns;
pub mod poller;
pub mod sock;
pub mod watch;
