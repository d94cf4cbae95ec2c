//! Layer 1, CPython's vocabulary: the only raw `ffi` of the crate besides the capsule. Everything here takes a
//! `Python<'py>` token, so everything here runs with the GIL held.

pub mod answer;
#[cfg(feature = "loop")]
pub mod asyncio;
pub mod attach;
pub mod call;
pub mod cell;
pub mod context;
pub mod depth;
pub mod error;
pub mod exit;
#[cfg(feature = "loop")]
pub mod finalize;
pub mod iter;
pub mod names;
pub mod refs;

#[cfg(Py_LIMITED_API)]
compile_error!("pyloop needs more of CPython than its limited API has: build without PyO3's `abi3` features");
#[cfg(Py_GIL_DISABLED)]
compile_error!("pyloop needs the GIL: its loop-local state is guarded by it (free-threaded builds are not supported)");
