//! What other threads hand to the loop without the GIL, and the protocol that wakes the loop for it exactly when it
//! would not look by itself.
//!
//! The consumer is the loop's thread. Its `attention` is one of
//!
//! | state      | meaning                                             | a producer then                     |
//! |------------|-----------------------------------------------------|-------------------------------------|
//! | `Looking`  | the turn is running and looks again before it ends  | does nothing more                   |
//! | `Away`     | the turn has ended; nobody looks unless woken       | sets `Called`, wakes as `Away` says |
//! | `Called`   | a wake is on its way                                | does nothing more                   |
//!
//! `leave` sets `Away` and then looks once more; a producer puts its message in and then reads the state. With
//! sequential consistency one of the two sees the other (Dekker), so no message waits unseen.

use std::collections::VecDeque;

#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, Ordering},
};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

/// How many messages one look takes.
const AT_ONCE: usize = 1024;

const LOOKING: u8 = 0;
const CALLED: u8 = 1;

/// The turn has ended, and what it takes to have the loop look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Away {
    /// The waker of its root future.
    ForWaker = 2,
    /// The bell of its own poller.
    ForBell = 3,
}

impl Away {
    #[inline]
    fn of(attention: u8) -> Option<Self> {
        match attention {
            2 => Some(Self::ForWaker),
            3 => Some(Self::ForBell),
            _ => None,
        }
    }
}

/// Keeps a message that is sent again and again out of the inbox while it is in it.
///
/// Who is to see the message lowers the flag first and looks then, so that he sees what was done before the last
/// `raise`: in this look, or in the one that the next message brings.
#[derive(Debug)]
pub struct Sent(AtomicBool);

impl Default for Sent {
    fn default() -> Self {
        Self(AtomicBool::new(false))
    }
}

impl Sent {
    /// True: the message is to be sent.
    #[must_use = "a raised flag keeps out what was not sent, too"]
    pub fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }

    /// Whether `raise` would be false.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The message has been taken out.
    pub fn lower(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Messages from any thread to one loop.
#[derive(Debug)]
pub struct Inbox<T> {
    messages: Mutex<Messages<T>>,
    /// True while `messages` may hold something: spares the loop the lock in each turn.
    filled: AtomicBool,
    attention: AtomicU8,
}

#[derive(Debug)]
struct Messages<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let messages = Messages { waiting: VecDeque::new(), closed: false };
        Self {
            messages: Mutex::new(messages),
            filled: AtomicBool::new(false),
            attention: AtomicU8::new(Away::ForWaker as u8),
        }
    }
}

impl<T> Inbox<T> {
    fn lock(&self) -> MutexGuard<'_, Messages<T>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Put a message in, or drop it when the inbox is closed. How the caller must wake the loop, if it must.
    #[must_use = "a loop that is away sees the message only when woken"]
    pub fn push(&self, message: T) -> Option<Away> {
        {
            let mut messages = self.lock();
            if messages.closed {
                // Dropped after the lock: a destructor may come back here.
                drop(messages);
                drop(message);
                return None;
            }
            messages.waiting.push_back(message);
            self.filled.store(true, Ordering::SeqCst);
        }
        self.call()
    }

    /// Ask for the loop's attention. How the caller must wake it, if it must.
    #[must_use = "a loop that is away looks only when woken"]
    #[inline]
    pub fn call(&self) -> Option<Away> {
        // The plain read keeps the common case (the loop is looking) free of a locked instruction.
        let away = Away::of(self.attention.load(Ordering::SeqCst))?;
        let called = self.attention.compare_exchange(away as u8, CALLED, Ordering::SeqCst, Ordering::SeqCst);
        called.is_ok().then_some(away)
    }

    /// The loop's thread begins to look.
    pub fn enter(&self) {
        self.attention.store(LOOKING, Ordering::SeqCst);
    }

    /// The loop's thread stops looking. False: something came meanwhile, look again.
    #[must_use = "a message may have come"]
    pub fn leave(&self, away: Away) -> bool {
        self.attention.store(away as u8, Ordering::SeqCst);
        if self.filled.load(Ordering::SeqCst) {
            self.attention.store(LOOKING, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Whether `take` would find any: one plain read.
    #[inline(always)]
    pub fn may_have_some(&self) -> bool {
        self.filled.load(Ordering::SeqCst)
    }

    /// Take the messages, oldest first, by swapping `into` (empty) in; `AT_ONCE` at most, as the loop has other things
    /// to do, and threads may send faster than it looks at what they send.
    #[inline]
    pub fn take(&self, into: &mut VecDeque<T>) -> bool {
        if !self.may_have_some() {
            return false;
        }
        let mut messages = self.lock();
        if messages.waiting.len() > AT_ONCE {
            into.extend(messages.waiting.drain(..AT_ONCE));
        } else {
            self.filled.store(false, Ordering::SeqCst);
            std::mem::swap(&mut messages.waiting, into);
        }
        true
    }

    /// Nobody will look any more. Gives what nobody has looked at, for the caller to drop.
    #[must_use = "dropping a message may run anything: say where"]
    pub fn close(&self) -> VecDeque<T> {
        let mut messages = self.lock();
        messages.closed = true;
        self.filled.store(false, Ordering::SeqCst);
        std::mem::take(&mut messages.waiting)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::{Arc, atomic::AtomicUsize};

    #[test]
    fn loom_no_message_waits_unseen() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::default());
            let woken = Arc::new(AtomicUsize::new(0));
            let producer = {
                let (inbox, woken) = (inbox.clone(), woken.clone());
                loom::thread::spawn(move || {
                    if inbox.push(1).is_some() {
                        woken.fetch_add(1, Ordering::SeqCst);
                    }
                })
            };
            let mut got = VecDeque::new();
            inbox.enter();
            loop {
                let mut batch = VecDeque::new();
                inbox.take(&mut batch);
                got.append(&mut batch);
                if inbox.leave(Away::ForWaker) {
                    break;
                }
            }
            producer.join().expect("the producer ends");
            // Seen in the turn, or the producer was told to wake the loop, which then looks again.
            let waiting = woken.load(Ordering::SeqCst) == 1;
            assert!(got == [1] || waiting);
        });
    }

