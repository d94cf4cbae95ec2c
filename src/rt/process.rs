//! Which process this is, and which thread.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::py::attach::thread_ident;
use crate::py::exit::outlast;

/// How many forks lie between the process that loaded us and this one, from 1: what was made in another generation
/// (runtimes, threads) does not work here.
static GENERATION: AtomicU32 = AtomicU32::new(1);

/// The generation whose background runtime runs; `NONE` when none does.
static RUNTIME: AtomicU32 = AtomicU32::new(NONE);
const NONE: u32 = u32::MAX;

/// The background runtime of this process runs from now on, or no more.
pub(super) fn set_runtime(runs: bool) {
    RUNTIME.store(if runs { generation() } else { NONE }, Ordering::Relaxed);
}

/// The generation of this process.
#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Count forks, from the first call on. `hold` is called before each, `give_back` after it, in the parent and in the
/// child: a lock that another thread has at that moment would never be given back in the child.
pub(super) fn count_forks(hold: extern "C" fn(), give_back: extern "C" fn()) {
    static GIVE_BACK: OnceLock<extern "C" fn()> = OnceLock::new();
    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
        RUNTIME.store(NONE, Ordering::Relaxed);
        if let Some(give_back) = GIVE_BACK.get() {
            give_back();
        }
    }
    GIVE_BACK.get_or_init(|| {
        // SAFETY: the handlers live as long as the process; in the child they do no more than write to atomics and give
        // a lock back, which is async-signal-safe. A fork meanwhile is none that is counted: the caller is about to
        // make what must not cross one.
        unsafe { libc::pthread_atfork(Some(hold), Some(give_back), Some(in_child)) };
        give_back
    });
}

/// A value that shares something with the kernel which a fork does not copy: a registration with an epoll, a runtime
/// with its threads. The child's copy of the value must not be dropped: that would take away what the parent still
/// uses, or wait for threads that the child does not have. So only the process that made it drops it; any other forgets
/// it.
#[derive(Debug)]
pub struct ProcessBound<T> {
    value: ManuallyDrop<T>,
    generation: u32,
}

impl<T> ProcessBound<T> {
    pub fn new(value: T) -> Self {
        Self { value: ManuallyDrop::new(value), generation: generation() }
    }

    /// The value, in the process that made it.
    pub fn into_inner(self) -> Option<T> {
        let mut this = ManuallyDrop::new(self);
        if this.generation != generation() {
            return None;
        }
        // SAFETY: `this` is not used again, and its own destructor does not run (ManuallyDrop): the value is taken
        // once.
        Some(unsafe { ManuallyDrop::take(&mut this.value) })
    }
}

impl<T> Deref for ProcessBound<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for ProcessBound<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Drop for ProcessBound<T> {
    fn drop(&mut self) {
        if self.generation == generation() {
            // SAFETY: this is the destructor, and `into_inner` does not let it run for a value that it has taken: it is
            // dropped once.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

/// A number that no other thread of this process has or had.
pub type ThreadNumber = u64;

/// What is known of this thread: in one place, as a look-up of a thread-local is a call in a shared library.
#[derive(Debug)]
pub struct Here {
    number: Cell<ThreadNumber>,
    /// `threading.get_ident()`; set with the number.
    ident: Cell<u64>,
    /// The generation in which this thread drives a loop of ours; a forked child finds its parent's.
    pub(super) driving: Cell<u32>,
    /// The generation in which it entered the background runtime.
    pub(super) entered: Cell<u32>,
}

thread_local! {
    static HERE: Here =
        const { Here { number: Cell::new(0), ident: Cell::new(0), driving: Cell::new(0), entered: Cell::new(0) } };
}

/// Give `f` what is known of this thread.
#[inline]
pub fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
    HERE.with(f)
}

/// This thread's number; for owner checks.
#[inline]
pub fn this_thread() -> ThreadNumber {
    here(Here::number)
}

impl Here {
    #[inline]
    pub fn number(&self) -> ThreadNumber {
        match self.number.get() {
            0 => self.assign(),
            number => number,
        }
    }

    /// `threading.get_ident()`.
    #[inline]
    pub fn ident(&self) -> u64 {
        self.number();
        self.ident.get()
    }

    #[cold]
    fn assign(&self) -> ThreadNumber {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        outlast();
        self.ident.set(thread_ident());
        self.number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        self.number.get()
    }

    /// Whether this thread drives a loop of ours.
    #[inline]
    pub(super) fn is_driving(&self) -> bool {
        self.driving.get() == generation()
    }

    /// Whether it has entered the background runtime, which runs.
    #[inline]
    pub(super) fn is_in_background(&self) -> bool {
        self.entered.get() == RUNTIME.load(Ordering::Relaxed)
    }
}
