//! What `#[pyloop::main]` makes of an async main: a program that starts and ends as `python` does.

use std::future::Future;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::panic::PanicException;
use pyo3::prelude::*;

use crate::bridge::run;
use crate::py::call::Object;
use crate::py::error;

/// What a main may return: nothing, or a result.
pub trait MainResult: 'static {
    /// As a result.
    ///
    /// # Errors
    /// The main's own.
    fn into_result(self) -> PyResult<()>;
}

impl MainResult for () {
    fn into_result(self) -> PyResult<()> {
        Ok(())
    }
}

impl<E: Into<PyErr> + 'static> MainResult for Result<(), E> {
    fn into_result(self) -> PyResult<()> {
        self.map_err(error::into_error)
    }
}

/// How the program ends.
enum End {
    Exit(u8),
    /// By the signal that Ctrl-C sends, as `python` does, so that a shell stops its script, too.
    Interrupted,
    /// By a panic of its main, as any Rust program.
    Panicked(String),
}

/// What `#[pyloop::main]` calls: start Python, run `main` on a new event loop, report its error, stop Python.
///
/// # Panics
/// When it was called before, or Python runs in this process already; with the panic of `main`.
pub fn run_main<M, F>(main: M) -> ExitCode
where
    M: FnOnce() -> F,
    F: Future<Output: MainResult> + 'static,
{
    static CALLED: AtomicBool = AtomicBool::new(false);
    assert!(!CALLED.swap(true, Ordering::SeqCst), "a program has one Python, which runs once");
    // SAFETY: Python does not run yet, which PyO3 makes sure of, and has not run before: this is called once. After it
    // `Python::attach` panics on any thread. What is left of an event loop by then was made to outlive the interpreter,
    // as it does in a `python` process.
    let end = unsafe {
        pyo3::with_embedded_python_interpreter(|py| {
            let ended = prepare(py).and_then(|()| {
                let main = main();
                run(py, async { main.await.into_result() })
            });
            ended.map_or_else(|raised| report(py, raised), |()| End::Exit(0))
        })
    };
    match end {
        End::Exit(code) => ExitCode::from(code),
        End::Interrupted => {
            // SAFETY: the default action is no function that could break the rules of signal handlers; the signal goes
            // to this process alone.
            unsafe {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                libc::kill(libc::getpid(), libc::SIGINT);
            }
            ExitCode::from(128 + 2)
        }
        // It has been printed where it happened.
        End::Panicked(message) => std::panic::resume_unwind(Box::new(message)),
    }
}

fn prepare(py: Python<'_>) -> PyResult<()> {
    let arguments = std::env::args_os().collect::<Vec<_>>();
    py.import("sys")?.try_setattr("argv", arguments)?;
    // An embedded Python leaves SIGINT alone; asyncio replaces this handler by one that cancels the main task.
    let signal = py.import("signal")?;
    let sigint = signal.try_getattr("SIGINT")?;
    if signal.try_call_method("getsignal", (&sigint,))?.try_eq(&signal.try_getattr("SIG_DFL")?)? {
        signal.try_call_method("signal", (sigint, signal.try_getattr("default_int_handler")?))?;
    }
    #[cfg(feature = "loop")]
    crate::embed::prepare(py)?;
    Ok(())
}

/// The way an exception that nobody caught ends `python`.
fn report(py: Python<'_>, raised: PyErr) -> End {
    if raised.is_instance_of::<PySystemExit>(py) {
        return End::Exit(exit_code(&raised, py).unwrap_or(1));
    }
    let end = if raised.is_instance_of::<PyKeyboardInterrupt>(py) {
        End::Interrupted
    } else if raised.is_instance_of::<PanicException>(py) {
        End::Panicked(raised.value(py).try_str().map_or_else(|_| String::new(), |message| message.to_string()))
    } else {
        End::Exit(1)
    };
    raised.print_and_set_sys_last_vars(py);
    end
}

fn exit_code(raised: &PyErr, py: Python<'_>) -> PyResult<u8> {
    let code = raised.value(py).try_getattr("code")?;
    if code.is_none() {
        return Ok(0);
    }
    if let Ok(code) = code.extract::<i64>() {
        // The system takes the low byte.
        return Ok((code & 0xff) as u8);
    }
    let stderr = py.import("sys")?.try_getattr("stderr")?;
    stderr.try_call_method("write", (format!("{}\n", code.try_str()?),))?;
    Ok(1)
}
