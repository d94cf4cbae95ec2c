//! Layer 3, the loop itself: its state, its runtime, one turn, one run. It knows callbacks and entries; what a task or
//! a descriptor is, higher layers tell it through `entry`, `hooks`, `reactor` and `Deliver`.

mod after;
mod alarm;
pub mod clock;
pub mod counters;
mod dispatch;
pub mod entry;
pub mod handle;
mod here;
pub mod hooks;
mod order;
pub mod reactor;
pub mod replaced;
pub mod run;
pub mod runtime;
pub mod schedule;
pub mod shared;
pub mod sleep;
mod slice;
mod snapshots;
pub mod state;
mod subject;
pub mod thread_safe_handle;
mod ticks;
pub mod timer_handle;
pub mod trace;
mod traced;
pub mod turn;
pub mod virtual_time;

pub use shared::{Deliver, LoopShared};
pub use state::LoopState;
