//! The clock of a trace: the processor's counter, or where that is no clock the kernel's. What it shows is told in
//! nanoseconds of the kernel's clock when the trace is over (`core::timeline`).

use super::clock::clock;
use crate::accel::processor_clock::{PROCESSOR_CLOCK, counter};
use crate::core::timeline::Moment;

/// What it shows.
#[inline(always)]
pub(super) fn ticks() -> u64 {
    if PROCESSOR_CLOCK.is_on() { counter() } else { clock() }
}

/// How often both clocks are read for one moment: an interrupt may come between.
const TRIES: usize = 5;

/// What both clocks show now.
pub(super) fn moment() -> Moment {
    if !PROCESSOR_CLOCK.is_on() {
        let now = clock();
        return Moment { ticks: now, nanos: now };
    }
    let read = || {
        let (before, nanos, after) = (counter(), clock(), counter());
        let took = after.saturating_sub(before);
        (took, Moment { ticks: before + took / 2, nanos })
    };
    (0..TRIES).map(|_| read()).min_by_key(|&(took, _)| took).map_or(Moment::default(), |(_, moment)| moment)
}
