//! The timeline of a trace: what a loop did when, and how it is written in Chrome's trace event format, which Perfetto
//! opens. Guarded by its owner. Times are ticks of a clock, which are told in nanoseconds when it is written.

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
    /// The loop notes its sleeps always, and by the clock that it goes by: in nanoseconds.
    fn is_in_nanos(self) -> bool {
        matches!(self, Self::Park | Self::Gil)
    }

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
    /// In ticks; a sleep's, and a wait's for the GIL, in nanoseconds.
    pub start: u64,
    pub end: u64,
    /// The place of its name; `NAMELESS`: it has none. Of what receives and sends the bytes.
    pub what: u32,
    pub by: By,
}

/// Which loop, by its number, and what kind of record: in one word, as there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By(u32);

impl By {
    const KINDS: [Kind; 7] = [Kind::Callback, Kind::Step, Kind::Poll, Kind::Park, Kind::Gil, Kind::Receive, Kind::Send];

    #[inline(always)]
    pub fn new(event_loop: u64, kind: Kind) -> Self {
        Self((event_loop as u32) << 3 | kind as u32)
    }

    fn event_loop(self) -> u32 {
        self.0 >> 3
    }

    fn kind(self) -> Kind {
        Self::KINDS[(self.0 & 7) as usize]
    }
}

/// See `Record::what`.
pub const NAMELESS: u32 = u32::MAX;

/// What both clocks show at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub ticks: u64,
    pub nanos: u64,
}

/// How ticks are told in nanoseconds: by two moments.
#[derive(Clone, Copy, Debug)]
struct Scale {
    began: Moment,
    ticks: i128,
    nanos: i128,
}

impl Scale {
    fn new(began: Moment, ended: Moment) -> Self {
        let ticks = ended.ticks.saturating_sub(began.ticks);
        Self { began, ticks: i128::from(ticks), nanos: i128::from(ended.nanos.saturating_sub(began.nanos)) }
    }

    /// Since the begin; what was before it is at the begin.
    fn since(&self, at: u64, kind: Kind) -> u64 {
        if kind.is_in_nanos() {
            return at.saturating_sub(self.began.nanos);
        }
        let ticks = i128::from(at.saturating_sub(self.began.ticks));
        let nanos = if self.ticks == 0 { ticks } else { ticks * self.nanos / self.ticks };
        u64::try_from(nanos).unwrap_or(0)
    }
}

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
    began: Moment,
    limit: usize,
}

impl Timeline {
    /// # Errors
    /// There is not so much memory.
    pub fn new(limit: usize, now: Moment) -> Result<Self, TryReserveError> {
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

    /// The whole document, in pieces of some `PIECE` bytes. `now`: it is over.
    pub fn write<E>(
        &self,
        now: Moment,
        process: u32,
        version: &str,
        mut give: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let scale = Scale::new(self.began, now);
        let mut text = String::with_capacity(PIECE + 1024);
        let mut event_loops: Vec<u32> = self.records.iter().map(|record| record.by.event_loop()).collect();
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
            self.write_record(record, &scale, process, &mut text);
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

    fn write_record(&self, record: &Record, scale: &Scale, process: u32, text: &mut String) {
        let kind = record.by.kind();
        let has_bytes = matches!(kind, Kind::Receive | Kind::Send);
        let name = if has_bytes { None } else { self.names.get(record.what as usize) };
        // One that began before the trace did is shown from then on.
        let ts = scale.since(record.start, kind);
        let dur = scale.since(record.end, kind).saturating_sub(ts);
        text.push_str(",\n{\"name\":\"");
        escape(name.map_or(kind.name(), |name| &name.text), text);
        add(
            text,
            format_args!(
                "\",\"cat\":\"{}\",\"ph\":\"X\",\"ts\":{}.{:03},\"dur\":{}.{:03},\"pid\":{process},\"tid\":{}",
                kind.category(),
                ts / 1000,
                ts % 1000,
                dur / 1000,
                dur % 1000,
                record.by.event_loop()
            ),
        );
        match name.and_then(|name| name.source.as_ref()) {
            None if has_bytes => add(text, format_args!(",\"args\":{{\"bytes\":{}}}", record.what)),
            Some(source) => {
                text.push_str(",\"args\":{\"source\":\"");
                escape(source, text);
                text.push_str("\"}");
            }
            None => {}
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

    fn document(timeline: &Timeline, now: Moment) -> String {
        let mut whole = String::new();
        timeline
            .write::<()>(now, 7, "0.0", |piece| {
                whole.push_str(piece);
                Ok(())
            })
            .expect("nothing fails");
        whole
    }

    fn record(kind: Kind, start: u64, end: u64, what: u32) -> Record {
        Record { start, end, what, by: By::new(1, kind) }
    }

    /// Of two clocks that show the same.
    fn at(nanos: u64) -> Moment {
        Moment { ticks: nanos, nanos }
    }

    #[test]
    fn a_record_is_a_complete_event_in_microseconds_since_the_begin() {
        let mut timeline = Timeline::new(10, at(1_000)).expect("ten fit");
        let name = timeline.add_name(Name { text: "a\"\\\n".to_owned(), source: Some("f.py:3".to_owned()) });
        timeline.push(record(Kind::Step, 2_234, 3_240, name));
        timeline.push(record(Kind::Send, 500, 1_007, 10));
        let text = document(&timeline, at(5_000));
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
    fn ticks_are_told_in_nanoseconds_and_sleeps_are_in_them() {
        let mut timeline = Timeline::new(10, Moment { ticks: 1_000_000, nanos: 77_000 }).expect("ten fit");
        timeline.push(record(Kind::Step, 1_000_300, 1_000_900, NAMELESS));
        timeline.push(record(Kind::Park, 77_100, 77_250, NAMELESS));
        // Three ticks a nanosecond.
        let text = document(&timeline, Moment { ticks: 1_030_000, nanos: 87_000 });
        assert!(text.contains("\"cat\":\"step\",\"ph\":\"X\",\"ts\":0.100,\"dur\":0.200"));
        assert!(text.contains("\"cat\":\"park\",\"ph\":\"X\",\"ts\":0.100,\"dur\":0.150"));
    }

    #[test]
    fn a_record_knows_its_loop_and_its_kind() {
        for kind in By::KINDS {
            let by = By::new(123_456, kind);
            assert_eq!((by.event_loop(), by.kind()), (123_456, kind));
        }
        assert_eq!(size_of::<Record>(), 24);
    }

    #[test]
    fn what_had_to_go_is_told() {
        let mut timeline = Timeline::new(2, at(0)).expect("two fit");
        (0..5).for_each(|number| timeline.push(record(Kind::Park, number, number + 1, NAMELESS)));
        assert_eq!(timeline.counts(), (2, 3));
        assert!(document(&timeline, at(10)).contains("\"records\":2,\"dropped\":3,\"limit\":2"));
    }

    #[test]
    fn a_long_one_comes_in_pieces_and_an_error_ends_it() {
        let mut timeline = Timeline::new(10_000, at(0)).expect("they fit");
        (0..10_000).for_each(|number| timeline.push(record(Kind::Gil, number, number + 1, NAMELESS)));
        let mut pieces = 0;
        let written = timeline.write(at(20_000), 1, "0.0", |piece| {
            assert!(piece.len() < PIECE + 1024);
            pieces += 1;
            if pieces == 2 { Err("full") } else { Ok(()) }
        });
        assert_eq!((written, pieces), (Err("full"), 2));
    }
}
