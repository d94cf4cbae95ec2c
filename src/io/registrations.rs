//! What the kernel is told of the watched descriptors, and when. Guarded by the GIL; nothing here runs Python code.
//!
//! 1. **At any time** the kernel knows at least what is waited for.
//! 2. **When the loop goes to sleep** it knows no more than that (`settle`). Between an event and the next sleep it
//!    may: a `sock_recv` that waits again finds its registration, and a loop of such calls makes no system call for it.
//! 3. **An event that nobody waits for** takes its registration back. Where that is impossible, because the number was
//!    closed or is another file's while the file lives on elsewhere, the poller is made anew without it (`renew`). So
//!    it is when events wake the loop and are gone when it looks: whoever has the file has been quicker.
//! 4. **A wait that began without telling the kernel** tells it when it takes long (`check`): another file may have
//!    come under the number (`dup2`), which nobody says.
//!
//! A process that runs out of memory or descriptors hears of it where somebody asked for something. What only tidies up
//! is tried again later.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pyo3::prelude::*;
use tokio::io::Interest as TokioInterest;
use tokio::io::unix::AsyncFd;

use super::poller::{EVENTS_AT_ONCE, Event, Events, Interest, OWN, Poller, REPORTS_CLOSED, Registration, Trigger};
use super::table::Table;
use super::watched::{Data, Side, Watched};
use crate::rt::process::ProcessBound;
use crate::sched::clock::clock;
use crate::sched::handle::Handle;

/// A wait is checked when it has taken one to two of these, in nanoseconds: long for a busy connection, short for
/// whoever waits in vain.
const CHECK_AFTER: u64 = 100_000_000;

/// How long a turn may see nothing of what arrives, in nanoseconds.
const LOOK_AFTER: u64 = 5_000;

/// Looks between two at the clock in a loop that never sleeps.
const LOOKS_PER_CHECK: u32 = 64;

/// To make the poller anew takes a system call for each registration: an event in vain pays for so many of them.
const RENEWED_PER_EVENT: usize = 64;

/// So many times in a row the loop may be woken and find nothing, while a registration that was not taken back may be
/// the reason. Now and then it happens without: what a `sock_recv` takes just before the loop sleeps wakes it still.
const WOKEN_FOR_NOTHING: u32 = 3;

/// The poller, and its own registration with tokio.
#[derive(Debug)]
struct Nested {
    poller: Arc<Poller>,
    /// None as long as the loop has only slept in the poller.
    in_tokio: Option<ProcessBound<AsyncFd<Arc<Poller>>>>,
}

impl Nested {
    fn new() -> io::Result<Self> {
        Ok(Self { poller: Arc::new(Poller::new()?), in_tokio: None })
    }

    /// Have tokio watch it, which is asked for inside the loop's runtime. False: it does already.
    fn register(&mut self) -> io::Result<bool> {
        let is_new = self.in_tokio.is_none();
        if is_new {
            let poller = Arc::clone(&self.poller);
            // SAFETY: the registration owns (a share of) the poller, whose descriptor is open and the same for as long
            // as the poller lives.
            let made = unsafe { AsyncFd::register_with_interest(poller, TokioInterest::READABLE) };
            self.in_tokio = Some(ProcessBound::new(made.map_err(|failed| failed.into_parts().1)?));
        }
        Ok(is_new)
    }

    /// Have the events of one of the loop's own descriptors end its sleep.
    fn add_own(&self, fd: RawFd) -> io::Result<()> {
        let (registration, reads) = (Registration { fd, generation: OWN }, Interest { read: true, write: false });
        self.poller.set(registration, reads, Interest::NONE, Trigger::Edge).map(drop)
    }
}

/// Tells the kernel.
#[derive(Debug)]
struct Kernel {
    /// None: the loop is closed.
    nested: Option<Nested>,
    generation: u32,
    /// How many descriptors it knows.
    registered: usize,
    /// It may know files whose numbers were closed, since the poller was made.
    may_know_closed: bool,
    /// Descriptors of the loop's own, which end its sleep.
    own: Vec<RawFd>,
}

