//! The load of benches/net, and servers without Python to measure beside it. One thread in either case.
//!
//! ```text
//! net-load drive KIND ADDRESS CONNECTIONS BYTES SECONDS PID    one line of JSON at the end
//! net-load serve KIND FOLDER PEM                               its address first, then it serves until it is killed
//! ```
//!
//! `drive` is a closed loop: each connection sends a message and waits until all of it is back. KIND is `tcp`, `tls`,
//! `unix`, `udp`, `connect` (a new TCP connection for each message), `http` or `websocket`; PID is the server's
//! process.

mod clock;
mod drive;
mod http;
mod meter;
mod serve;
#[cfg(feature = "tls")]
mod tls;
mod websocket;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use crate::clock::ProcessClock;
use crate::drive::Load;
use crate::meter::Meter;

/// What ends the program: its words are for the person who reads them.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("net-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Outcome<()> {
    match words {
        ["drive", kind, address, connections, bytes, seconds, pid] => {
            let clock = ProcessClock::of(pid.parse()?)?;
            let load = Load { address: (*address).into(), connections: connections.parse()?, bytes: bytes.parse()? };
            let meter = Meter::new(Duration::try_from_secs_f64(seconds.parse()?)?, clock);
            println!("{}", drive::drive(kind, &load, meter)?.report()?);
            Ok(())
        }
        ["serve", kind, folder, pem] => serve::serve(kind, folder.as_ref(), pem.as_ref()),
        _ => Err("usage: drive KIND ADDRESS CONNECTIONS BYTES SECONDS PID | serve KIND FOLDER PEM".into()),
    }
}
