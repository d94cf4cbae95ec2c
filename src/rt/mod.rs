//! Layer 2, what a process has of tokio beside its loops. `process`: forks and thread identity. `background`: the
//! runtime for work that must not, or cannot, run on a loop of ours. `inside`: which runtime a poll on this thread
//! meets. `block_on`: waiting where nothing else runs. `bell`: what ends a loop's sleep.

pub mod background;
pub mod bell;
pub mod block_on;
pub mod driver_use;
pub mod inside;
pub mod process;
