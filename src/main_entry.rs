//! What `#[pyloop::main]` makes of an async main.

use std::future::Future;
use std::process::ExitCode;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

use crate::bridge::run;

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
        self.map_err(Into::into)
    }
}

/// What `#[pyloop::main]` calls: start Python, run `main` on a new event loop, report its error.
pub fn run_main<M, F>(main: M) -> ExitCode
where
    M: FnOnce() -> F,
    F: Future<Output: MainResult> + 'static,
{
    Python::initialize();
    Python::attach(|py| {
        let main = main();
        #[cfg(feature = "loop")]
        let prepared = crate::embed::prepare(py);
        #[cfg(not(feature = "loop"))]
        let prepared = Ok(());
        let ended = prepared.and_then(|()| run(py, async { main.await.into_result() }));
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(raised) if raised.is_instance_of::<PySystemExit>(py) => {
                let code = raised.value(py).getattr("code").and_then(|code| code.extract::<Option<u8>>());
                code.map_or(ExitCode::FAILURE, |code| code.map_or(ExitCode::SUCCESS, ExitCode::from))
            }
            Err(raised) => {
                raised.print_and_set_sys_last_vars(py);
                ExitCode::FAILURE
            }
        }
    })
}
