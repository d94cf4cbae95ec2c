//! The steps that are running on this thread; a Rust future that is awaited is polled with the innermost one's waker.
//!
//! The waker is lent: it costs nothing until a future keeps a clone of it, which makes the task's `TaskShared`. Set for
//! the length of a step by the task, read by the awaitable (`link`) and by the capsule.
//!
//! Steps are nested (a task that starts eagerly), and most end in the opposite order. Not all: who leaves a greenlet in
//! the middle of a step takes the stack of that step away, and other steps run and end where it was. So what a step has
//! to say lies in a cell off the stack, which is used again and not given back while the thread lives. And a task
//! believes that it will be woken only when the future that it was given was polled in its own step (`Ended`).

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{RawWaker, RawWakerVTable, Waker};

use pyo3::prelude::*;

use super::waker::{SharedSlot, TaskShared, WakeRoute, WakeSteps};
use crate::py::attach::Address;
use crate::sched::LoopState;

/// The task that makes a step. All of it stays where it is, and alive, for as long as the step runs: whoever makes the
/// step holds the task, and the task its loop.
#[derive(Clone, Copy)]
pub struct Lender {
    pub task: Address,
    pub slot: NonNull<SharedSlot>,
    /// None: a loop that is not ours. Its task has made its shared part before the step.
    pub home: Option<NonNull<LoopState>>,
    pub wakes: &'static WakeSteps,
}

impl Lender {
    /// What the task's wakers share, made at the first call.
    ///
    /// # Safety
    /// The step runs.
    unsafe fn shared(&self) -> &Arc<TaskShared> {
        // SAFETY: the caller promises that the step runs, and so task and loop are where they were (`Lender`). The slot
        // and the loop's shared part may be used by any thread.
        unsafe {
            self.slot.as_ref().get_or_init(|| {
                let route =
                    self.home.map_or(WakeRoute::Nowhere, |state| WakeRoute::Ours(Arc::clone(&state.as_ref().shared)));
                TaskShared::new(route, self.task, self.wakes)
            })
        }
    }
}

/// Whether the lent waker itself was woken.
const QUIET: u8 = 0;
/// By the poll that is under way, or the last one.
const WOKEN: u8 = 1;
/// By an earlier one.
const WOKEN_BEFORE: u8 = 2;

/// A step.
pub struct Step {
    /// Its data is the address of this step.
    waker: ManuallyDrop<Waker>,
    /// None between two steps: a waker that is used too late goes nowhere.
    lender: Cell<Option<Lender>>,
    /// Set by any thread.
    woken: AtomicU8,
    /// Somebody has asked for the waker through the capsule.
    asked: Cell<bool>,
    /// The loop is in debug mode.
    debug: Cell<bool>,
    /// Odd; the same number comes again after 2^31 steps of the thread.
    number: Cell<u32>,
    /// The step around it; of one that does not run, the next spare one.
    outer: Cell<*const Step>,
}

impl Step {
    fn allocate() -> NonNull<Self> {
        let place = NonNull::from(Box::leak(Box::<Self>::new_uninit())).cast::<Self>();
        // SAFETY: the vtable below keeps RawWaker's contract for a step that stays where it is; the waker is never
        // dropped (its drop would do nothing).
        let waker = ManuallyDrop::new(unsafe { Waker::new(place.as_ptr().cast(), &LENT) });
        let step = Self {
            waker,
            lender: Cell::new(None),
            woken: AtomicU8::new(QUIET),
            asked: Cell::new(false),
            debug: Cell::new(false),
            number: Cell::new(0),
            outer: Cell::new(ptr::null()),
        };
        // SAFETY: `place` is memory for a step that was allocated above, which nobody else has.
        unsafe { place.write(step) };
        place
    }

    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    pub fn debug(&self) -> bool {
        self.debug.get()
    }

    /// The task that makes it.
    #[inline(always)]
    pub fn task(&self) -> Option<Address> {
        self.lender.get().map(|lender| lender.task)
    }

    /// A poll is pending, and its awaitable about to be yielded. In which step; 0: it gave way (woke the waker itself),
    /// and may be polled again at once.
    #[inline(always)]
    pub fn note_pending(&self) -> u32 {
        if self.woken.load(Ordering::Relaxed) == WOKEN {
            self.woken.store(WOKEN_BEFORE, Ordering::Relaxed);
            return 0;
        }
        self.number.get()
    }

    /// A Rust future is polled in it.
    #[inline(always)]
    pub fn count_poll(&self, py: Python<'_>) {
        if let Some(Lender { home: Some(home), .. }) = self.lender.get() {
            // SAFETY: the step has a lender, so it runs, and its loop is alive (`Lender`).
            unsafe { home.as_ref() }.counters.polls.add(py, 1);
        }
    }

    /// What it has come to, as far as its waker is concerned.
    #[inline(always)]
    pub fn ended(&self) -> Ended {
        let woken = self.woken.load(Ordering::Relaxed) != QUIET;
        Ended { number: self.number.get(), woken, asked: self.asked.get() }
    }

