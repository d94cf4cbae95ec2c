//! A background runtime of one's own that has one thread: `init` is for the whole process, hence a program of its own.

use std::sync::Once;
use std::time::Duration;

use pyo3::prelude::*;
use tokio::runtime::{Builder, RuntimeFlavor};

fn python() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut builder = Builder::new_current_thread();
        builder.enable_all();
        pyloop::tokio::init(builder);
        Python::initialize();
        Python::attach(pyloop::prepare).expect("no other copy is imported");
    });
}

#[test]
fn a_current_thread_runtime_is_driven() {
    python();
    assert_eq!(pyloop::tokio::get_runtime().runtime_flavor(), RuntimeFlavor::CurrentThread);
    let spawned = Python::attach(|py| {
        pyloop::tokio::run(py, async {
            let spawned = Python::attach(|py| {
                pyloop::into_future(pyloop::spawn_into_py(py, async {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    Ok::<_, PyErr>(std::thread::current().name().map(str::to_owned))
                })?)
            })?;
            Ok::<_, PyErr>(spawned.await?.to_string())
        })
    });
    assert_eq!(spawned.expect("it ends"), "pyloop-background");
}

#[test]
fn block_on_waits_for_its_timers() {
    python();
    let slept = Python::attach(|py| {
        pyloop::block_on(py, async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            5
        })
    });
    assert_eq!(slept.expect("no loop runs in this thread"), 5);
}
