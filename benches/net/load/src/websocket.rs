//! WebSocket messages (RFC 6455) on one connection: each comes back before the next is sent.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

const FINAL_BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;
const LENGTH_IN_TWO_BYTES: u8 = 126;
const MASK: [u8; 4] = [1, 2, 3, 4];

/// Have the server speak WebSocket from here on.
pub async fn upgrade(mut stream: TcpStream) -> io::Result<TcpStream> {
    stream.write_all(UPGRADE).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if head.starts_with(b"HTTP/1.1 101") { Ok(stream) } else { Err(io::Error::other(String::from_utf8_lossy(&head))) }
}

/// A message of so many bytes (126 to 65535), as a client sends it.
pub fn question(bytes: usize) -> io::Result<Vec<u8>> {
    let mut frame = head(bytes, MASKED)?;
    frame.extend(MASK);
    frame.extend((0..bytes).map(|place| b'x' ^ MASK[place % MASK.len()]));
    Ok(frame)
}

/// The same, as it comes back.
pub fn answer(bytes: usize) -> io::Result<Vec<u8>> {
    let mut frame = head(bytes, 0)?;
    frame.resize(frame.len() + bytes, b'x');
    Ok(frame)
}

fn head(bytes: usize, masked: u8) -> io::Result<Vec<u8>> {
    let length = u16::try_from(bytes).ok().filter(|length| *length >= u16::from(LENGTH_IN_TWO_BYTES));
    let length = length.ok_or_else(|| io::Error::other("a message of a length that has no frame here"))?;
    let [high, low] = length.to_be_bytes();
    Ok(vec![FINAL_BINARY, masked | LENGTH_IN_TWO_BYTES, high, low])
}
