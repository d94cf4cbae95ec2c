//! Layer 1, beside `py`: everything that knows CPython's or PyO3's insides, for speed. Each file is one acceleration.
//! Runs with the GIL held.

pub mod collector;
#[cfg(feature = "loop")]
pub mod methods;
pub mod pool;
pub mod slots;
pub mod stop_iteration;
