//! What programs do with `pyo3_async_runtimes::tokio`, done with `pyloop::tokio`. Each test starts its own loop, in a
//! thread of its own.

use std::cell::Cell;
use std::ffi::CString;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use pyloop::tokio as bridge;
use pyo3::exceptions::PyValueError;
use pyo3::panic::PanicException;
use pyo3::prelude::*;

/// Python, with this program's own copy of the package.
fn python() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        Python::initialize();
        Python::attach(pyloop::prepare).expect("no other copy is imported");
    });
}

/// Run `test` as the main of a new loop.
fn on_a_loop(test: impl Future<Output = PyResult<()>> + 'static) {
    python();
    Python::attach(|py| bridge::run(py, test).map_err(|raised| panic!("{}", told(py, &raised)))).expect("told above");
}

fn told(py: Python<'_>, raised: &PyErr) -> String {
    let format = py.import("traceback").and_then(|module| module.call_method1("format_exception", (raised,)));
    format.and_then(|lines| lines.extract::<Vec<String>>()).map_or_else(|_| raised.to_string(), |lines| lines.concat())
}

fn module<'py>(py: Python<'py>, code: &str) -> PyResult<Bound<'py, PyModule>> {
    PyModule::from_code(py, &CString::new(code)?, c"test.py", c"test")
}

#[pyfunction]
fn sleep(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    bridge::future_into_py(py, async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok(seconds)
    })
}

fn is_cancelled(raised: &PyErr) -> bool {
    Python::attach(|py| raised.is_instance_of::<pyloop::CancelledError>(py))
}

#[test]
fn a_coroutine_awaits_a_rust_future() {
    on_a_loop(async {
        let slept = Python::attach(|py| {
            let module = module(py, "async def main(sleep): return 2 * await sleep(0.01)")?;
            bridge::into_future(module.call_method1("main", (wrap_pyfunction!(sleep, py)?,))?)
        })?;
        assert_eq!(slept.await?.to_string(), "0.02");
        Ok(())
    });
}

#[test]
fn rust_awaits_both_kinds_of_sleep() {
    on_a_loop(async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let sleep =
            Python::attach(|py| bridge::into_future(py.import("asyncio")?.call_method1("sleep", (0.005, "slept"))?))?;
        assert_eq!(sleep.await?.to_string(), "slept");
        Ok(())
    });
}

#[test]
fn rust_awaits_the_future_of_an_executor() {
    on_a_loop(async {
        let executed = Python::attach(|py| {
            let event_loop = bridge::get_current_loop(py)?;
            let time = py.import("time")?.getattr("sleep")?;
            let future = event_loop.call_method1("run_in_executor", (py.None(), time, 0.005))?;
            bridge::into_future_with_locals(&bridge::TaskLocals::new(event_loop), future)
        })?;
        assert_eq!(executed.await?.to_string(), "None");
        Ok(())
    });
}

#[test]
fn a_future_that_is_not_send_is_awaited() {
    on_a_loop(async {
        let local = Python::attach(|py| {
            let shared = Rc::new(Cell::new(1));
            let locals = bridge::TaskLocals::with_running_loop(py)?.copy_context(py)?;
            let awaitable = bridge::local_future_into_py_with_locals(py, locals, async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                shared.set(shared.get() + 1);
                Ok(shared.get())
            })?;
            bridge::into_future(awaitable)
        })?;
        assert_eq!(local.await?.to_string(), "2");
        Ok(())
    });
}

#[test]
fn a_panic_is_an_error_of_the_awaitable() {
    on_a_loop(async {
        let panics = Python::attach(|py| {
            bridge::into_future(bridge::future_into_py::<_, ()>(py, async {
                tokio::task::yield_now().await;
                panic!("on purpose")
            })?)
        })?;
        let raised = panics.await.expect_err("it panics");
        Python::attach(|py| assert!(raised.is_instance_of::<PanicException>(py), "{raised}"));
        assert!(raised.to_string().contains("on purpose"), "{raised}");
        Ok(())
    });
}

