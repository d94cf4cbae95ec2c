//! A Rust program on one thread: a tokio server, a Python coroutine that talks to it, and a Rust future that the
//! coroutine awaits.

use std::time::Duration;

use pyo3::ffi::c_str;
use pyo3::prelude::*;
use tokio::net::TcpListener;

// docs: main
/// For Python: a Rust future to await.
#[pyfunction]
fn nap(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok::<_, PyErr>(())
    })
}

#[pyloop::main]
async fn main() -> PyResult<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let server = tokio::task::spawn_local(async move {
        let (mut socket, _) = listener.accept().await?;
        let (mut reader, mut writer) = socket.split();
        tokio::io::copy(&mut reader, &mut writer).await
    });
    let answer = Python::attach(|py| {
        let app = PyModule::from_code(py, c_str!(include_str!("app.py")), c"app.py", c"app")?;
        pyloop::into_future(app.call_method1("ask", (port, wrap_pyfunction!(nap, py)?))?)
    })?;
    println!("{}, {} bytes", answer.await?, server.await.expect("the server does not panic")?);
    Ok(())
}
// docs: end
