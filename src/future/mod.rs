//! Layer 4, `Future`: the loop's own future, and its whole asyncio contract. One role per file: `state` (what is known
//! and the transitions), `class` (asyncio's Future for Python), `fast` (the methods that asyncio calls most), `life`
//! (how one is made and ends), `callbacks` (who waits), `iter` (`await future`).
//!
//! A future of a pyloop loop schedules its callbacks straight into the ready queue; a future of any other loop calls
//! that loop's `call_soon`.

pub mod callbacks;
pub mod iter;
pub mod state;

mod class;
mod fast;
mod life;

pub use class::Future;
pub use fast::install as install_fast_methods;
pub use iter::FutureIter;
pub use life::new_future;