    /// The loop sleeps by its bell, something else ends that, and it sleeps for its waker: a bell that is rung late
    /// does not end this sleep, nor does it need to.
    #[test]
    fn loom_a_wake_ends_the_sleep_that_has_not_seen_the_message() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::default());
            let woken = Arc::new(AtomicBool::new(false));
            let producer = {
                let (inbox, woken) = (inbox.clone(), woken.clone());
                loom::thread::spawn(move || {
                    if inbox.push(1) == Some(Away::ForWaker) {
                        woken.store(true, Ordering::SeqCst);
                    }
                })
            };
            let mut got = VecDeque::new();
            for away in [Away::ForBell, Away::ForWaker] {
                inbox.enter();
                loop {
                    let mut batch = VecDeque::new();
                    inbox.take(&mut batch);
                    got.append(&mut batch);
                    if inbox.leave(away) {
                        break;
                    }
                }
            }
            producer.join().expect("the producer ends");
            assert!(got == [1] || woken.load(Ordering::SeqCst));
        });
    }

    /// A task's wakes (`TaskShared`), by value and by reference.
    #[test]
    fn loom_no_wake_is_lost_in_its_flag() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::default());
            let queued = Arc::new(Sent::default());
            let done = Arc::new(AtomicU8::new(0));
            let producer = {
                let (inbox, queued, done) = (inbox.clone(), queued.clone(), done.clone());
                loom::thread::spawn(move || {
                    let mut woken = false;
                    for step in 1..=2 {
                        done.store(step, Ordering::SeqCst);
                        let by_value = step == 1 || !queued.is_raised();
                        woken |= by_value && queued.raise() && inbox.push(()).is_some();
                    }
                    woken
                })
            };
            let mut seen = 0;
            let mut turn = || {
                inbox.enter();
                loop {
                    let mut batch = VecDeque::new();
                    inbox.take(&mut batch);
                    for () in batch {
                        queued.lower();
                        seen = done.load(Ordering::SeqCst);
                    }
                    if inbox.leave(Away::ForWaker) {
                        break;
                    }
                }
            };
            turn();
            if producer.join().expect("the producer ends") {
                turn();
            }
            assert_eq!(seen, 2);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_message_to_a_loop_that_is_away_wakes_it() {
        let inbox = Inbox::default();
        assert_eq!(inbox.push(1), Some(Away::ForWaker));
        assert_eq!(inbox.push(2), None);
        inbox.enter();
        assert_eq!(inbox.push(3), None);
        let mut got = VecDeque::new();
        assert!(inbox.take(&mut got));
        assert_eq!(got, [1, 2, 3]);
        assert!(inbox.leave(Away::ForBell));
        assert_eq!(inbox.push(4), Some(Away::ForBell));
    }

    #[test]
    fn a_closed_inbox_holds_nothing() {
        let inbox = Inbox::default();
        let message = std::rc::Rc::new(());
        assert!(inbox.push(message.clone()).is_some());
        assert_eq!(inbox.close().len(), 1);
        assert_eq!(inbox.push(message.clone()), None);
        assert_eq!(std::rc::Rc::strong_count(&message), 1);
        inbox.enter();
        assert!(inbox.leave(Away::ForWaker));
    }

    #[test]
    fn a_flood_of_messages_is_taken_in_parts_and_in_order() {
        let inbox = Inbox::default();
        for message in 0..2 * AT_ONCE + 1 {
            // The first finds a loop that is away.
            assert_eq!(inbox.push(message).is_some(), message == 0);
        }
        inbox.enter();
        let (mut got, mut part) = (Vec::new(), VecDeque::new());
        while inbox.take(&mut part) {
            assert!(part.len() <= AT_ONCE);
            got.extend(part.drain(..));
            assert_eq!(inbox.leave(Away::ForWaker), got.len() == 2 * AT_ONCE + 1);
        }
        assert!(got.into_iter().eq(0..2 * AT_ONCE + 1));
    }

    #[test]
    fn leaving_with_a_message_in_the_box_is_refused() {
        let inbox = Inbox::default();
        inbox.enter();
        assert_eq!(inbox.push(1), None);
        assert!(!inbox.leave(Away::ForWaker));
    }
}
