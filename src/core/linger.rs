//! Whether a loop that has nothing to do waits for a moment before it sleeps: what it has asked of another thread may
//! be back before it is asleep.
//!
//! Numbers only, for the loop's thread: the clock, in nanoseconds, is the caller's, and so is the waiting. It begins
//! after sleeps that one message has ended at once, several in a row, and ends with the first wait for nothing, or for
//! several:
//!
//! | state     | the loop                                             | then                                             |
//! |-----------|------------------------------------------------------|--------------------------------------------------|
//! | `Sleeps`  | sleeps when it has nothing to do                     | `Eager` after enough short sleeps                |
//! | `Eager`   | looks for a message when it has nothing to do        | `Waiting`                                        |
//! | `Waiting` | looks for a message                                  | `Eager` with one; `Sleeps` when the time is up   |
//!
//! Each wait for nothing doubles the number of short sleeps that the next one takes, and each message that was waited
//! for halves it.

/// A sleep that a message ends sooner was not worth it: to fall asleep and be woken takes 10 to 50 us.
const SHORT: u64 = 100_000;
/// How long to wait. What is asked of a thread that sleeps is back in 5 to 50 us.
const PATIENCE: u64 = 50_000;
/// How many short sleeps in a row a wait takes, at least and at most.
const FEWEST: u32 = 4;
const MOST: u32 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// After so many short sleeps in a row.
    Sleeps {
        short: u32,
    },
    Eager,
    Waiting {
        until: u64,
    },
}

/// The patience of one run of a loop.
#[derive(Debug)]
pub struct Linger {
    state: State,
    /// How many short sleeps the next wait takes.
    price: u32,
}

impl Default for Linger {
    fn default() -> Self {
        Self { state: State::Sleeps { short: 0 }, price: FEWEST }
    }
}

impl Linger {
    /// Whether `waits` may say yes: the loop need not read the clock for a no.
    #[inline(always)]
    pub fn is_awake(&self) -> bool {
        matches!(self.state, State::Eager | State::Waiting { .. })
    }

    /// There is nothing to do: whether to look for a message again before the loop sleeps.
    #[must_use = "a yes is to be followed by a look"]
    pub fn waits(&mut self, now: u64) -> bool {
        match self.state {
            State::Eager => {
                self.state = State::Waiting { until: now + PATIENCE };
                true
            }
            State::Waiting { until } if now < until => true,
            State::Waiting { .. } => {
                self.price = (self.price * 2).min(MOST);
                self.state = State::Sleeps { short: 0 };
                false
            }
            State::Sleeps { .. } => false,
        }
    }

    /// So many messages have come, one at least. Of several that are on their way a sleep collects more than a look
    /// does.
    #[inline(always)]
    pub fn got_messages(&mut self, count: usize) {
        if count > 1 {
            self.state = State::Sleeps { short: 0 };
        } else if let State::Waiting { .. } = self.state {
            self.price = (self.price / 2).max(FEWEST);
            self.state = State::Eager;
        }
    }

    /// The loop has slept for so long. `by_message`: a message has ended it.
    #[inline]
    pub fn slept(&mut self, took: u64, by_message: bool) {
        let State::Sleeps { short } = self.state else { return };
        let short = if by_message && took < SHORT { short + 1 } else { 0 };
        self.state = if short < self.price { State::Sleeps { short } } else { State::Eager };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// So many sleeps that a message ends at once.
    fn sleep_shortly(linger: &mut Linger, times: u32) {
        for _ in 0..times {
            assert!(!linger.waits(0));
            linger.slept(SHORT - 1, true);
        }
    }

    #[test]
    fn it_waits_after_short_sleeps_in_a_row_and_only_for_so_long() {
        let mut linger = Linger::default();
        sleep_shortly(&mut linger, FEWEST);
        assert!(linger.waits(10));
        assert!(linger.waits(10 + PATIENCE - 1));
        assert!(!linger.waits(10 + PATIENCE));
        assert!(!linger.waits(10 + PATIENCE));
    }

    #[test]
    fn a_message_that_was_waited_for_makes_it_wait_again() {
        let mut linger = Linger::default();
        sleep_shortly(&mut linger, FEWEST);
        for _ in 0..100 {
            assert!(linger.waits(0));
            linger.got_messages(1);
        }
    }

    #[test]
    fn messages_that_come_together_are_waited_for_asleep() {
        let mut linger = Linger::default();
        for _ in 0..10 {
            sleep_shortly(&mut linger, FEWEST - 1);
            linger.got_messages(2);
        }
        sleep_shortly(&mut linger, FEWEST);
        assert!(linger.waits(0));
        linger.got_messages(2);
        assert!(!linger.waits(0));
    }

    #[test]
    fn a_long_sleep_or_one_that_no_message_ends_is_no_short_one() {
        for (message, took) in [(true, SHORT), (false, 1)] {
            let mut linger = Linger::default();
            sleep_shortly(&mut linger, FEWEST - 1);
            linger.slept(took, message);
            sleep_shortly(&mut linger, FEWEST - 1);
            assert!(!linger.waits(0));
        }
    }

    #[test]
    fn waits_for_nothing_become_rare() {
        let mut linger = Linger::default();
        let mut sleeps = FEWEST;
        for _ in 0..20 {
            sleep_shortly(&mut linger, sleeps);
            assert!(linger.waits(0));
            assert!(!linger.waits(PATIENCE));
            sleeps = (sleeps * 2).min(MOST);
        }
        assert_eq!(sleeps, MOST);
    }

    #[test]
    fn a_loop_that_sleeps_as_long_as_it_likes_never_waits() {
        let mut linger = Linger::default();
        for _ in 0..1000 {
            assert!(!linger.waits(0));
            linger.slept(SHORT, true);
            assert!(!linger.is_awake());
        }
    }
}
