//! Layer 7, Rust futures for Python. `sync` is `pyloop.sync`, `fs` is `pyloop.fs`, `sleep` is `pyloop.sleep`.
//! `blocking`: the same futures for a plain thread.

mod blocking;
pub(crate) mod fs;
pub(crate) mod sleep;
pub mod sync;
pub(crate) mod testing;
mod virtual_sleep;
