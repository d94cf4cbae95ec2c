//! The same Rust futures as Python awaitables in three ways: `pyloop` (ours), `pyo3_fn` (PyO3's `async fn`) and `par`
//! (pyo3-async-runtimes).

use std::io::Result;
use std::sync::Arc;

use pyo3::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, oneshot};
use tokio::task::{JoinSet, yield_now};

fn gone<E>(_: E) -> PyErr {
    pyo3::exceptions::PyRuntimeError::new_err("the sender is gone")
}

/// A oneshot completed by a thread that waits for orders, so that no thread start is measured.
async fn completed_by_thread() -> PyResult<u32> {
    use std::sync::{LazyLock, Mutex, mpsc};
    type Order = oneshot::Sender<u32>;
    static WORKER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for order in taken {
                // Nobody waits for it any more: nothing to do.
                order.send(7).unwrap_or_default();
            }
        });
        Mutex::new(orders)
    });
    let (sender, receiver) = oneshot::channel();
    WORKER.lock().map_err(gone)?.send(sender).map_err(gone)?;
    receiver.await.map_err(gone)
}

/// So many times in a row to a thread that may block, as tokio's files do it for each of their calls.
async fn hops(n: u32) -> PyResult<u32> {
    let mut sum = 0;
    for i in 0..n {
        sum += tokio::task::spawn_blocking(move || i).await.map_err(gone)?;
    }
    Ok(sum)
}

/// A file as tokio reads it: to a thread for the opening, for the content, and for the end of it.
async fn file(path: String) -> PyResult<usize> {
    use std::io::Read;
    let mut file = tokio::task::spawn_blocking(move || std::fs::File::open(path)).await.map_err(gone)??;
    let mut content = Vec::new();
    loop {
        let mut room = vec![0; 8192];
        let reading = move || file.read(&mut room).map(|n| (file, room, n));
        let (again, room, n) = tokio::task::spawn_blocking(reading).await.map_err(gone)??;
        if n == 0 {
            return Ok(content.len());
        }
        content.extend_from_slice(&room[..n]);
        file = again;
    }
}

async fn get(client: reqwest::Client, url: String) -> PyResult<usize> {
    let body = client.get(url).send().await.map_err(gone)?.bytes().await.map_err(gone)?;
    Ok(body.len())
}

/// One HTTP client for all.
#[pyclass(frozen)]
struct Client(reqwest::Client);

#[pymethods]
impl Client {
    #[new]
    fn new() -> PyResult<Self> {
        reqwest::Client::builder().no_proxy().build().map(Self).map_err(gone)
    }

    fn get_pyloop<'py>(&self, py: Python<'py>, url: String) -> PyResult<Bound<'py, PyAny>> {
        pyloop::send_future_into_py(py, get(self.0.clone(), url))
    }

    fn get_par<'py>(&self, py: Python<'py>, url: String) -> PyResult<Bound<'py, PyAny>> {
        pyo3_async_runtimes::tokio::future_into_py(py, get(self.0.clone(), url))
    }
}

/// An echo server in a thread of its own, which never has the GIL; its port.
#[pyfunction]
fn serve() -> PyResult<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let mut stream = listener.accept().await?.0;
                stream.set_nodelay(true)?;
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    copy(&mut from, &mut to).await
                });
            }
            #[expect(unreachable_code, reason = "the type of the block")]
            Result::Ok(())
        })
    });
    Ok(port)
}

const MESSAGE: [u8; 1024] = [b'x'; 1024];

