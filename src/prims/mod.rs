//! Layer 6, Rust futures for Python. `awaitable`: a tokio operation for a task; `blocking`: for a plain thread. `sync`
//! is `pyloop.sync`, `fs` is `pyloop.fs`, `sleep` is `pyloop.sleep`.

mod awaitable;
mod blocking;
pub mod fs;
pub mod sleep;
pub mod sync;
pub mod testing;
