//! An extension module on the bridge of pyloop, as a stranger writes one: it depends on the crate's public API and has
//! a copy of it, and of tokio, of its own.

use std::time::Duration;

use pyo3::prelude::*;

mod basics;
mod faults;
mod handlers;
#[cfg(all(feature = "libraries", not(feature = "abi3")))]
mod libraries;
mod methods;
mod moved;
mod probes;
mod pythons;
#[cfg(feature = "libraries")]
mod server;
mod streams;
mod theirs;

/// How many threads the background runtime has once it runs, and how many more may block.
const WORKERS: usize = 2;
const BLOCKING: usize = 2;

#[pymodule]
fn pyloop_extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // The threads stay once they run: the tests count them.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(WORKERS).max_blocking_threads(BLOCKING).thread_keep_alive(Duration::from_secs(3600));
    runtime.thread_name("pyloop-background").enable_all();
    pyloop::init(runtime);

    module.add("WORKERS", WORKERS)?;
    module.add("BLOCKING", BLOCKING)?;
    basics::add(module)?;
    faults::add(module)?;
    handlers::add(module)?;
    #[cfg(all(feature = "libraries", not(feature = "abi3")))]
    libraries::add(module)?;
    methods::add(module)?;
    moved::add(module)?;
    probes::add(module)?;
    pythons::add(module)?;
    #[cfg(feature = "libraries")]
    server::add(module)?;
    streams::add(module)?;
    theirs::add(module)
}
