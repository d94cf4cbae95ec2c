//! The extension module `pyloop._native`: the crate's own module, as a shared library.

pub use pyloop::_native;
