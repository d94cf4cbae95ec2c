//! Code that is generic over the runtimes of pyo3-async-runtimes, with `PyloopRuntime`.

use std::cell::Cell;
use std::ffi::CString;
use std::rc::Rc;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use pyloop::PyloopRuntime;
use pyo3::prelude::*;
use pyo3_async_runtimes::generic::{self, ContextExt, LocalContextExt, Runtime, SpawnLocalExt};
use tokio::runtime::Handle;

/// Where a future is polled: its thread and its runtime.
fn place() -> String {
    format!("{:?} {}", std::thread::current().id(), Handle::current().id())
}

/// A crate's code that knows no runtime.
mod somebody_elses {
    use super::*;

    pub fn places<R: Runtime + ContextExt>(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        generic::future_into_py::<R, _, _>(py, async {
            let before = place();
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(vec![before, place()])
        })
    }

    #[expect(deprecated, reason = "it is what is tested")]
    pub fn local<R: Runtime + ContextExt + SpawnLocalExt + LocalContextExt>(
        py: Python<'_>,
    ) -> PyResult<Bound<'_, PyAny>> {
        let shared = Rc::new(Cell::new(1));
        generic::local_future_into_py::<R, _, _>(py, async move {
            tokio::task::yield_now().await;
            shared.set(shared.get() + 1);
            Ok(shared.get())
        })
    }

    pub fn calls_back<R: Runtime + ContextExt>(py: Python<'_>, callback: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
        generic::future_into_py::<R, _, _>(py, async move {
            Python::attach(|py| generic::into_future::<R>(callback.bind(py).call0()?))?.await
        })
    }

    pub fn sums<'py, R: Runtime + ContextExt>(
        py: Python<'py>,
        generators: (Bound<'py, PyAny>, Bound<'py, PyAny>),
    ) -> PyResult<Bound<'py, PyAny>> {
        let first = generic::into_stream_v1::<R>(generators.0)?;
        let second = generic::into_stream_v2::<R>(generators.1)?;
        generic::future_into_py::<R, _, _>(py, async move {
            let number = |item: Py<PyAny>| Python::attach(|py| item.extract::<u32>(py));
            let first = first.map(|item| number(item?)).try_collect::<Vec<_>>().await?;
            let second = second.map(number).try_collect::<Vec<_>>().await?;
            Ok(vec![first.iter().sum::<u32>(), second.iter().sum()])
        })
    }
}

#[pyfunction]
fn places(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    somebody_elses::places::<PyloopRuntime>(py)
}

/// As `places`, without the generic functions: polled in place by the task that awaits.
#[pyfunction]
fn here(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async { Ok::<_, PyErr>(place()) })
}

#[pyfunction]
fn local(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    somebody_elses::local::<PyloopRuntime>(py)
}

// docs: generic
#[pyfunction]
fn calls_back(py: Python<'_>, callback: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    somebody_elses::calls_back::<PyloopRuntime>(py, callback)
}
// docs: end

#[pyfunction]
fn sums<'py>(py: Python<'py>, first: Bound<'py, PyAny>, second: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    somebody_elses::sums::<PyloopRuntime>(py, (first, second))
}

#[pyfunction]
fn panics(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    generic::future_into_py::<PyloopRuntime, _, ()>(py, async { panic!("on purpose") })
}

static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Alive;