impl Kernel {
    /// # Errors
    /// The kernel's: it knows nothing of the descriptor then.
    fn tell(&mut self, fd: RawFd, watched: &mut Watched, interest: Interest) -> io::Result<()> {
        let poller = &self.nested.as_ref().ok_or_else(closed)?.poller;
        let before = std::mem::take(&mut watched.told);
        self.registered -= usize::from(!before.is_empty());
        if watched.data == Data::Drained {
            watched.data = Data::Perhaps;
        }
        if interest.is_empty() {
            let removed = if before.is_empty() { Ok(()) } else { poller.remove(fd, before) };
            self.may_know_closed |= removed.is_err();
            return removed;
        }
        self.generation = self.generation.wrapping_add(1).max(OWN + 1);
        watched.generation = self.generation;
        let registration = Registration { fd, generation: self.generation };
        let set = poller.set(registration, interest, before, watched.trigger());
        self.may_know_closed |= !before.is_empty() && !matches!(set, Ok(true));
        set?;
        watched.told = interest;
        self.registered += 1;
        Ok(())
    }
}

fn closed() -> io::Error {
    io::Error::other("Event loop is closed")
}

/// What a look has found.
#[derive(Debug, Default)]
pub struct Found {
    pub handles: Vec<Py<Handle>>,
    pub wakers: Vec<Waker>,
    pub transports: Vec<(Py<PyAny>, Event)>,
    /// How many events the kernel has told of.
    pub events: usize,
}

/// The watched descriptors of one loop.
#[derive(Debug)]
pub struct Registrations {
    kernel: Kernel,
    watched: Table<Watched>,
    next_id: u64,
    /// Descriptors of which the kernel may know more than is waited for.
    loose: Vec<RawFd>,
    /// Descriptors that are waited for without the kernel having been told.
    unchecked: Vec<RawFd>,
    /// When those are checked, by the loop's clock; 0: there were none.
    check_at: u64,
    /// Counts the checks.
    period: u32,
    /// Counts the looks.
    looks: u32,
    /// Events of registrations that cannot be taken back, since the poller was made.
    in_vain: usize,
    /// The loop has settled for sleep since the last poll.
    has_settled: bool,
    /// What ended its sleep was an event.
    was_woken: bool,
    /// How often in a row nothing was found then.
    for_nothing: u32,
    /// How many transports the kernel tells of.
    transports: usize,
    /// When the last look was, by the loop's clock.
    looked_at: u64,
    /// When the loop went to sleep; 0: it has looked since.
    asleep_since: u64,
    /// Another look may find something before the loop has gone to sleep and come back.
    expects_more: bool,
    /// A level-triggered descriptor was ready in the last look and may be so still.
    look_again: bool,
}

