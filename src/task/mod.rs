//! Layer 6, `Task`: a coroutine driven to its end. `state` (what is known of it), `class` (asyncio's Task for Python),
//! `drive` (one step, and what its yield leads to), `registry` (which tasks there are), `name`.

mod class;
mod drive;
mod name;
mod registry;
mod state;

pub use class::{Task, spawn};
pub(crate) use drive::run_step;
pub use registry::rest;
