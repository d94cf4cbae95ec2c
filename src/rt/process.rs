//! Which process this is, and which thread.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::ThreadId;

/// How many forks lie between the process that loaded us and this one, from 1: what was made in another generation
/// (runtimes, threads) does not work here.
static GENERATION: AtomicU32 = AtomicU32::new(1);

/// The generation of this process.
#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Count forks, from the first call on.
pub fn count_forks() {
    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is async-signal-safe (an atomic addition) and lives as long as the process.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// This thread's id as the standard library knows it; for owner checks.
#[inline]
pub fn this_thread() -> ThreadId {
    thread_local! {
        static ID: ThreadId = std::thread::current().id();
    }
    ID.with(|id| *id)
}