impl Drop for Alive {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

#[pyfunction]
fn never(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    LIVE.fetch_add(1, Ordering::SeqCst);
    let alive = Alive;
    generic::future_into_py::<PyloopRuntime, _, ()>(py, async move {
        let _alive = alive;
        std::future::pending().await
    })
}

#[pyfunction]
fn live() -> usize {
    LIVE.load(Ordering::SeqCst)
}

/// Run the coroutine function `main` of this code on a new loop of this kind.
fn run(kind: &str, code: &str) -> PyResult<Py<PyAny>> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        Python::initialize();
        Python::attach(pyloop::prepare).expect("no other copy is imported");
    });
    Python::attach(|py| {
        let code = format!(
            "import asyncio, pyloop\n{code}\ndef run(kind):\n    make = {{'pyloop': pyloop.new_event_loop, 'asyncio': \
             asyncio.SelectorEventLoop}}\n    return asyncio.run(main(), loop_factory=make[kind])\n"
        );
        let module = PyModule::from_code(py, &CString::new(code)?, c"test.py", c"test")?;
        for function in [
            wrap_pyfunction!(places, &module)?,
            wrap_pyfunction!(here, &module)?,
            wrap_pyfunction!(local, &module)?,
            wrap_pyfunction!(calls_back, &module)?,
            wrap_pyfunction!(sums, &module)?,
            wrap_pyfunction!(panics, &module)?,
            wrap_pyfunction!(never, &module)?,
            wrap_pyfunction!(live, &module)?,
        ] {
            module.add_function(function)?;
        }
        Ok(module.call_method1("run", (kind,))?.unbind())
    })
}

fn on_both(code: &str, expected: &str) {
    for kind in ["pyloop", "asyncio"] {
        let result = run(kind, code).unwrap_or_else(|raised| panic!("on {kind}: {raised}"));
        assert_eq!(result.to_string(), expected, "on {kind}");
    }
}

#[test]
fn a_generic_future_runs_on_the_thread_and_the_runtime_of_the_loop() {
    on_both(
        "async def main():\n    here_ = await here()\n    return [p == here_ for p in await places()]",
        "[True, True]",
    );
}

#[test]
fn a_generic_local_future_runs_on_the_loop() {
    on_both("async def main():\n    return await local()", "2");
}

#[test]
fn generic_futures_keep_the_loop_and_its_context_variables() {
    on_both(
        "import contextvars\nvariable = contextvars.ContextVar('variable')\nasync def look():\n    return \
         variable.get()\nasync def main():\n    variable.set('seen')\n    return await calls_back(look)",
        "seen",
    );
}

#[test]
fn generic_streams_give_every_item() {
    on_both(
        "async def count(n):\n    for i in range(n):\n        yield i\nasync def main():\n    return await \
         sums(count(10), count(1000))",
        "[45, 499500]",
    );
}

#[test]
fn a_panic_is_the_rust_panic_of_the_generic_functions() {
    on_both(
        "async def main():\n    try:\n        await panics()\n    except Exception as error:\n        return \
         type(error).__name__",
        "RustPanic",
    );
}

#[test]
fn cancelling_a_generic_future_drops_it() {
    on_both(
        "async def main():\n    task = asyncio.ensure_future(never())\n    before = live()\n    task.cancel()\n    \
         await asyncio.wait([task])\n    while live():\n        await asyncio.sleep(0)\n    return before",
        "1",
    );
}

#[test]
fn without_a_loop_it_is_the_background_runtime() {
    assert_eq!(run("pyloop", "async def main():\n    return 1").expect("it runs").to_string(), "1");
    let background = pyloop::tokio::get_runtime().id();
    let met = Python::attach(|py| {
        generic::run::<PyloopRuntime, _, _>(py, async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(Handle::current().id())
        })
    });
    assert_eq!(met.expect("it runs"), background);
    let met = Python::attach(|py| {
        let event_loop = py.import("pyloop")?.call_method0("new_event_loop")?;
        let met = generic::run_until_complete::<PyloopRuntime, _, _>(&event_loop, async {
            let slept = Python::attach(|py| {
                generic::into_future::<PyloopRuntime>(py.import("asyncio")?.call_method1("sleep", (0.002, 3))?)
            })?;
            Ok((slept.await?.to_string(), Handle::current().id()))
        });
        event_loop.call_method0("close")?;
        met
    });
    assert_eq!(met.expect("it runs"), ("3".to_owned(), background));
}
