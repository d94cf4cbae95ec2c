//! `pyloop.fs.File`: an open binary file, read with a buffer ahead, written without one.
//!
//! An operation has the file to itself (an async mutex); others wait behind it, in order. What was read belongs to the
//! file until an operation gives it out, so a cancelled read loses nothing: the next one begins where it began. A
//! write that the pool has begun goes on when its task is cancelled, and the next operation waits for it.

use std::io::{self, SeekFrom};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyOSError, PyResourceWarning, PyStopAsyncIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime;
use tokio::sync::{Mutex, MutexGuard};

use super::mode::Mode;
use super::path::Data;
use super::pool::{copied, on_pool};
use super::stat::stat_result;
use crate::bridge::RustFuture;
use crate::py::call::Object;
use crate::py::error;
use crate::sched::virtual_time::Held;

/// A thread of the pool stays for twice as long when it has nothing to do (tokio's default).
const THREADS_STAY: Duration = Duration::from_secs(5);

/// The least that is read from the file at a time.
const AHEAD: usize = 64 * 1024;
/// The most that one trip to the pool reads or writes (tokio's own limit).
const MOST: usize = 2 * 1024 * 1024;

/// Why an operation failed; made without the GIL.
enum Fault {
    Io(io::Error),
    Closed,
    NotFor(&'static str),
}

impl From<io::ErrorKind> for Fault {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Io(kind.into())
    }
}

impl From<io::Error> for Fault {
    fn from(failed: io::Error) -> Self {
        Self::Io(failed)
    }
}

impl Fault {
    fn raised(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Io(failed) => error::os_error(&failed),
            Self::Closed => PyValueError::new_err("I/O operation on closed file."),
            Self::NotFor(what) => {
                match py.import("io").and_then(|io| io.try_getattr("UnsupportedOperation")?.try_call((what,))) {
                    Ok(exception) => PyErr::from_value(exception),
                    Err(raised) => raised,
                }
            }
        }
    }
}

struct Stream {
    file: tokio::fs::File,
    /// Read and not given out: `ahead[given..]`.
    ahead: Vec<u8>,
    given: usize,
    /// Whose pool was last asked for something of it, and when.
    asked: Option<(runtime::Id, Instant)>,
}

impl Stream {
    fn rest(&self) -> &[u8] {
        &self.ahead[self.given..]
    }

    /// Read more, so that about `wanted` bytes are there; how many came, 0 at the end of the file.
    async fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        if self.given == self.ahead.len() {
            self.ahead.clear();
            self.given = 0;
        }
        let more = wanted.saturating_sub(self.rest().len()).clamp(AHEAD, MOST);
        self.ahead.try_reserve(more).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // What has come is in `ahead` or in tokio's buffer, whatever becomes of this future.
        self.file.read_buf(&mut self.ahead).await
    }

    /// Have `wanted` bytes there, or all up to the end of the file.
    async fn have(&mut self, wanted: usize) -> io::Result<usize> {
        while self.rest().len() < wanted {
            if self.fill(wanted).await? == 0 {
                break;
            }
        }
        Ok(self.rest().len().min(wanted))
    }

    /// Have a line there; its length, 0 at the end of the file.
    async fn have_line(&mut self) -> io::Result<usize> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.rest()[seen..].iter().position(|byte| *byte == b'\n') {
                return Ok(seen + at + 1);
            }
            seen = self.rest().len();
            if self.fill(seen + AHEAD).await? == 0 {
                return Ok(seen);
            }
        }
    }

    /// Give `count` bytes out.
    fn give<R>(&mut self, count: usize, to: impl FnOnce(&[u8]) -> R) -> R {
        let given = to(&self.ahead[self.given..self.given + count]);
        self.given += count;
        if self.given == self.ahead.len() && self.ahead.capacity() > 2 * AHEAD {
            (self.ahead, self.given) = (Vec::new(), 0);
        }
        given
    }

    /// Put the file's own position where the reader is: before anything but a read.
    async fn settle(&mut self) -> io::Result<()> {
        let ahead = self.rest().len() as i64;
        if ahead != 0 {
            self.file.seek(SeekFrom::Current(-ahead)).await?;
        }
        self.ahead.clear();
        self.given = 0;
        Ok(())
    }

    async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.settle().await?;
        self.file.write_all(data).await?;
        // The write is done when this returns, and its error is this one's.
        self.file.flush().await
    }

    async fn position(&mut self) -> io::Result<u64> {
        Ok(self.file.stream_position().await?.saturating_sub(self.rest().len() as u64))
    }
}

