//! The code of docs/extensions.md: the library that it builds up, and its Python programs, run on asyncio's own loop
//! and on pyloop. Here the library is part of the program; nothing in it knows.

use std::ffi::CString;
use std::fs;
use std::sync::Once;

// docs: library
use std::time::Duration;

use pyo3::prelude::*;
use tokio::{io::AsyncReadExt, net::TcpStream};

#[pymodule]
mod mylib {
    use super::*;

    /// Wait on tokio's clock, then greet.
    #[pyloop::awaitable]
    #[pyfunction]
    async fn greet(name: String) -> String {
        tokio::time::sleep(Duration::from_millis(10)).await;
        format!("hello {name}")
    }

    /// The first bytes that a server sends. An `io::Error` is raised as an OSError.
    #[pyloop::awaitable]
    #[pyfunction]
    async fn first_bytes(host: String, port: u16) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((host, port)).await?;
        let mut bytes = vec![0; 64];
        let n = stream.read(&mut bytes).await?;
        bytes.truncate(n);
        Ok(bytes)
    }
}
// docs: end

mod more {
    use std::cell::Cell;
    use std::rc::Rc;

    use futures::StreamExt;
    use pyo3::exceptions::{PyTimeoutError, PyTypeError};
    use tokio::sync::oneshot;

    use super::*;

    // docs: sleep
    /// In Python: `await mylib.sleep(1.5)`.
    #[pyloop::awaitable]
    #[pyfunction]
    pub async fn sleep(seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
    // docs: end

    // docs: later
    /// By hand: what is to be done by the call stands before the future.
    #[pyfunction]
    pub fn later(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
        if !function.bind(py).is_callable() {
            return Err(PyTypeError::new_err("a function is wanted"));
        }
        pyloop::future_into_py(py, async move {
            tokio::task::yield_now().await;
            Python::attach(|py| function.call0(py))
        })
    }
    // docs: end

    // docs: checksum
    /// Work that takes long: on a thread where it may block. The loop goes on meanwhile.
    #[pyloop::awaitable(blocking)]
    #[pyfunction]
    pub fn checksum(data: Vec<u8>) -> u32 {
        data.iter().fold(0u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte))
    }
    // docs: end

    // docs: parallel
    /// Futures that are to run beside the loop: on the background runtime.
    #[pyloop::awaitable(spawn)]
    #[pyfunction]
    pub async fn parallel(n: u32) -> u32 {
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..n {
            tasks.spawn(async move { i * i });
        }
        tasks.join_all().await.into_iter().sum()
    }
    // docs: end

