//! Layer 6, `Task`: a coroutine driven to its end. From below: `name`, `state` (what is known of it), `object` (the
//! native object), `registry` (which tasks there are), `named` (a step for `call_soon`), `drive` (one step, and what
//! its yield leads to), `class` (asyncio's Task for Python).

mod class;
mod drive;
mod name;
mod named;
mod object;
mod registry;
mod state;

pub use class::{begin_eagerly, install_direct_methods, spawn};
pub(crate) use drive::{name_step, queue_again, run_step};
pub(crate) use named::lane_of;
pub use object::Task;
pub(crate) use object::{code_key_of, coroutine_of};
pub use registry::{place_of, rest};
