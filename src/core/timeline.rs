//! The timeline of a trace: what a loop did when, and how it is written in Chrome's trace event format, which Perfetto
//! opens. Guarded by its owner. Times are nanoseconds of one clock.

use std::collections::TryReserveError;
use std::fmt::Write;

use super::ring::Ring;

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Callback,
    Step,
    /// Of a Rust future.
    Poll,
    /// The loop sleeps.
    Park,
    /// It is awake, and waits for the GIL.
    Gil,
    Receive,
    Send,
}

impl Kind {
    fn category(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Step => "step",
            Self::Poll => "rust",
            Self::Park => "park",
            Self::Gil => "gil",
            Self::Receive | Self::Send => "io",
        }
    }

    /// What it is called when it has no name of its own.
    fn name(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Step => "step",
            Self::Poll => "poll",
            Self::Park => "park",
            Self::Gil => "wait for the GIL",
            Self::Receive => "receive",
            Self::Send => "send",
        }
    }
}

/// What happened once.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub start: u64,
    pub end: u64,
    /// Bytes, of what receives and sends.
    pub amount: u32,
    /// The place of its name; `NAMELESS`: it has none.
    pub name: u32,
    /// The number of its loop.
    pub event_loop: u32,
    pub kind: Kind,
}

/// See `Record::name`.
pub const NAMELESS: u32 = u32::MAX;

/// What something is called, and where its source is.
#[derive(Clone, Debug)]
pub struct Name {
    pub text: String,
    pub source: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Timeline {
    records: Ring<Record>,
    names: Vec<Name>,
    began: u64,
    limit: usize,
}

impl Timeline {
    /// # Errors
    /// There is not so much memory.
    pub fn new(limit: usize, now: u64) -> Result<Self, TryReserveError> {
        Ok(Self { records: Ring::new(limit)?, names: Vec::new(), began: now, limit })
    }

    #[inline]
    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// A name, and its place.
    pub fn add_name(&mut self, name: Name) -> u32 {
        self.names.push(name);
        u32::try_from(self.names.len() - 1).unwrap_or(NAMELESS)
    }

    /// How many records there are, and how many older ones had to go.
    pub fn counts(&self) -> (usize, u64) {
        (self.records.len(), self.records.dropped())
    }

    /// The whole document, in pieces of some `PIECE` bytes.
    pub fn write<E>(&self, process: u32, version: &str, mut give: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        let mut text = String::with_capacity(PIECE + 1024);
        let mut event_loops: Vec<u32> = self.records.iter().map(|record| record.event_loop).collect();
        event_loops.sort_unstable();
        event_loops.dedup();
        text.push_str("{\"traceEvents\":[\n");
        add(
            &mut text,
            format_args!(
                "{{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":{process},\"tid\":0,\"args\":{{\"name\":\"pyloop\"}}}}"
            ),
        );
        for number in event_loops {
            add(
                &mut text,
                format_args!(
                    ",\n{{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":{process},\"tid\":{number},\"args\":{{\"name\":\"event loop {number}\"}}}}"
                ),
            );
        }
        for record in self.records.iter() {
            self.write_record(record, process, &mut text);
            if text.len() >= PIECE {
                give(&text)?;
                text.clear();
            }
        }
        let (count, dropped) = self.counts();
        let limit = self.limit;
        add(
            &mut text,
            format_args!(
                "\n],\"displayTimeUnit\":\"ns\",\"otherData\":{{\"pyloop\":\"{version}\",\"records\":{count},\"dropped\":{dropped},\"limit\":{limit}}}}}\n"
            ),
        );
        give(&text)
    }

    fn write_record(&self, record: &Record, process: u32, text: &mut String) {
        let name = self.names.get(record.name as usize);
        // One that began before the trace did is shown from then on.
        let start = record.start.max(self.began);
        let (ts, dur) = (start - self.began, record.end.saturating_sub(start));
        text.push_str(",\n{\"name\":\"");
        escape(name.map_or(record.kind.name(), |name| &name.text), text);
        add(
            text,
            format_args!(
                "\",\"cat\":\"{}\",\"ph\":\"X\",\"ts\":{}.{:03},\"dur\":{}.{:03},\"pid\":{process},\"tid\":{}",
                record.kind.category(),
                ts / 1000,
                ts % 1000,
                dur / 1000,
                dur % 1000,
                record.event_loop
            ),
        );
        match (record.kind, name.and_then(|name| name.source.as_ref())) {
            (Kind::Receive | Kind::Send, _) => add(text, format_args!(",\"args\":{{\"bytes\":{}}}", record.amount)),
            (_, Some(source)) => {
                text.push_str(",\"args\":{\"source\":\"");
                escape(source, text);
                text.push_str("\"}");
            }
            _ => {}
        }
        text.push('}');
    }
}

const PIECE: usize = 256 * 1024;

fn add(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("to write to a string does not fail");
}

/// As a JSON string has it.
fn escape(plain: &str, text: &mut String) {
    for character in plain.chars() {
        match character {
            '"' | '\\' => {
                text.push('\\');
                text.push(character);
            }
            '\0'..'\x20' => add(text, format_args!("\\u{:04x}", character as u32)),
            _ => text.push(character),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn document(timeline: &Timeline) -> String {
        let mut whole = String::new();
        timeline
            .write::<()>(7, "0.0", |piece| {
                whole.push_str(piece);
                Ok(())
            })
            .expect("nothing fails");
        whole
    }

    fn record(kind: Kind, start: u64, end: u64, name: u32) -> Record {
        Record { start, end, amount: 10, name, event_loop: 1, kind }
    }

    #[test]
    fn a_record_is_a_complete_event_in_microseconds_since_the_begin() {
        let mut timeline = Timeline::new(10, 1_000).expect("ten fit");
        let name = timeline.add_name(Name { text: "a\"\\\n".to_owned(), source: Some("f.py:3".to_owned()) });
        timeline.push(record(Kind::Step, 2_234, 3_240, name));
        timeline.push(record(Kind::Send, 500, 1_007, NAMELESS));
        let text = document(&timeline);
        assert!(text.contains(
            "{\"name\":\"a\\\"\\\\\\u000a\",\"cat\":\"step\",\"ph\":\"X\",\"ts\":1.234,\"dur\":1.006,\"pid\":7,\"tid\":1,\
             \"args\":{\"source\":\"f.py:3\"}}"
        ));
        assert!(text.contains(
            "{\"name\":\"send\",\"cat\":\"io\",\"ph\":\"X\",\"ts\":0.000,\"dur\":0.007,\"pid\":7,\"tid\":1,\
             \"args\":{\"bytes\":10}}"
        ));
    }

    #[test]
    fn what_had_to_go_is_told() {
        let mut timeline = Timeline::new(2, 0).expect("two fit");
        (0..5).for_each(|number| timeline.push(record(Kind::Park, number, number + 1, NAMELESS)));
        assert_eq!(timeline.counts(), (2, 3));
        assert!(document(&timeline).contains("\"records\":2,\"dropped\":3,\"limit\":2"));
    }

    #[test]
    fn a_long_one_comes_in_pieces_and_an_error_ends_it() {
        let mut timeline = Timeline::new(10_000, 0).expect("they fit");
        (0..10_000).for_each(|number| timeline.push(record(Kind::Gil, number, number + 1, NAMELESS)));
        let mut pieces = 0;
        let written = timeline.write(1, "0.0", |piece| {
            assert!(piece.len() < PIECE + 1024);
            pieces += 1;
            if pieces == 2 { Err("full") } else { Ok(()) }
        });
        assert_eq!((written, pieces), (Err("full"), 2));
    }
}
