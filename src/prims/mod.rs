//! Layer 6, Rust futures for Python. `awaitable`: a tokio operation for a task; `blocking`: for a plain thread. `sync`
//! is `pyloop.sync`, `sleep` is `pyloop.sleep`.

mod awaitable;
mod blocking;
pub mod sleep;
pub mod sync;
pub mod testing;
