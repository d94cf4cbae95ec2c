//! The client's side: what each kind of load does with its connections.
//!
//! One connection makes blocking calls, which add the least to what is measured. Several take turns on one tokio
//! thread. TLS, HTTP and WebSocket have one way for both.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::LocalSet;

use crate::meter::Meter;
#[cfg(feature = "tls")]
use crate::tls;
use crate::{Outcome, http, websocket};

/// A server that does not answer for so long has lost the message.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is sent how much by how many.
pub struct Load {
    pub address: String,
    pub connections: usize,
    pub bytes: usize,
}

impl Load {
    fn message(&self) -> Vec<u8> {
        vec![b'x'; self.bytes]
    }
}

/// The meter of several connections on one thread.
pub type Shared = Rc<RefCell<Meter>>;

pub fn drive(kind: &str, load: &Load, meter: Meter) -> Outcome<Meter> {
    match (kind, load.connections) {
        ("tcp", 1) => one(tcp(load)?, load, meter),
        ("unix", 1) => one(UnixStream::connect(&load.address)?, load, meter),
        ("udp", 1) => datagrams(load, meter),
        ("connect", 1) => connections(load, meter),
        ("tcp", _) => together(meter, async |shared: &Shared| {
            let mut jobs = Vec::new();
            for _ in 0..load.connections {
                jobs.push(echo(async_tcp(&load.address).await?, load.message(), load.message(), shared.clone()));
            }
            Ok(jobs)
        }),
        #[cfg(feature = "tls")]
        ("tls", _) => together(meter, async |shared: &Shared| {
            let connector = tls::connector()?;
            let mut jobs = Vec::new();
            for _ in 0..load.connections {
                let stream = connector.connect("localhost".try_into()?, async_tcp(&load.address).await?).await?;
                jobs.push(echo(stream, load.message(), load.message(), shared.clone()));
            }
            Ok(jobs)
        }),
        ("http", _) => together(meter, async |shared: &Shared| {
            let mut jobs = Vec::new();
            for _ in 0..load.connections {
                jobs.push(http::requests(async_tcp(&load.address).await?, shared.clone()));
            }
            Ok(jobs)
        }),
        ("websocket", _) => together(meter, async |shared: &Shared| {
            let mut jobs = Vec::new();
            for _ in 0..load.connections {
                let stream = websocket::upgrade(async_tcp(&load.address).await?).await?;
                let (question, answer) = (websocket::question(load.bytes)?, websocket::answer(load.bytes)?);
                jobs.push(echo(stream, question, answer, shared.clone()));
            }
            Ok(jobs)
        }),
        _ => Err(format!("no load {kind:?} with {} connections", load.connections).into()),
    }
}

fn tcp(load: &Load) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(&load.address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

async fn async_tcp(address: &str) -> io::Result<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn one(mut stream: impl Read + Write, load: &Load, mut meter: Meter) -> Outcome<Meter> {
    let (message, mut answer) = (load.message(), load.message());
    meter.start();
    loop {
        let began = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut answer)?;
        if meter.note(began)?.is_break() {
            return Ok(meter);
        }
    }
}

fn datagrams(load: &Load, mut meter: Meter) -> Outcome<Meter> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(&load.address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (message, mut answer) = (load.message(), load.message());
    meter.start();
    loop {
        let began = Instant::now();
        socket.send(&message)?;
        if socket.recv(&mut answer)? != message.len() {
            return Err("a datagram came back short".into());
        }
        if meter.note(began)?.is_break() {
            return Ok(meter);
        }
    }
}

fn connections(load: &Load, mut meter: Meter) -> Outcome<Meter> {
    let (message, mut answer) = (load.message(), load.message());
    meter.start();
    loop {
        let began = Instant::now();
        let mut stream = tcp(load)?;
        stream.write_all(&message)?;
        stream.read_exact(&mut answer)?;
        drop(stream);
        if meter.note(began)?.is_break() {
            return Ok(meter);
        }
    }
}

/// Runs the jobs that `connect` makes, in turn on this thread.
fn together<Job>(meter: Meter, connect: impl AsyncFnOnce(&Shared) -> Outcome<Vec<Job>>) -> Outcome<Meter>
where
    Job: Future<Output = io::Result<()>> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let shared = Rc::new(RefCell::new(meter));
    LocalSet::new().block_on(&runtime, async {
        let jobs = connect(&shared).await?;
        shared.borrow_mut().start();
        let tasks: Vec<_> = jobs.into_iter().map(tokio::task::spawn_local).collect();
        for task in tasks {
            task.await??;
        }
        Outcome::Ok(())
    })?;
    let meter = Rc::into_inner(shared).ok_or("a connection outlived the load")?;
    Ok(meter.into_inner())
}

/// Sends the question and waits for the answer, again and again.
async fn echo(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    question: Vec<u8>,
    answer: Vec<u8>,
    meter: Shared,
) -> io::Result<()> {
    let mut received = vec![0; answer.len()];
    loop {
        let began = Instant::now();
        stream.write_all(&question).await?;
        stream.flush().await?;
        stream.read_exact(&mut received).await?;
        if received != answer {
            return Err(io::Error::other("something else came back"));
        }
        if let ControlFlow::Break(()) = meter.borrow_mut().note(began)? {
            return Ok(());
        }
    }
}
