//! What is measured of a load: how many messages came back in a window of time, how long each took, and what the
//! server used its processor for. One thread notes all messages.
//!
//! | state | until | what a message does |
//! |---|---|---|
//! | `Warming` | a message comes back after a fifth of the time | it is not counted: connections, caches and code get warm |
//! | `Measuring` | one comes back when the time is over | it is counted |
//! | `Done` | | it is too late |
//!
//! The clocks are read by the message that changes the state, so nothing that was counted is outside of them.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::clock::ProcessClock;

/// Both clocks at one moment.
#[derive(Clone, Copy)]
struct Reading {
    wall: Instant,
    processor: Duration,
}

enum State {
    Warming { opens: Instant },
    Measuring { opened: Reading },
    Done { opened: Reading, closed: Reading },
}

/// The messages of one load.
pub struct Meter {
    window: Duration,
    clock: ProcessClock,
    state: State,
    nanos: Vec<u64>,
}

impl Meter {
    pub fn new(window: Duration, clock: ProcessClock) -> Self {
        Self { window, clock, state: State::Warming { opens: Instant::now() }, nanos: Vec::with_capacity(1 << 18) }
    }

    /// All connections are there: the warm-up begins.
    pub fn start(&mut self) {
        self.state = State::Warming { opens: Instant::now() + self.window / 5 };
    }

    /// A message that was sent at `began` is back. Says whether its connection is to send another.
    #[must_use = "a load that goes on after the end never ends"]
    pub fn note(&mut self, began: Instant) -> io::Result<ControlFlow<()>> {
        let now = Instant::now();
        match self.state {
            State::Warming { opens } if now < opens => {}
            State::Warming { .. } => self.state = State::Measuring { opened: self.read(now)? },
            State::Measuring { opened } => {
                self.nanos.push(u64::try_from((now - began).as_nanos()).map_err(io::Error::other)?);
                if now >= opened.wall + self.window {
                    self.state = State::Done { opened, closed: self.read(now)? };
                    return Ok(ControlFlow::Break(()));
                }
            }
            State::Done { .. } => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn read(&self, wall: Instant) -> io::Result<Reading> {
        Ok(Reading { wall, processor: self.clock.read()? })
    }

    /// One line of JSON: seconds, and microseconds for the quantiles.
    pub fn report(mut self) -> Outcome<String> {
        let State::Done { opened, closed } = self.state else {
            return Err("the load ended before its time was over".into());
        };
        self.nanos.sort_unstable();
        let quantile = |hundredths: usize| {
            let at = (self.nanos.len() * hundredths / 100).min(self.nanos.len() - 1);
            self.nanos[at] as f64 / 1e3
        };
        Ok(format!(
            r#"{{"messages": {}, "seconds": {:.6}, "processor": {:.6}, "p50": {:.2}, "p99": {:.2}}}"#,
            self.nanos.len(),
            (closed.wall - opened.wall).as_secs_f64(),
            (closed.processor - opened.processor).as_secs_f64(),
            quantile(50),
            quantile(99),
        ))
    }
}
