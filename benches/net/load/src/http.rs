//! HTTP/1.1 requests on one connection that stays: the next is sent when the answer is there to its last byte.

use std::io;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::drive::Shared;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: net-load\r\n\r\n";
const MOST: usize = 64 * 1024;

pub async fn requests(mut stream: TcpStream, meter: Shared) -> io::Result<()> {
    let mut buffer = vec![0; MOST];
    loop {
        let began = Instant::now();
        stream.write_all(REQUEST).await?;
        let (mut filled, mut whole) = (0, None);
        while whole.is_none_or(|whole| filled < whole) {
            match stream.read(&mut buffer[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => filled += more,
            }
            whole = match whole {
                None => length(&buffer[..filled])?,
                known => known,
            };
        }
        if meter.borrow_mut().note(began)?.is_break() {
            return Ok(());
        }
    }
}

/// How long the answer is with its head, once the head is there.
fn length(received: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &received[..end];
    if !head.starts_with(b"HTTP/1.1 200") {
        return Err(io::Error::other(String::from_utf8_lossy(head)));
    }
    let body = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = str::from_utf8(line).ok()?.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let body = body.ok_or_else(|| io::Error::other("an answer without its length"))?;
    Ok(Some(end + 4 + body))
}
