//! Layer 6, Rust futures for Python. `in_step`: how a tokio operation becomes an awaitable that loses nothing.
//! `blocking`: the same for a plain thread. `sync` is `pyloop.sync`, `sleep` is `pyloop.sleep`.

mod blocking;
pub mod in_step;
pub mod sleep;
pub mod sync;
pub mod testing;
