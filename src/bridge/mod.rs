//! Layer 4, the bridge between coroutines and polls. `cx`: the waker of the task that is being stepped. `step`: one
//! step of a coroutine and what its yield means. `waker`: a waker that names a task. `awaitable`: a Rust future as a
//! Python awaitable.

pub mod awaitable;
pub mod cx;
pub mod foreign;
pub mod step;
pub mod waker;

pub use awaitable::RustFuture;
