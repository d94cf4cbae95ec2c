//! When a protocol is to stop writing, and when it may go on: asyncio's flow control (`transports._FlowControlMixin`).

/// What the protocol is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    Pause,
    Resume,
}

/// Marks of a write buffer, in bytes, and whether the protocol was told to pause.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub high: usize,
    pub low: usize,
    pub paused: bool,
}

impl Default for Flow {
    fn default() -> Self {
        Self { high: 64 * 1024, low: 16 * 1024, paused: false }
    }
}

impl Flow {
    /// The buffer has grown to this size.
    #[must_use = "the protocol is to be told"]
    pub fn grown(&mut self, size: usize) -> Option<Tell> {
        if self.paused || size <= self.high {
            return None;
        }
        self.paused = true;
        Some(Tell::Pause)
    }

    /// The buffer has shrunk to this size.
    #[must_use = "the protocol is to be told"]
    pub fn shrunk(&mut self, size: usize) -> Option<Tell> {
        if !self.paused || size > self.low {
            return None;
        }
        self.paused = false;
        Some(Tell::Resume)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_protocol_is_told_in_turns(sizes in prop::collection::vec(0..100_usize, 0..50), low in 0..50_usize, more in 0..50_usize) {
            let mut flow = Flow { high: low + more, low, paused: false };
            let mut told = Vec::new();
            for size in sizes {
                told.extend(flow.grown(size));
                prop_assert!(flow.paused || size <= flow.high);
                told.extend(flow.shrunk(size));
                prop_assert!(!flow.paused || size > flow.low);
            }
            for (index, tell) in told.iter().enumerate() {
                prop_assert_eq!(*tell, if index % 2 == 0 { Tell::Pause } else { Tell::Resume });
            }
        }
    }
}