async fn connected(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn message_to_and_fro(stream: &mut TcpStream) -> Result<usize> {
    let mut answer = [0; MESSAGE.len()];
    stream.write_all(&MESSAGE).await?;
    stream.read_exact(&mut answer).await
}

/// A connection to the echo server, on the runtime of whoever makes it.
#[pyclass(frozen)]
struct Connection(Arc<Mutex<TcpStream>>);

impl Connection {
    async fn new(port: u16) -> PyResult<Self> {
        Ok(Self(Arc::new(Mutex::new(connected(port).await?))))
    }

    fn message(&self) -> impl Future<Output = PyResult<usize>> + Send + use<> {
        let stream = Arc::clone(&self.0);
        async move { Ok(message_to_and_fro(&mut *stream.lock().await).await?) }
    }
}

#[pymethods]
impl Connection {
    #[staticmethod]
    fn new_pyloop(py: Python<'_>, port: u16) -> PyResult<Bound<'_, PyAny>> {
        pyloop::future_into_py(py, Self::new(port))
    }

    #[staticmethod]
    fn new_par(py: Python<'_>, port: u16) -> PyResult<Bound<'_, PyAny>> {
        pyo3_async_runtimes::tokio::future_into_py(py, Self::new(port))
    }

    fn message_pyloop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        pyloop::future_into_py(py, self.message())
    }

    fn message_par<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        pyo3_async_runtimes::tokio::future_into_py(py, self.message())
    }
}

/// So many messages on each of so many connections, without Python.
#[pyfunction]
fn messages_in_rust(py: Python<'_>, port: u16, connections: usize, messages: usize) -> PyResult<()> {
    let client = async move {
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(async move {
                let mut stream = connected(port).await?;
                for _ in 0..messages {
                    message_to_and_fro(&mut stream).await?;
                }
                Result::Ok(())
            });
        }
        tasks.join_all().await.into_iter().collect::<Result<()>>()
    };
    // In one thread, as the loops are.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    Ok(py.detach(|| runtime.block_on(client))?)
}

#[pyfunction]
fn ready_pyloop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async { Ok::<_, PyErr>(7) })
}

#[pyfunction]
fn ready_par(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, async { Ok(7) })
}

#[pyfunction]
async fn ready_pyo3() -> u32 {
    7
}

#[pyfunction]
fn none_pyloop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async { Ok::<_, PyErr>(()) })
}

#[pyfunction]
async fn none_pyo3() {}

#[pyfunction]
fn yield_pyloop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async {
        yield_now().await;
        Ok::<_, PyErr>(())
    })
}

#[pyfunction]
fn yield_par(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, async {
        yield_now().await;
        Ok(())
    })
}

#[pyfunction]
async fn yield_pyo3() {
    yield_now().await;
}

#[pyfunction]
fn thread_pyloop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, completed_by_thread())
}

#[pyfunction]
fn thread_par(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, completed_by_thread())
}

#[pyfunction]
async fn thread_pyo3() -> PyResult<u32> {
    completed_by_thread().await
}

#[pyfunction]
fn hops_pyloop(py: Python<'_>, n: u32) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, hops(n))
}

#[pyfunction]
fn hops_spawned(py: Python<'_>, n: u32) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_into_py(py, hops(n))
}

#[pyfunction]
fn hops_par(py: Python<'_>, n: u32) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, hops(n))
}

#[pyfunction]
fn file_pyloop(py: Python<'_>, path: String) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, file(path))
}

#[pyfunction]
fn file_spawned(py: Python<'_>, path: String) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_into_py(py, file(path))
}

#[pyfunction]
fn file_par(py: Python<'_>, path: String) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, file(path))
}

#[pyfunction]
fn into_pyloop<'py>(py: Python<'py>, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    pyloop::future_into_py(py, pyloop::into_future(awaitable)?)
}

#[pyfunction]
fn into_par<'py>(py: Python<'py>, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, pyo3_async_runtimes::tokio::into_future(awaitable)?)
}

#[pymodule]
fn bridge_bench(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(
        ready_pyloop, ready_par, ready_pyo3, none_pyloop, none_pyo3, yield_pyloop, yield_par, yield_pyo3,
        thread_pyloop, thread_par, thread_pyo3, into_pyloop, into_par,
        hops_pyloop, hops_spawned, hops_par, file_pyloop, file_spawned, file_par, serve, messages_in_rust,
    );
    module.add_class::<Connection>()?;
    module.add_class::<Client>()
}
