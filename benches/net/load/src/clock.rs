//! The processor time of another process, all its threads and the kernel's part included.

use std::io;
use std::time::Duration;

/// The clock of one process; reading it fails when the process is gone.
pub struct ProcessClock(libc::clockid_t);

impl ProcessClock {
    pub fn of(pid: libc::pid_t) -> io::Result<Self> {
        let mut clock = 0;
        // SAFETY: `clock` is a local of this call, which is all that the function writes to.
        match unsafe { libc::clock_getcpuclockid(pid, &mut clock) } {
            0 => Ok(Self(clock)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    pub fn read(&self) -> io::Result<Duration> {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is a local of this call, which is all that the function writes to.
        if unsafe { libc::clock_gettime(self.0, &mut now) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let seconds = u64::try_from(now.tv_sec).map_err(io::Error::other)?;
        let nanos = u32::try_from(now.tv_nsec).map_err(io::Error::other)?;
        Ok(Duration::new(seconds, nanos))
    }
}
