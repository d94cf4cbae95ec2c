//! Layer 5, the bridge between coroutines and polls.
//!
//! Rust futures in Python: `awaitable` (polled in place), `protocol` (what Python sees of it), `foreign` (under tasks
//! of other classes), `home` (drops of `!Send` futures). Other extension modules: `abi`, `capsule` (the loop's side),
//! `link` (the client's). Stepping coroutines, for the loop: `cx` (the current step), `step` (one step and what its
//! yield means), `waker` (a waker that names a task).

pub(crate) mod abi;
pub(crate) mod awaitable;
mod callback;
#[cfg(feature = "loop")]
pub(crate) mod capsule;
#[cfg(feature = "loop")]
pub mod cx;
mod foreign;
pub(crate) mod home;
mod link;
mod protocol;
#[cfg(feature = "loop")]
pub mod step;
#[cfg(feature = "loop")]
pub mod waker;

pub use awaitable::RustFuture;