    // docs: commit
    /// What must not stop half-way: cancelled, it goes on to its end and is told by its token.
    #[pyloop::awaitable(cancel = "shield")]
    #[pyfunction]
    pub async fn commit(log: Py<PyAny>, token: pyloop::CancellationToken) -> PyResult<()> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let entry = if token.is_cancelled() { "nobody waited" } else { "committed" };
        Python::attach(|py| log.call_method1(py, "append", (entry,)).map(drop))
    }
    // docs: end

    // docs: on_any_thread
    /// Made here, awaited by whichever thread: nothing in it is bound to its own.
    #[pyloop::awaitable]
    #[pyfunction]
    pub async fn on_any_thread() -> PyResult<i32> {
        let (sender, receiver) = oneshot::channel();
        std::thread::spawn(move || sender.send(42)); // wakes the loop without the GIL
        receiver.await.map_err(|_| PyTimeoutError::new_err("the thread is gone"))
    }
    // docs: end

    // docs: numbers
    /// An async iterator.
    #[pyfunction]
    pub fn numbers(py: Python<'_>, n: u32) -> PyResult<Bound<'_, PyAny>> {
        pyloop::stream_into_py(py, futures::stream::iter(0..n).map(Ok::<_, PyErr>))
    }
    // docs: end

    // docs: total
    /// Adds up what a Python async iterator gives.
    #[pyfunction]
    pub fn total<'py>(py: Python<'py>, iterator: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let mut stream = pyloop::into_stream(iterator)?;
        pyloop::future_into_py(py, async move {
            let mut sum = 0;
            while let Some(item) = stream.next().await {
                let item = item?;
                sum += Python::attach(|py| item.extract::<i64>(py))?;
            }
            Ok::<_, PyErr>(sum)
        })
    }
    // docs: end

    // docs: twice
    /// Calls a coroutine function twice, waiting at most so long for each.
    #[pyloop::awaitable]
    #[pyfunction]
    pub async fn twice(function: Py<PyAny>, seconds: f64) -> PyResult<Vec<Py<PyAny>>> {
        let mut results = Vec::new();
        for _ in 0..2 {
            let future = Python::attach(|py| pyloop::into_future(function.bind(py).call0()?))?;
            // Dropped when the time is over, which cancels the Python task.
            match tokio::time::timeout(Duration::from_secs_f64(seconds), future).await {
                Ok(result) => results.push(result?),
                Err(_) => return Err(PyTimeoutError::new_err("too slow")),
            }
        }
        Ok(results)
    }
    // docs: end

    // docs: local
    /// `Rc`, `spawn_local` and Python objects, without a lock.
    #[pyloop::awaitable]
    #[pyfunction]
    pub async fn local(list: Py<PyAny>) -> PyResult<()> {
        let count = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&count);
        let task = tokio::task::spawn_local(async move { theirs.set(theirs.get() + 1) });
        task.await.expect("it does not panic");
        Python::attach(|py| list.call_method1(py, "append", (count.get(),)).map(drop))
    }
    // docs: end

    // docs: ask
    /// Calls a Python function, plain or async, from a task of tokio's.
    #[pyloop::awaitable]
    #[pyfunction]
    pub async fn ask(handler: pyloop::Callback, question: String) -> PyResult<Py<PyAny>> {
        let asking = tokio::spawn(async move { handler.call((question,)).await });
        asking.await.expect("it does not panic")
    }
    // docs: end

    // docs: countdown
    /// A task of tokio's that calls Python: the locals say which loop and which context variables it works for.
    #[pyfunction]
    pub fn countdown(py: Python<'_>, tick: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
        let locals = pyloop::get_current_locals(py)?;
        pyloop::future_into_py(py, async move {
            let ticks = pyloop::scope(locals, async move {
                for i in (0..3).rev() {
                    Python::attach(|py| pyloop::into_future(tick.bind(py).call1((i,))?))?.await?;
                }
                Ok::<_, PyErr>(())
            });
            pyloop::tokio::get_runtime().spawn(ticks).await.expect("it does not panic")
        })
    }
    // docs: end

    // docs: nap
    /// For synchronous callers: waits with the GIL released.
    #[pyfunction]
    pub fn nap(py: Python<'_>, seconds: f64) -> PyResult<()> {
        pyloop::block_on(py, tokio::time::sleep(Duration::from_secs_f64(seconds)))
    }
    // docs: end
}

mod lines {
    // docs: lines
    use std::io;

    use pyo3::prelude::*;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
    use tokio::net::TcpStream;

    /// A connection that speaks in lines.
    #[pyclass]
    pub struct Lines(BufStream<TcpStream>);

    #[pyloop::awaitable]
    #[pymethods]
    impl Lines {
        #[staticmethod]
        async fn connect(host: String, port: u16) -> io::Result<Self> {
            Ok(Self(BufStream::new(TcpStream::connect((host, port)).await?)))
        }

        /// Sends a line, and gives the one that answers it.
        async fn ask(&mut self, line: String) -> io::Result<Option<String>> {
            self.0.write_all(format!("{line}\n").as_bytes()).await?;
            self.0.flush().await?;
            self.__anext__().await
        }

        async fn __aenter__(slf: Py<Self>) -> Py<Self> {
            slf
        }

