//! Layer 0, pure: what the loop is made of before Python or a runtime comes in. No pyo3, no tokio: these parts run
//! under proptest, loom and criterion as they are.

pub mod cork;
pub mod fifo;
pub mod flow;
pub mod inbox;
pub mod lifecycle;
pub mod linger;
pub mod outgoing;
pub mod ready;
pub mod ring;
pub mod shuffle;
pub mod timeline;
pub mod timers;
pub mod times;
pub mod waiting;