#[test]
fn a_cancelled_future_does_not_complete() {
    on_a_loop(async {
        let (began, completed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (begins, completes) = (Arc::clone(&began), Arc::clone(&completed));
        let task = Python::attach(|py| -> PyResult<_> {
            let awaitable = bridge::future_into_py(py, async move {
                begins.store(true, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                completes.store(true, Ordering::SeqCst);
                Ok(())
            })?;
            Ok(py.import("asyncio")?.call_method1("ensure_future", (awaitable,))?.unbind())
        })?;
        tokio::task::yield_now().await;
        while !began.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let ended = Python::attach(|py| -> PyResult<_> {
            task.bind(py).call_method0("cancel")?;
            bridge::into_future(task.into_bound(py))
        })?;
        assert!(is_cancelled(&ended.await.expect_err("it is cancelled")));
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!completed.load(Ordering::SeqCst));
        Ok(())
    });
}

#[test]
fn a_dropped_rust_future_cancels_its_coroutine() {
    on_a_loop(async {
        let (never, log) = Python::attach(|py| -> PyResult<_> {
            let module = module(
                py,
                "import asyncio\nlog = []\nasync def main():\n    try:\n        await asyncio.Event().wait()\n    \
                 except asyncio.CancelledError:\n        log.append('cancelled')\n        raise\n",
            )?;
            Ok((bridge::into_future(module.call_method0("main")?)?, module.getattr("log")?.unbind()))
        })?;
        let timed_out = tokio::time::timeout(Duration::from_millis(5), never).await;
        assert!(timed_out.is_err());
        while Python::attach(|py| log.bind(py).is_empty())? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(log.to_string(), "['cancelled']");
        Ok(())
    });
}

#[test]
fn loops_run_one_after_another() {
    python();
    Python::attach(|py| -> PyResult<()> {
        for _ in 0..2 {
            bridge::run(py, async {
                tokio::time::sleep(Duration::from_millis(2)).await;
                Ok::<_, PyErr>(())
            })?;
        }
        let module = module(
            py,
            "import asyncio\ndef main(sleep):\n    async def inner(): return await sleep(0.002)\n    \
             return [asyncio.run(inner()) for _ in range(2)]\n",
        )?;
        let slept = module.call_method1("main", (wrap_pyfunction!(sleep, py)?,))?;
        assert_eq!(slept.extract::<Vec<f64>>()?, [0.002, 0.002]);
        let event_loop = py.import("pyloop")?.call_method0("new_event_loop")?;
        let value = bridge::run_until_complete(event_loop.clone(), async { Ok::<_, PyErr>(7) })?;
        assert_eq!(value, 7);
        event_loop.call_method0("close").map(drop)
    })
    .expect("both loops run");
}

#[test]
fn the_background_runtime_stops_a_loop_that_runs_forever() {
    python();
    Python::attach(|py| -> PyResult<()> {
        let event_loop = py.import("pyloop")?.call_method0("new_event_loop")?;
        let theirs = event_loop.clone().unbind();
        bridge::get_runtime().spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Python::attach(|py| -> PyResult<()> {
                let stop = theirs.bind(py).getattr("stop")?;
                theirs.bind(py).call_method1("call_soon_threadsafe", (stop,)).map(drop)
            })
            .expect("the loop runs");
        });
        event_loop.call_method0("run_forever")?;
        event_loop.call_method0("close").map(drop)
    })
    .expect("it stops");
}

/// Calls back a coroutine function, which sees the context variables of whoever awaits.
#[pyfunction]
fn calls_back(py: Python<'_>, callback: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    bridge::future_into_py(
        py,
        async move { Python::attach(|py| bridge::into_future(callback.bind(py).call0()?))?.await },
    )
}

#[test]
fn context_variables_reach_a_coroutine_that_rust_awaits() {
    on_a_loop(async {
        let seen = Python::attach(|py| {
            let module = module(
                py,
                "import contextvars\nvariable = contextvars.ContextVar('variable')\nasync def look(): return \
                 variable.get()\nasync def main(calls_back):\n    variable.set('seen')\n    return await \
                 calls_back(look)\n",
            )?;
            bridge::into_future(module.call_method1("main", (wrap_pyfunction!(calls_back, py)?,))?)
        })?;
        assert_eq!(seen.await?.to_string(), "seen");
        Ok(())
    });
}

#[test]
fn locals_reach_what_runs_on_the_background_runtime() {
    on_a_loop(async {
        let locals = Python::attach(bridge::get_current_locals)?;
        let task = bridge::get_runtime().spawn(bridge::scope(locals, async {
            let sleep = Python::attach(|py| {
                bridge::into_future(py.import("asyncio")?.call_method1("sleep", (0.002, "there"))?)
            })?;
            sleep.await
        }));
        let slept = task.await.map_err(|failed| PyValueError::new_err(failed.to_string()))??;
        assert_eq!(slept.to_string(), "there");
        Ok(())
    });
}

const GENERATOR: &str = "import asyncio\nasync def generator(n, every):\n    for i in range(n):\n        if i % every \
                         == 0:\n            await asyncio.sleep(0.001)\n        yield i\n";

#[test]
fn streams_give_every_item_of_an_async_generator() {
    on_a_loop(async {
        let (first, second) = Python::attach(|py| -> PyResult<_> {
            let module = module(py, GENERATOR)?;
            let first = bridge::into_stream_v1(module.call_method1("generator", (10, 1))?)?;
            Ok((first, bridge::into_stream_v2(module.call_method1("generator", (1000, 2000))?)?))
        })?;
        let number = |item: Py<PyAny>| Python::attach(|py| item.extract::<u32>(py));
        let first = first.map(|item| number(item?)).try_collect::<Vec<_>>().await?;
        assert_eq!(first, (0..10).collect::<Vec<_>>());
        let second = second.map(number).try_collect::<Vec<_>>().await?;
        assert_eq!(second, (0..1000).collect::<Vec<_>>());
        Ok(())
    });
}

