//! How a program ends, and what its exit code is: `ends ok`, `ends error`, `ends exit 3`, `ends wait` (for Ctrl-C) ...

use pyo3::exceptions::{PySystemExit, PyValueError};
use pyo3::ffi::c_str;
use pyo3::prelude::*;
use tokio::runtime::Handle;

/// Tells that its future was dropped, and where.
struct Noisy;

impl Drop for Noisy {
    fn drop(&mut self) {
        println!("dropped");
    }
}

/// The runtime that a future meets that Python awaits.
#[pyfunction]
fn runtime_id(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async {
        tokio::task::yield_now().await;
        Ok::<_, PyErr>(Handle::current().id().to_string())
    })
}

/// One Rust main, all of whose futures live on the runtime that the loop is.
async fn check_runtime() -> PyResult<()> {
    let here = Handle::current().id().to_string();
    let local = tokio::task::spawn_local(async { Handle::current().id().to_string() });
    let awaited = Python::attach(|py| {
        let code = c_str!("async def main(runtime_id): return await runtime_id()\n");
        let module = PyModule::from_code(py, code, c"main.py", c"main")?;
        pyloop::into_future(module.call_method1("main", (wrap_pyfunction!(runtime_id, py)?,))?)
    })?;
    let awaited = awaited.await?.to_string();
    let local = local.await.map_err(|failed| PyValueError::new_err(failed.to_string()))?;
    println!("one runtime: {}", here == local && here == awaited);
    Ok(())
}

#[pyloop::main]
async fn main() -> PyResult<()> {
    let mut words = std::env::args().skip(1);
    let _noisy = Noisy;
    match (words.next().as_deref(), words.next()) {
        (Some("ok"), _) => check_runtime().await,
        (Some("print"), _) => Python::attach(|py| {
            let code = c"import atexit, sys; atexit.register(print, 'at exit'); print(sys.argv[1:])";
            py.run(code, None, None)
        }),
        (Some("error"), _) => Err(PyValueError::new_err("no good")),
        (Some("exit"), None) => Err(PySystemExit::new_err(())),
        (Some("exit"), Some(code)) => match code.parse::<i64>() {
            Ok(code) => Err(PySystemExit::new_err(code)),
            Err(_) => Err(PySystemExit::new_err(code)),
        },
        (Some("panic"), _) => panic!("no good"),
        _ => {
            check_runtime().await?;
            println!("ready");
            std::future::pending().await
        }
    }
}