struct Open {
    stream: Mutex<Option<Stream>>,
    closed: AtomicBool,
    fd: RawFd,
    name: Py<PyAny>,
    mode: Mode,
}

impl Open {
    async fn stream(&self, allowed: bool, what: &'static str) -> Result<MutexGuard<'_, Option<Stream>>, Fault> {
        let mut slot = self.stream.lock().await;
        let Some(stream) = &mut *slot else { return Err(Fault::Closed) };
        if !allowed {
            return Err(Fault::NotFor(what));
        }
        // tokio's file cannot be used any more when there is no thread for what it has begun: have one.
        let pool = runtime::Handle::current().id();
        if !stream.asked.is_some_and(|(known, at)| known == pool && at.elapsed() < THREADS_STAY) {
            on_pool(|| Ok(())).await?;
        }
        stream.asked = Some((pool, Instant::now()));
        Ok(slot)
    }

    async fn reads(&self) -> Result<MutexGuard<'_, Option<Stream>>, Fault> {
        self.stream(self.mode.reads, "File not open for reading").await
    }

    async fn writes(&self) -> Result<MutexGuard<'_, Option<Stream>>, Fault> {
        self.stream(self.mode.writes, "File not open for writing").await
    }

    async fn any(&self) -> Result<MutexGuard<'_, Option<Stream>>, Fault> {
        self.stream(true, "").await
    }

    fn describe(&self, py: Python<'_>) -> String {
        let name = self.name.bind(py).try_repr().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        let closed = if self.closed.load(Ordering::SeqCst) { " closed" } else { "" };
        format!("<pyloop.fs.File name={name} mode='{}'{closed}>", self.mode.text)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.stream.get_mut().is_none() {
            return;
        }
        // As io's files: closed all the same, here and now.
        Python::try_attach(|py| {
            let _preserved = error::PreserveError::new(py);
            let text = std::ffi::CString::new(format!("unclosed file {}", self.describe(py))).unwrap_or_default();
            if let Err(raised) = error::warn(&py.get_type::<PyResourceWarning>(), &text) {
                error::unraisable(py, raised, None);
            }
        });
    }
}

/// The stream of a file that has one: `reads`, `writes` and `any` have looked.
fn there<'a>(stream: &'a mut MutexGuard<'_, Option<Stream>>) -> Result<&'a mut Stream, Fault> {
    stream.as_mut().ok_or(Fault::Closed)
}