impl Registrations {
    /// # Errors
    /// There is no descriptor, or no memory, left for a poller.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            kernel: Kernel {
                nested: Some(Nested::new()?),
                generation: OWN,
                registered: 0,
                may_know_closed: false,
                own: Vec::new(),
            },
            watched: Table::default(),
            next_id: 0,
            loose: Vec::new(),
            unchecked: Vec::new(),
            check_at: 0,
            period: 0,
            looks: 0,
            in_vain: 0,
            has_settled: false,
            was_woken: false,
            for_nothing: 0,
            transports: 0,
            looked_at: 0,
            asleep_since: 0,
            expects_more: false,
            look_again: false,
        })
    }

    /// The loop is to sleep in tokio's driver, whose runtime the caller is in. False: it may do so already.
    ///
    /// # Errors
    /// There is no memory, or no watch (`max_user_watches`), left for the poller.
    pub fn watch_by_driver(&mut self) -> io::Result<bool> {
        self.kernel.nested.as_mut().ok_or_else(closed)?.register()
    }

    /// An event of this descriptor, which is the loop's own, is to end its sleep in the poller.
    ///
    /// # Errors
    /// There is no memory, or no watch, left for it.
    pub fn end_sleep_by(&mut self, fd: RawFd) -> io::Result<()> {
        if !self.kernel.own.contains(&fd) {
            self.kernel.nested.as_ref().ok_or_else(closed)?.add_own(fd)?;
            self.kernel.own.push(fd);
        }
        Ok(())
    }

    /// What the loop sleeps in; None when it is closed.
    pub fn poller(&self) -> Option<Arc<Poller>> {
        self.kernel.nested.as_ref().map(|nested| Arc::clone(&nested.poller))
    }

    /// Everything that was watched; nothing is from now on. The caller is inside the loop's runtime, if it had one.
    #[must_use = "what is dropped may run Python code: say where"]
    pub fn close(&mut self) -> Table<Watched> {
        drop(self.kernel.nested.take());
        self.kernel.registered = 0;
        self.transports = 0;
        std::mem::take(&mut self.watched)
    }

    pub fn is_closed(&self) -> bool {
        self.kernel.nested.is_none()
    }

    #[inline]
    pub fn get(&mut self, fd: RawFd) -> Option<&mut Watched> {
        self.watched.get_mut(fd)
    }

    pub fn iter(&self) -> impl Iterator<Item = (RawFd, &Watched)> {
        self.watched.iter()
    }

    /// What is known of a descriptor, from now on. Those of small numbers stay, as their numbers are used again.
    pub fn entry(&mut self, fd: RawFd) -> &mut Watched {
        self.watched.get_or_insert(fd)
    }

    /// Tell the kernel what is waited for.
    ///
    /// # Errors
    /// The kernel's: nothing is registered then.
    pub fn tell(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(watched) = self.watched.get_mut(fd) else { return Ok(()) };
        let wanted = watched.wanted();
        self.kernel.tell(fd, watched, wanted)
    }

    /// Somebody waits for what is registered already: the id of the wait. None: the kernel must be told (`wait`).
    #[inline]
    pub fn wait_again(&mut self, sock: &Bound<'_, PyAny>, fd: RawFd, side: Side, waker: &Waker) -> Option<u64> {
        let watched = self.watched.get_mut(fd)?;
        if !side.interest().is_within(watched.told) || !watched.is_kept_for(sock) {
            return None;
        }
        self.next_id += 1;
        watched.push_waiter(side, self.next_id, waker.clone());
        watched.since = self.period;
        if !watched.is_unchecked {
            watched.is_unchecked = true;
            self.unchecked.push(fd);
        }
        Some(self.next_id)
    }

    /// Somebody waits, and the kernel is told: the id of the wait.
    ///
    /// # Errors
    /// The kernel's. Nobody waits then.
    pub fn wait(&mut self, fd: RawFd, side: Side, waker: &Waker) -> io::Result<u64> {
        self.next_id += 1;
        let id = self.next_id;
        self.entry(fd).push_waiter(side, id, waker.clone());
        self.tell(fd).map(|()| id).inspect_err(|_| {
            // The caller has another clone of it: this is not the last.
            drop(self.entry(fd).take_waiter(side, id));
        })
    }

    /// A wait is over before its event came. `for_good`: its socket may be closed before the loop sleeps.
    #[must_use = "what is dropped may run Python code: say where"]
    pub fn wait_no_more(&mut self, fd: RawFd, side: Side, id: u64, for_good: bool) -> Option<Waker> {
        let watched = self.watched.get_mut(fd)?;
        let waker = watched.take_waiter(side, id)?;
        let wanted = watched.wanted();
        if for_good && wanted != watched.told {
            // Closed behind our back: there is nothing to tell.
            drop(self.kernel.tell(fd, watched, wanted));
        } else {
            loosen(&mut self.loose, fd, watched);
        }
        Some(waker)
    }

    /// What is known of a descriptor of a large number, if there is no more reason to know it.
    #[must_use = "what is dropped may run Python code: say where"]
    pub fn forget_large(&mut self, fd: RawFd) -> Option<Box<Watched>> {
        let watched = self.watched.get_mut(fd)?;
        let is_known = watched.has_transport() || !watched.told.is_empty() || !watched.wanted().is_empty();
        if !is_known { self.watched.remove_large(fd) } else { None }
    }

    /// Whether to look, as tokio's driver knows, or the caller (`look`): something may be ready.
    ///
    /// # Errors
    /// tokio's: its driver is gone.
    pub fn poll(&mut self, cx: &mut Context<'_>, look: bool) -> io::Result<bool> {
        let Some(Nested { in_tokio: Some(in_tokio), .. }) = &self.kernel.nested else { return Ok(look) };
        let mut ready = self.look_again || look;
        let had_settled = std::mem::take(&mut self.has_settled);
        // Cleared before the look: what becomes ready after it is a new edge.
        while let Poll::Ready(edge) = in_tokio.poll_read_ready(cx) {
            edge?.clear_ready();
            ready = true;
            self.was_woken = had_settled;
        }
        Ok(ready)
    }

    /// What is ready. True: look again in the next turn, without waiting.
    ///
    /// # Errors
    /// The kernel's: somebody has closed the poller's descriptor.
    pub fn look(&mut self, py: Python<'_>, found: &mut Found) -> io::Result<bool> {
        let Some(poller) = self.poller() else { return Ok(false) };
        self.begin_look(clock);
        let mut own = 0;
        let count = poller.look(|event| own += usize::from(!self.take(py, event, found)))?;
        self.end_look(count - own, count, found);
        Ok(self.look_again)
    }

    /// As `look`, for what has ended the loop's sleep in the poller just now.
    pub fn woken(&mut self, py: Python<'_>, events: &mut Events, now: u64, found: &mut Found) -> bool {
        self.begin_look(|| now);
        let mut own = 0;
        let count = events.take(|event| own += usize::from(!self.take(py, event, found)));
        self.end_look(count - own, count, found);
        self.look_again
    }

    fn begin_look(&mut self, clock: impl FnOnce() -> u64) {
        self.look_again = false;
        if self.is_watching() {
            self.looked_at = clock();
        }
    }

    /// `count` events of descriptors were found, `all` with the loop's own.
    fn end_look(&mut self, count: usize, all: usize, found: &mut Found) {
        found.events += count;
        let asleep_since = std::mem::take(&mut self.asleep_since);
        let came_back_at_once = asleep_since > 0 && self.looked_at.saturating_sub(asleep_since) < LOOK_AFTER;
        self.expects_more = count > 1 || (count == 1 && (came_back_at_once || self.expects_more && asleep_since == 0));
        self.look_again |= all == EVENTS_AT_ONCE;
        let was_woken = std::mem::take(&mut self.was_woken);
        if count > 0 {
            self.for_nothing = 0;
        } else if REPORTS_CLOSED && was_woken && self.kernel.may_know_closed {
            self.for_nothing += 1;
            self.in_vain += usize::from(self.for_nothing >= WOKEN_FOR_NOTHING);
        }
        if REPORTS_CLOSED && self.in_vain > 0 && self.in_vain * RENEWED_PER_EVENT >= self.kernel.registered {
            self.in_vain = 0;
            // Without a descriptor for another poller this one does, and the next events ask again.
            if let Ok(nested) = self.renew(&mut found.wakers) {
                self.kernel.nested = Some(nested);
                self.kernel.may_know_closed = false;
                self.for_nothing = 0;
                self.look_again = true;
            }
        }
    }

    /// Whether the kernel tells of transports.
    pub fn has_transports(&self) -> bool {
        self.transports > 0
    }

    /// Whether the kernel tells of a descriptor of the program's. The loop has one of its own, for signals.
    pub fn is_watching(&self) -> bool {
        self.transports > 0 || self.kernel.registered > 1 || !self.unchecked.is_empty()
    }

    /// Whether there is something to look at, and the last look was a while ago.
    pub fn is_look_due(&self, clock: impl Fn() -> u64) -> bool {
        self.is_watching() && clock() - self.looked_at >= LOOK_AFTER
    }

    /// Whether the last look says that another one may find something before the loop has gone to sleep and come back.
    /// It has found several; or it has found one, and without such a look the loop would have slept for no time at all
    /// (both ends of a connection are on this loop, say).
    pub fn expects_more(&self) -> bool {
        self.expects_more
    }

    /// The kernel is to tell this descriptor's transport of this, and no more.
    ///
    /// # Errors
    /// The kernel's: it is not told then.
    pub fn tell_transport(&mut self, fd: RawFd, tells: Interest) -> io::Result<()> {
        let before = self.entry(fd).tells_transport;
        self.entry(fd).tells_transport = tells;
        let told = self.tell(fd);
        if told.is_err() {
            self.entry(fd).tells_transport = Interest::NONE;
        }
        let now = self.entry(fd).tells_transport;
        self.transports = self.transports + usize::from(!now.is_empty()) - usize::from(!before.is_empty());
        told
    }

    /// False: it is one of the loop's own, which has done all it is for.
    fn take(&mut self, py: Python<'_>, event: Event, found: &mut Found) -> bool {
        let fd = event.of.fd;
        if event.of.generation == OWN {
            return false;
        }
        let known = self.watched.get_mut(fd);
        let Some(watched) = known.filter(|it| it.generation == event.of.generation && !it.told.is_empty()) else {
            self.in_vain += 1;
            return true;
        };
        if event.more_than_data {
            watched.data = Data::Always;
        } else if event.ready.read && watched.data == Data::Drained {
            watched.data = Data::Perhaps;
        }
        if !watched.tells_transport.is_empty()
            && let Some(transport) = watched.transport(py)
        {
            found.transports.push((transport.unbind(), event));
        }
        let unwanted = event.ready.and(watched.told).without(watched.wanted());
        for side in Side::BOTH {
            if !side.interest().is_within(event.ready) {
                continue;
            }
            if let Some(callback) = watched.callback(side) {
                found.handles.push(callback.clone_ref(py));
                self.look_again = true;
            }
            watched.take_waiters(side, &mut found.wakers);
        }
        if unwanted.is_empty() {
            loosen(&mut self.loose, fd, watched);
            return true;
        }
        let less = watched.told.without(unwanted);
        if self.kernel.tell(fd, watched, less).is_err() {
            self.in_vain += 1;
            watched.take_all_waiters(&mut found.wakers);
        }
        true
    }

    /// A poller that knows what this one should know, and no more.
    ///
    /// # Errors
    /// There is no descriptor, no memory or no watch left for it. Nothing has changed then.
    fn renew(&mut self, wakers: &mut Vec<Waker>) -> io::Result<Nested> {
        let mut nested = Nested::new()?;
        if self.kernel.nested.as_ref().is_some_and(|old| old.in_tokio.is_some()) {
            nested.register()?;
        }
        self.kernel.own.iter().try_for_each(|&fd| nested.add_own(fd))?;
        let mut closed = Vec::new();
        for (fd, watched) in self.watched.iter().filter(|(_, watched)| !watched.told.is_empty()) {
            let registration = Registration { fd, generation: watched.generation };
            match nested.poller.set(registration, watched.told, Interest::NONE, watched.trigger()) {
                Ok(_) => {}
                Err(failed) if matches!(failed.raw_os_error(), Some(libc::EBADF | libc::EPERM)) => closed.push(fd),
                Err(failed) => return Err(failed),
            }
        }
        for fd in closed {
            if let Some(watched) = self.watched.get_mut(fd) {
                watched.told = Interest::NONE;
                self.kernel.registered -= 1;
                watched.take_all_waiters(wakers);
            }
        }
        Ok(nested)
    }

    /// The loop is about to sleep: the kernel is to know exactly what is waited for. Those to wake, who wait for what
    /// cannot be watched any more.
    #[must_use = "a waker that is dropped wakes nobody"]
    pub fn settle(&mut self) -> Vec<Waker> {
        self.has_settled = true;
        if self.transports > 0 {
            self.asleep_since = clock();
        }
        let mut wakers = Vec::new();
        while let Some(fd) = self.loose.pop() {
            let Some(watched) = self.watched.get_mut(fd).filter(|watched| watched.is_loose) else { continue };
            watched.is_loose = false;
            let wanted = watched.wanted();
            if wanted != watched.told && self.kernel.tell(fd, watched, wanted).is_err() {
                watched.take_all_waiters(&mut wakers);
            }
        }
        wakers
    }

    /// When the waits that began without telling the kernel are to be checked.
    #[inline]
    pub fn next_check(&mut self, clock: impl Fn() -> u64) -> Option<u64> {
        if self.unchecked.is_empty() {
            return None;
        }
        if self.check_at == 0 {
            self.check_at = clock() + CHECK_AFTER;
        }
        Some(self.check_at)
    }

    /// As `check`, now and then, in a loop that has no time to sleep.
    #[inline]
    pub fn check_while_busy(&mut self, clock: impl Fn() -> u64) -> Vec<Waker> {
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(LOOKS_PER_CHECK) && self.next_check(&clock).is_some() {
            return self.check(clock());
        }
        Vec::new()
    }

    /// Tell the kernel of the waits that take long. Those to wake, who wait for what cannot be watched any more.
    #[must_use = "a waker that is dropped wakes nobody"]
    pub fn check(&mut self, now: u64) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if self.check_at == 0 || now < self.check_at {
            return wakers;
        }
        let Self { kernel, watched, unchecked, period, .. } = self;
        unchecked.retain(|&fd| {
            let Some(watched) = watched.get_mut(fd).filter(|watched| watched.is_unchecked) else { return false };
            let waits = watched.has_waiters();
            let waits_long = waits && watched.since != *period;
            if waits_long {
                let wanted = watched.wanted();
                if kernel.tell(fd, watched, wanted).is_err() {
                    watched.take_all_waiters(&mut wakers);
                }
            }
            watched.is_unchecked = waits && !waits_long;
            watched.is_unchecked
        });
        *period = period.wrapping_add(1);
        self.check_at = if self.unchecked.is_empty() { 0 } else { now + CHECK_AFTER };
        wakers
    }
}

/// Note it if the kernel knows more than is waited for.
#[inline]
fn loosen(loose: &mut Vec<RawFd>, fd: RawFd, watched: &mut Watched) {
    if !watched.is_loose && watched.wanted() != watched.told {
        watched.is_loose = true;
        loose.push(fd);
    }
}