#[test]
fn the_first_exception_of_a_stream_is_its_last_item() {
    on_a_loop(async {
        let stream = Python::attach(|py| {
            let code = "async def generator():\n    yield 1\n    raise LookupError('no more')\n";
            bridge::into_stream_v1(module(py, code)?.call_method0("generator")?)
        })?;
        let items = stream.collect::<Vec<_>>().await;
        let shown = items.iter().map(|item| item.as_ref().map_or_else(ToString::to_string, ToString::to_string));
        assert_eq!(shown.collect::<Vec<_>>(), ["1", "LookupError: no more"]);
        Ok(())
    });
}

#[test]
fn a_rust_future_is_made_without_a_loop_and_runs_when_it_is_awaited() {
    python();
    Python::attach(|py| -> PyResult<()> {
        let ran = Arc::new(AtomicBool::new(false));
        let runs = Arc::clone(&ran);
        let awaitable = bridge::future_into_py(py, async move {
            runs.store(true, Ordering::SeqCst);
            Ok(())
        })?;
        assert!(!ran.load(Ordering::SeqCst));
        py.import("asyncio")?.call_method1("run", (awaitable,))?;
        assert!(ran.load(Ordering::SeqCst));
        Ok(())
    })
    .expect("asyncio.run takes it");
}

#[test]
fn a_coroutine_starts_when_its_rust_future_is_polled() {
    on_a_loop(async {
        let (future, log) = Python::attach(|py| -> PyResult<_> {
            let module = module(py, "log = []\nasync def main(): log.append('started')\n")?;
            Ok((bridge::into_future(module.call_method0("main")?)?, module.getattr("log")?.unbind()))
        })?;
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(log.to_string(), "[]");
        future.await?;
        assert_eq!(log.to_string(), "['started']");
        Ok(())
    });
}

#[test]
fn a_loop_runs_on_a_thread_of_another_runtime() {
    python();
    let theirs = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let theirs = theirs.expect("there are threads");
    let outside = theirs.handle().id();
    let inside = theirs.block_on(async {
        Python::attach(|py| {
            bridge::run(py, async {
                tokio::time::sleep(Duration::from_millis(2)).await;
                Ok::<_, PyErr>(tokio::runtime::Handle::current().id())
            })
        })
    });
    assert_ne!(inside.expect("it runs"), outside);
}

const CANCEL_IN_TIME: &str = "
import asyncio, random
import pyloop

def main(sleep):
    contexts = []

    async def race():
        task = asyncio.ensure_future(sleep(0.001))
        await asyncio.sleep(random.uniform(0.0005, 0.0025))
        task.cancel()
        await asyncio.wait([task])

    for make in [asyncio.SelectorEventLoop, pyloop.new_event_loop] * 50:
        loop = make()
        loop.set_debug(True)
        loop.set_exception_handler(lambda loop, context: contexts.append(context))
        loop.run_until_complete(race())
        loop.close()
    return contexts
";

#[test]
fn a_cancel_that_meets_the_completion_is_quiet() {
    python();
    Python::attach(|py| -> PyResult<()> {
        let contexts = module(py, CANCEL_IN_TIME)?.call_method1("main", (wrap_pyfunction!(sleep, py)?,))?;
        assert_eq!(contexts.to_string(), "[]");
        Ok(())
    })
    .expect("no race ends in an exception");
}

#[test]
fn what_is_spawned_knows_its_error_type() {
    on_a_loop(async {
        let spawned = Python::attach(|py| {
            bridge::into_future(bridge::spawn_into_py(py, async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(())
            })?)
        })?;
        assert_eq!(spawned.await?.to_string(), "None");
        Ok(())
    });
}

#[test]
fn run_knows_its_error_type() {
    python();
    Python::attach(|py| -> PyResult<()> {
        bridge::run(py, async move { Ok(()) })?;
        let event_loop = py.import("asyncio")?.call_method0("new_event_loop")?;
        bridge::run_until_complete(event_loop.clone(), async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(())
        })?;
        event_loop.call_method0("close").map(drop)
    })
    .expect("they run");
}

#[test]
fn the_runtime_is_a_reference_whose_block_on_takes_any_future() {
    python();
    let runtime: &bridge::BackgroundRuntime = bridge::get_runtime();
    assert!(std::ptr::eq(runtime, bridge::get_runtime()));
    let local = || async {
        let counted = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&counted);
        tokio::task::yield_now().await;
        // Another thread takes the GIL meanwhile.
        let woken = runtime.spawn_blocking(|| Python::attach(|py| py.version_info().major)).await;
        theirs.set(woken.expect("it does not panic"));
        tokio::time::sleep(Duration::from_millis(1)).await;
        counted.get()
    };
    assert_eq!(runtime.block_on(local()), 3);
    let (with_gil, name) = Python::attach(|py| {
        let kept = py.import("asyncio").expect("it is there");
        // Python objects that only this thread may have are there in each poll.
        runtime.block_on(async {
            let got = local().await;
            (got, kept.getattr("__name__").map(|name| name.to_string()))
        })
    });
    assert_eq!((with_gil, name.ok().as_deref()), (3, Some("asyncio")));
    assert_eq!(runtime.handle().id(), runtime.id());
}
