//! The processor's own clock: a counter that is read in a third of the time that the kernel's clock takes.

use super::switch::{Acceleration, Probed};

/// The counter of an x86-64 runs at one rate, whatever the processor does, and shows the same on each of them. Where it
/// does, Linux goes by it: that is the probe. Off: the kernel's clock.
pub static PROCESSOR_CLOCK: Acceleration = Acceleration::new("processor_clock");

/// What the counter shows, while the acceleration is on.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn counter() -> u64 {
    // SAFETY: each x86-64 has the instruction; where a process is forbidden to use it, the kernel's clock does not go
    // by it, and nobody comes here.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn counter() -> u64 {
    0
}

pub(super) fn probe() -> Probed {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("it is for Linux on x86-64".into());
    }
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        .map_err(|failed| format!("the kernel does not say what its clock goes by: {failed}"))?;
    match source.trim() {
        "tsc" => Ok(()),
        other => Err(format!("the kernel's clock goes by {other}").into()),
    }
}