        async fn __aexit__(&mut self, _kind: Py<PyAny>, _raised: Py<PyAny>, _traceback: Py<PyAny>) -> io::Result<()> {
            self.0.shutdown().await
        }

        fn __aiter__(slf: Py<Self>) -> Py<Self> {
            slf
        }

        /// The next line: None ends an `async for`.
        async fn __anext__(&mut self) -> io::Result<Option<String>> {
            let mut line = String::new();
            let n = self.0.read_line(&mut line).await?;
            Ok((n > 0).then(|| line.trim_end().to_owned()))
        }
    }
    // docs: end
}

mod rows {
    use pyo3::prelude::*;
    // docs: receiver
    use pyloop::prims::sync::{Item, Receiver};

    /// Python: `async for row in receiver`.
    pub fn receiver(py: Python<'_>, rows: Vec<u64>) -> PyResult<Py<Receiver>> {
        let (tx, rx) = tokio::sync::mpsc::channel::<Item>(64);
        std::thread::spawn(move || {
            for row in rows {
                if tx.blocking_send(Item::new(row)).is_err() {
                    return; // nobody reads any more
                }
            }
        });
        Py::new(py, Receiver::from_tokio(rx))
    }
    // docs: end
}

/// What the guide adds to the library.
#[pymodule]
mod added {
    #[pymodule_export]
    use super::lines::Lines;
    #[pymodule_export]
    use super::more::{
        ask, checksum, commit, countdown, later, local, nap, numbers, on_any_thread, parallel, sleep, total, twice,
    };
}

fn python() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        pyo3::append_to_inittab!(mylib);
        Python::initialize();
        Python::attach(|py| {
            pyloop::prepare(py)?;
            let added = pyo3::wrap_pymodule!(added)(py).into_bound(py);
            py.import("mylib")?.dict().call_method1("update", (added.getattr("__dict__")?,)).map(drop)
        })
        .expect("no other copy is imported");
    });
}

#[test]
fn the_rows_of_a_rust_thread_are_read_by_python() {
    python();
    let sum = Python::attach(|py| -> PyResult<u64> {
        let code = c"import asyncio\nasync def total(rows): return sum([row async for row in rows])\ndef run(rows): \
                     return asyncio.run(total(rows))\n";
        let module = PyModule::from_code(py, code, c"rows.py", c"rows")?;
        module.call_method1("run", (rows::receiver(py, (0..1000).collect())?,))?.extract()
    });
    assert_eq!(sum.expect("it runs"), 499_500);
}

/// (line, code) of each Python block that uses the library.
fn programs(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line == "```python" {
            let code = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let code = code.collect::<Vec<_>>();
            if code.contains(&"import mylib") {
                found.push((number + 1, code.join("\n") + "\n"));
            }
        }
    }
    found
}

#[test]
fn the_programs_of_the_guide_run_on_every_loop() {
    python();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/extensions.md");
    let text = fs::read_to_string(page).expect("the guide is there");
    let programs = programs(&text);
    assert!(programs.len() > 5, "{} programs", programs.len());
    Python::attach(|py| {
        let asyncio = py.import("asyncio")?;
        let factories = [asyncio.getattr("SelectorEventLoop")?, py.import("pyloop")?.getattr("new_event_loop")?];
        let run = asyncio.getattr("run")?;
        for factory in factories {
            // What `asyncio.run` of the programs makes.
            let keywords = pyo3::types::PyDict::new(py);
            keywords.set_item("loop_factory", &factory)?;
            let partial = py.import("functools")?.call_method("partial", (&run,), Some(&keywords))?;
            asyncio.setattr("run", partial)?;
            for (line, code) in &programs {
                let code = CString::new("\n".repeat(*line) + code)?;
                let file = CString::new(page)?;
                PyModule::from_code(py, &code, &file, c"__main__")?;
            }
        }
        asyncio.setattr("run", run)
    })
    .unwrap_or_else(|raised| {
        Python::attach(|py| {
            raised.print(py);
            panic!("a program of the guide failed")
        })
    });
}
