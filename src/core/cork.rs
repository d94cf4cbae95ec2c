//! When the writes of a connection are gathered: of one that writes a message in several pieces, a head and a body say,
//! so that each piece would be a system call and a packet of its own.
//!
//! A connection learns it: two writes in one batch of callbacks say that the next callback in which it writes may bring
//! several, too; a callback that brings one says the opposite. While it is *corked* its writes wait for the end of the
//! callback, and a little longer where many connections write (`sched::after`).

/// What a connection knows of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cork {
    /// The batch that it last wrote in; 0 when in none.
    wrote_in: u64,
    in_pieces: bool,
    /// How many writes have been gathered and are not sent yet.
    gathered: usize,
}

impl Cork {
    /// Something is written in this batch (from 1 on), with nothing waiting to be sent. True: for the first time in it.
    #[inline]
    pub fn writes_in(&mut self, batch: u64) -> bool {
        std::mem::replace(&mut self.wrote_in, batch) != batch
    }

    /// It is sent at once. `first`: what `writes_in` has said.
    #[inline]
    pub fn sent_at_once(&mut self, first: bool) {
        self.in_pieces |= !first;
    }

    /// Whether what is written now, with nothing waiting to be sent, is to wait for more.
    #[inline]
    pub fn is_worth_it(&self) -> bool {
        self.in_pieces
    }

    /// What is written is gathered. True: it is the first that is.
    #[must_use = "somebody has to pull it"]
    pub fn put_in(&mut self) -> bool {
        self.gathered += 1;
        self.gathered == 1
    }

    /// Whether what has not been sent has been gathered, and does not wait for the kernel.
    #[inline]
    pub fn is_in(&self) -> bool {
        self.gathered > 0
    }

    /// What was gathered goes out now.
    pub fn pull(&mut self) {
        self.in_pieces = self.gathered > 1;
        self.gathered = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_wrote_twice_in_a_turn_is_corked_until_it_writes_once() {
        let mut cork = Cork::default();
        for (batch, first) in [(1, true), (2, true), (2, false)] {
            assert!(!cork.is_worth_it());
            assert_eq!(cork.writes_in(batch), first);
            cork.sent_at_once(first);
        }
        assert!(cork.is_worth_it() && !cork.is_in());
        for writes in [2, 5, 1] {
            assert!(cork.is_worth_it());
            for number in 0..writes {
                assert_eq!(cork.put_in(), number == 0);
                assert!(cork.is_in());
            }
            cork.pull();
        }
        assert!(!cork.is_worth_it() && !cork.is_in());
    }
}
