//! Layer 6, `Task`: a coroutine driven to its end. From below: `name`, `state` (what is known of it), `object` (the native
//! object), `registry` (which tasks there are), `drive` (one step, and what its yield leads to), `class` (asyncio's Task
//! for Python).

mod class;
mod drive;
mod name;
mod object;
mod registry;
mod state;

pub use class::{begin_eagerly, install_direct_methods, spawn};
pub(crate) use drive::run_step;
pub use object::Task;
pub use registry::rest;