    /// As `waker`, for a client.
    pub fn ask_for_waker(&self) -> &Waker {
        self.asked.set(true);
        &self.waker
    }
}

static LENT: RawWakerVTable = RawWakerVTable::new(clone, wake_by_ref, wake_by_ref, ignore);

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the step whose waker this is; it is not given back while anybody may have it, and runs: a future has the
    // waker for the length of its poll, which is within the step (another thread, too, that it hands it to meanwhile).
    // Of a poll that a greenlet was left in the step may have ended: then there is no lender, or another one, whose
    // step runs.
    let waker = unsafe {
        let step = &*data.cast::<Step>();
        step.lender.get().map_or_else(|| Waker::noop().clone(), |lender| Waker::from(Arc::clone(lender.shared())))
    };
    let waker = ManuallyDrop::new(waker);
    // The clone's own vtable is std's for Arc<TaskShared>; `waker` gave its count to it.
    RawWaker::new(waker.data(), waker.vtable())
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: `data` is the address of a step, which is not given back while anybody may have its waker: see `clone`.
    let step = unsafe { &*data.cast::<Step>() };
    // Whoever sets it on another thread has ended before the poll does, which orders the two.
    step.woken.store(WOKEN, Ordering::Relaxed);
}

unsafe fn ignore(_data: *const ()) {}

/// The steps of a thread.
struct Steps {
    current: Cell<*const Step>,
    spare: Cell<*const Step>,
    /// The number of the last one that began.
    count: Cell<u32>,
}

/// All steps of a thread, to be given back at its end.
struct Owned(RefCell<Vec<NonNull<Step>>>);

impl Drop for Owned {
    fn drop(&mut self) {
        for step in self.0.get_mut().drain(..) {
            // SAFETY: made by `Step::allocate`; the thread ends, and no step of it will go on.
            drop(unsafe { Box::from_raw(step.as_ptr()) });
        }
    }
}

thread_local! {
    static STEPS: Steps = const {
        Steps { current: Cell::new(ptr::null()), spare: Cell::new(ptr::null()), count: Cell::new(1) }
    };
    static OWNED: Owned = const { Owned(RefCell::new(Vec::new())) };
}

impl Steps {
    #[inline(always)]
    fn begin(&self, lender: Lender, debug: bool) -> &Step {
        // SAFETY: null, or what `end` put there: a step of this thread's, which does not run. Steps are given back when
        // the thread ends.
        let step = unsafe { self.spare.get().as_ref() };
        let step = step.unwrap_or_else(|| Self::allocate());
        self.spare.set(step.outer.get());
        let number = self.count.get().wrapping_add(2);
        self.count.set(number);
        step.number.set(number);
        step.lender.set(Some(lender));
        step.woken.store(QUIET, Ordering::Relaxed);
        step.asked.set(false);
        step.debug.set(debug);
        step.outer.set(self.current.replace(step));
        step
    }

    #[cold]
    fn allocate<'a>() -> &'a Step {
        let step = Step::allocate();
        OWNED.with(|owned| owned.0.borrow_mut().push(step));
        // SAFETY: `OWNED` has it now, which gives it back when the thread ends; nobody has a `&mut` to it.
        unsafe { step.as_ref() }
    }

    #[inline(always)]
    fn end(&self, step: &Step) {
        if ptr::eq(self.current.get(), step) {
            self.current.set(step.outer.get());
        } else {
            self.unlink(step);
        }
        step.lender.set(None);
        step.outer.set(self.spare.replace(step));
    }

    /// It ends before one that began inside of it.
    #[cold]
    fn unlink(&self, step: &Step) {
        let mut inner = self.current.get();
        // SAFETY: null, or a step of this thread's that runs: steps are given back when the thread ends.
        while let Some(known) = unsafe { inner.as_ref() } {
            if ptr::eq(known.outer.get(), step) {
                known.outer.set(step.outer.get());
                return;
            }
            inner = known.outer.get();
        }
    }
}

/// What a step came to, as far as its waker is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The one that `Step::note_pending` gave to those whose poll was pending in this step.
    pub number: u32,
    /// The waker itself was woken: a future gave way.
    pub woken: bool,
    /// A client has polled something with the waker.
    pub asked: bool,
}

/// Run `f`, a step of `lender`, as the current one.
#[inline(always)]
pub fn with_step<R>(lender: Lender, debug: bool, f: impl FnOnce(&Step) -> R) -> R {
    struct Running<'a>(&'a Steps, &'a Step);
    impl Drop for Running<'_> {
        #[inline(always)]
        fn drop(&mut self) {
            self.0.end(self.1);
        }
    }
    STEPS.with(|steps| {
        let running = Running(steps, steps.begin(lender, debug));
        f(running.1)
    })
}

/// The current step, for as long as it runs; None outside of one.
#[inline(always)]
pub fn current<'a>() -> Option<&'a Step> {
    let step = STEPS.with(|steps| steps.current.get());
    // SAFETY: null, or a step of this thread's, which is given back when the thread ends. Who asks is called by the
    // step, and keeps the answer no longer than that.
    unsafe { step.as_ref() }
}
