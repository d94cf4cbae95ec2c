//! Layer 3, the loop itself: its state, its runtime, one turn, one run. It knows callbacks and entries; what a task or
//! a descriptor is, higher layers tell it through `Entry`, `Deliver` and `Reactor`.

mod alarm;
mod contexts;
pub mod handle;
pub mod run;
pub mod runtime;
pub mod shared;
pub mod state;
pub mod thread_safe_handle;
pub mod timer_handle;
pub mod turn;

pub use shared::{Deliver, LoopShared};
pub use state::LoopState;
