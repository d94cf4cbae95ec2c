//! Echo servers of tokio alone, on one thread: what the same work costs without Python.

use std::net::Ipv4Addr;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::task::{LocalSet, spawn_local};

use crate::Outcome;
#[cfg(feature = "tls")]
use crate::tls;

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const CHUNK: usize = 64 * 1024;

/// Prints the address of a server of this kind, and serves until the process is killed.
pub fn serve(
    kind: &str,
    folder: &Path,
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "only TLS has a key"))] pem: &Path,
) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
        match kind {
            "protocol" => {
                let listener = TcpListener::bind(ANY_PORT).await?;
                println!("{}", listener.local_addr()?);
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    spawn_local(echo(stream));
                }
            }
            #[cfg(feature = "tls")]
            "tls" => {
                let (listener, acceptor) = (TcpListener::bind(ANY_PORT).await?, tls::acceptor(pem)?);
                println!("{}", listener.local_addr()?);
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    let acceptor = acceptor.clone();
                    spawn_local(async move {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            echo(stream).await;
                        }
                    });
                }
            }
            "unix" => {
                let path = folder.join("tokio.sock");
                let listener = UnixListener::bind(&path)?;
                println!("{}", path.display());
                loop {
                    let (stream, _) = listener.accept().await?;
                    spawn_local(echo(stream));
                }
            }
            "udp" => {
                let socket = UdpSocket::bind(ANY_PORT).await?;
                println!("{}", socket.local_addr()?);
                let mut buffer = vec![0; CHUNK];
                loop {
                    let (length, peer) = socket.recv_from(&mut buffer).await?;
                    socket.send_to(&buffer[..length], peer).await?;
                }
            }
            _ => Err(format!("no server {kind:?}").into()),
        }
    })
}

/// Until the peer closes or resets: an error here is one that the load has seen too.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = Vec::with_capacity(CHUNK);
    while matches!(stream.read_buf(&mut buffer).await, Ok(length) if length > 0) {
        if stream.write_all(&buffer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        buffer.clear();
    }
}