/// Close it and say what the system says of it, which std's `File` does not tell.
fn close(file: std::fs::File) -> io::Result<()> {
    // SAFETY: the descriptor was the file's, which gives it up.
    if unsafe { libc::close(file.into_raw_fd()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An operation whose answer is made with the GIL.
fn operation<T: Send>(
    name: &'static str,
    call: impl Future<Output = Result<T, Fault>> + Send + 'static,
    answer: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
) -> RustFuture {
    RustFuture::new(name, async move {
        let _held = Held::here();
        let called = call.await;
        Python::attach(|py| match called {
            Ok(value) => answer(py, value),
            Err(fault) => Err(fault.raised(py)),
        })
    })
}

/// Give so many bytes out, if Python has the memory for them.
fn bytes(stream: &mut Stream, count: usize) -> Result<Py<PyBytes>, Fault> {
    Python::attach(|py| {
        let copied = copied(py, &stream.rest()[..count]).map_err(|_| io::ErrorKind::OutOfMemory)?;
        stream.give(count, |_| ());
        Ok(copied.unbind())
    })
}

#[expect(clippy::unnecessary_wraps, reason = "an `answer` of `operation`")]
fn nothing(py: Python<'_>, (): ()) -> PyResult<Py<PyAny>> {
    Ok(py.None())
}

#[expect(clippy::unnecessary_wraps, reason = "as `nothing`")]
fn number(py: Python<'_>, count: u64) -> PyResult<Py<PyAny>> {
    Ok(PyInt::new(py, count).into_any().unbind())
}

/// An open file. Each operation is a Rust future; several at once are done in the order of their first polls.
#[pyclass(frozen, weakref, module = "pyloop.fs")]
pub struct File(Arc<Open>);

impl File {
    pub(super) fn new(file: std::fs::File, name: Py<PyAny>, mode: Mode) -> Self {
        let fd = file.as_raw_fd();
        let stream = Stream { file: tokio::fs::File::from_std(file), ahead: Vec::new(), given: 0, asked: None };
        Self(Arc::new(Open { stream: Mutex::new(Some(stream)), closed: AtomicBool::new(false), fd, name, mode }))
    }
}

#[pymethods]
impl File {
    /// Read `size` bytes, fewer only at the end of the file; all that are left when it is negative. Cancelled: nothing
    /// was read.
    #[pyo3(signature = (size = -1, /), text_signature = "($self, size=-1, /)")]
    fn read(&self, size: i64) -> RustFuture {
        let open = Arc::clone(&self.0);
        let call = async move {
            let mut stream = open.reads().await?;
            let stream = there(&mut stream)?;
            let count = stream.have(usize::try_from(size).unwrap_or(usize::MAX)).await?;
            bytes(stream, count)
        };
        operation("read", call, |_, data| Ok(data.into_any()))
    }

    /// Read into a writable buffer of bytes, and say how many came: as many as fit, fewer only at the end of the file.
    #[pyo3(signature = (buffer, /))]
    fn readinto(&self, buffer: PyBuffer<u8>) -> PyResult<RustFuture> {
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("a writable, contiguous buffer of bytes is needed"));
        }
        let open = Arc::clone(&self.0);
        let call = async move {
            let mut stream = open.reads().await?;
            let stream = there(&mut stream)?;
            let count = stream.have(buffer.len_bytes()).await?;
            Python::attach(|_| {
                stream.give(count, |data| {
                    // SAFETY: the buffer is writable and contiguous (asked above), stays exported while `buffer` lives,
                    // has room for `count` bytes (`have` gives no more than asked for), and the GIL is held: nobody
                    // writes to it meanwhile. Byte by byte it cannot overlap `ahead`, which is ours.
                    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), buffer.buf_ptr().cast(), data.len()) }
                });
            });
            Ok(count as u64)
        };
        Ok(operation("readinto", call, number))
    }

    /// Read a line with its b"\n"; what is left at the end of the file, then b"".
    fn readline(&self) -> RustFuture {
        let open = Arc::clone(&self.0);
        let call = async move {
            let mut stream = open.reads().await?;
            let stream = there(&mut stream)?;
            let count = stream.have_line().await?;
            bytes(stream, count)
        };
        operation("readline", call, |_, line| Ok(line.into_any()))
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(&self) -> RustFuture {
        let open = Arc::clone(&self.0);
        let call = async move {
            let mut stream = open.reads().await?;
            let stream = there(&mut stream)?;
            let count = stream.have_line().await?;
            (count > 0).then(|| bytes(stream, count)).transpose()
        };
        operation("__anext__", call, |_, line| match line {
            Some(line) => Ok(line.into_any()),
            None => Err(PyStopAsyncIteration::new_err(())),
        })
    }

    /// Write all of the bytes, and say how many. Each call is a trip to the pool: join small pieces.
    ///
    /// Cancelled: a prefix of them is written, in steps of 2 MiB: none, if this had not begun; all, if it had and they
    /// are no more than that. The next operation waits until that is done, and raises its error.
    #[pyo3(signature = (data, /))]
    fn write(&self, data: Data) -> RustFuture {
        let open = Arc::clone(&self.0);
        let call = async move {
            let mut stream = open.writes().await?;
            there(&mut stream)?.write(data.as_ref()).await?;
            Ok(data.as_ref().len() as u64)
        };
        operation("write", call, number)
    }

    /// Go to a position, and say which: from the beginning (`whence` 0), from here (1), from the end (2).
    #[pyo3(signature = (offset, whence = 0, /))]
    fn seek(&self, offset: i64, whence: i32) -> PyResult<RustFuture> {
        let target = match whence {
            0 => SeekFrom::Start(
                u64::try_from(offset).map_err(|_| PyOSError::new_err((libc::EINVAL, "Invalid argument")))?,
            ),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            _ => return Err(PyValueError::new_err(format!("invalid whence ({whence}, should be 0, 1 or 2)"))),
        };
        let open = Arc::clone(&self.0);
        let call = async move {
            let mut stream = open.any().await?;
            let stream = there(&mut stream)?;
            stream.settle().await?;
            Ok(stream.file.seek(target).await?)
        };
        Ok(operation("seek", call, number))
    }

    /// The position.
    fn tell(&self) -> RustFuture {
        let open = Arc::clone(&self.0);
        operation("tell", async move { Ok(there(&mut open.any().await?)?.position().await?) }, number)
    }

    /// Wait until a write that was cancelled has ended, and raise its error. A write that was awaited needs no flush.
    fn flush(&self) -> RustFuture {
        let open = Arc::clone(&self.0);
        operation("flush", async move { Ok(there(&mut open.any().await?)?.file.flush().await?) }, nothing)
    }

    /// `os.fsync`: data and metadata are on the disk.
    fn sync_all(&self) -> RustFuture {
        let open = Arc::clone(&self.0);
        operation("sync_all", async move { Ok(there(&mut open.any().await?)?.file.sync_all().await?) }, nothing)
    }

    /// `os.fdatasync`: the data are on the disk.
    fn sync_data(&self) -> RustFuture {
        let open = Arc::clone(&self.0);
        operation("sync_data", async move { Ok(there(&mut open.any().await?)?.file.sync_data().await?) }, nothing)
    }

    /// Make the file `size` bytes long: cut, or filled with zeros. The position stays.
    #[pyo3(signature = (size, /))]
    fn set_len(&self, size: i64) -> PyResult<RustFuture> {
        let size = u64::try_from(size).map_err(|_| PyOSError::new_err((libc::EINVAL, "Invalid argument")))?;
        let open = Arc::clone(&self.0);
        let call = async move {
            let mut stream = open.writes().await?;
            let stream = there(&mut stream)?;
            stream.settle().await?;
            Ok(stream.file.set_len(size).await?)
        };
        Ok(operation("set_len", call, nothing))
    }

    /// `os.fstat`.
    fn metadata(&self) -> RustFuture {
        let open = Arc::clone(&self.0);
        let call = async move { Ok(there(&mut open.any().await?)?.file.metadata().await?) };
        operation("metadata", call, |py, found| stat_result(py, &found))
    }

    /// Close the file, after what it is doing. A second time does nothing.
    pub(super) fn close(&self) -> RustFuture {
        let open = Arc::clone(&self.0);
        let call = async move {
            let mut slot = match open.any().await {
                Ok(slot) => slot,
                Err(Fault::Closed) => return Ok(()),
                Err(fault) => return Err(fault),
            };
            let Some(stream) = slot.as_mut() else { return Ok(()) };
            let flushed = stream.file.flush().await;
            open.closed.store(true, Ordering::SeqCst);
            let mut closed = Ok(());
            if let Some(stream) = slot.take() {
                let file = stream.file.into_std().await;
                closed = on_pool(move || close(file)).await;
            }
            // The first error is what went wrong.
            Ok(flushed.and(closed)?)
        };
        operation("close", call, nothing)
    }

    /// Its path, as given to `open`.
    #[getter]
    fn name(&self, py: Python<'_>) -> Py<PyAny> {
        self.0.name.clone_ref(py)
    }

    /// What it is open for, as io says it: 'rb', 'rb+', …
    #[getter]
    fn mode(&self) -> &'static str {
        self.0.mode.text
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.closed.load(Ordering::SeqCst)
    }

    /// The descriptor, which remains the file's. Raises ValueError when it is closed.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        if self.closed() { Err(Fault::Closed.raised(py)) } else { Ok(self.0.fd) }
    }

    fn __aenter__(slf: Bound<'_, Self>) -> RustFuture {
        let file = slf.unbind();
        RustFuture::new("__aenter__", async move { Ok(file.into_any()) })
    }

    #[pyo3(signature = (*_args))]
    fn __aexit__(&self, _args: &Bound<'_, PyAny>) -> RustFuture {
        self.close()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.0.describe(py)
    }
}
