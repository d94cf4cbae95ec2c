//! A client of Redis for Python: async methods, a context manager, an async iterator, an exception of its own.

use std::io;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

pyo3::create_exception!(myredis, RedisError, PyException, "What Redis has refused, in its words.");

/// What the network gives, and in it what Redis does.
type Answer<T> = io::Result<Result<T, String>>;

fn settled<T>(answer: Answer<T>) -> PyResult<T> {
    answer.map_err(pyloop::io_error)?.map_err(RedisError::new_err)
}

/// What Redis answers: `str`, `int`, `bytes` or None, a list.
#[derive(IntoPyObject)]
enum Reply {
    Status(String),
    Integer(i64),
    Bytes(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

struct Link {
    stream: BufReader<TcpStream>,
    /// A command waits for its reply. It stays so when the command is cancelled: the next reply is then nobody's.
    midway: bool,
}

impl Link {
    async fn open(host: &str, port: u16) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(TcpStream::connect((host, port)).await?), midway: false })
    }

    async fn command(&mut self, words: &[impl AsRef<[u8]>]) -> Answer<Reply> {
        if std::mem::replace(&mut self.midway, true) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a command was cancelled midway"));
        }
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            request.extend([format!("${}\r\n", word.len()).as_bytes(), word, b"\r\n"].concat());
        }
        self.stream.write_all(&request).await?;
        let reply = self.reply().await?;
        self.midway = false;
        Ok(reply)
    }

    async fn reply(&mut self) -> Answer<Reply> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        let (kind, rest) = line.trim_end().split_at_checked(1).ok_or(io::ErrorKind::UnexpectedEof)?;
        let number = || rest.parse::<u64>().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        let reply = match kind {
            "+" => Reply::Status(rest.to_owned()),
            "-" => return Ok(Err(rest.to_owned())),
            ":" => Reply::Integer(rest.parse().map_err(|_| io::ErrorKind::InvalidData)?),
            "$" if rest == "-1" => Reply::Bytes(None),
            "$" => {
                let (size, mut bytes) = (number()?, Vec::new());
                (&mut self.stream).take(size).read_to_end(&mut bytes).await?;
                self.stream.read_exact(&mut [0; 2]).await?;
                Reply::Bytes(Some(bytes))
            }
            "*" => {
                let mut items = Vec::new();
                for _ in 0..number()? {
                    items.push(Box::pin(self.reply()).await?);
                }
                return Ok(items.into_iter().collect::<Result<_, _>>().map(Reply::Array));
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Ok(reply))
    }
}

/// A connection to Redis. Several tasks may use it: each waits for its turn.
#[pyclass(frozen)]
struct Client {
    host: String,
    port: u16,
    link: Mutex<Link>,
}

#[pyloop::awaitable]
#[pymethods]
impl Client {
    /// Connect to a server.
    #[staticmethod]
    async fn connect(host: String, port: u16) -> io::Result<Self> {
        let link = Link::open(&host, port).await?;
        Ok(Self { host, port, link: Mutex::new(link) })
    }

    /// Send a command, and give its reply.
    #[pyo3(signature = (*words))]
    async fn execute(&self, words: Vec<PyBackedBytes>) -> PyResult<Reply> {
        settled(self.link.lock().await.command(&words).await)
    }

    /// The messages of a channel, on a connection of their own.
    async fn subscribe(&self, channel: String) -> PyResult<Subscription> {
        let mut link = Link::open(&self.host, self.port).await.map_err(pyloop::io_error)?;
        settled(link.command(&["SUBSCRIBE", &channel]).await)?;
        Ok(Subscription(link))
    }

    async fn __aenter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    async fn __aexit__(&self, _kind: Py<PyAny>, _raised: Py<PyAny>, _traceback: Py<PyAny>) -> io::Result<()> {
        self.link.lock().await.stream.shutdown().await
    }
}

/// The messages of a channel, from now on.
#[pyclass]
struct Subscription(Link);

#[pyloop::awaitable]
#[pymethods]
impl Subscription {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// The next message.
    async fn __anext__(&mut self) -> PyResult<Option<Vec<u8>>> {
        // `message`, the channel, the message.
        let Reply::Array(mut items) = settled(self.0.reply().await)? else { return Ok(None) };
        let Some(Reply::Bytes(message)) = items.pop() else { return Ok(None) };
        Ok(message)
    }
}

#[pymodule]
mod myredis {
    #[pymodule_export]
    use super::{Client, RedisError, Subscription};
}
