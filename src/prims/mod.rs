//! Layer 6, Rust futures for Python.

pub mod sleep;
pub mod testing;
