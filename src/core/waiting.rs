//! Datagrams that wait to be sent: whole ones, each to its address, in their order.

use std::collections::VecDeque;

/// Datagrams that wait for a socket that takes no more now.
#[derive(Debug)]
pub struct Waiting<T, A> {
    datagrams: VecDeque<(T, A)>,
    /// What they count for in all.
    size: usize,
    /// What each counts for beside its bytes.
    header: usize,
}

impl<T: AsRef<[u8]>, A> Waiting<T, A> {
    pub fn new(header: usize) -> Self {
        Self { datagrams: VecDeque::new(), size: 0, header }
    }

    /// What they count for in all.
    pub fn size(&self) -> usize {
        self.size
    }

    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &(T, A)> {
        self.datagrams.iter()
    }

    /// Put one behind the others; an empty one is one.
    pub fn push(&mut self, data: T, address: A) {
        self.size += data.as_ref().len() + self.header;
        self.datagrams.push_back((data, address));
    }

    /// Take the next one out.
    pub fn pop(&mut self) -> Option<(T, A)> {
        let (data, address) = self.datagrams.pop_front()?;
        self.size -= data.as_ref().len() + self.header;
        Some((data, address))
    }

    /// Put one back that was taken out: it is the next again.
    pub fn put_back(&mut self, data: T, address: A) {
        self.size += data.as_ref().len() + self.header;
        self.datagrams.push_front((data, address));
    }

    /// Nothing is left to send. What was, for the caller to drop.
    #[must_use = "what is dropped may run Python code: say where"]
    pub fn clear(&mut self) -> VecDeque<(T, A)> {
        self.size = 0;
        std::mem::take(&mut self.datagrams)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u8>),
        Send,
        SendInVain,
    }

    proptest! {
        #[test]
        fn each_goes_out_once_in_its_order_and_the_size_is_theirs(
            steps in prop::collection::vec(
                prop_oneof![prop::collection::vec(any::<u8>(), 0..9).prop_map(Step::Push), Just(Step::Send), Just(Step::SendInVain)],
                0..60,
            ),
            header in 0..9_usize,
        ) {
            let mut waiting = Waiting::new(header);
            let (mut given, mut gone) = (Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Push(data) => {
                        waiting.push(data.clone(), given.len());
                        given.push(data);
                    }
                    Step::Send => {
                        if let Some(next) = waiting.pop() {
                            prop_assert_eq!(&next, &(given[gone].clone(), gone));
                            gone += 1;
                        }
                    }
                    Step::SendInVain => {
                        if let Some((data, address)) = waiting.pop() {
                            waiting.put_back(data, address);
                        }
                    }
                }
                let left = &given[gone..];
                prop_assert_eq!(waiting.is_empty(), left.is_empty());
                prop_assert_eq!(waiting.size(), left.iter().map(|data| data.len() + header).sum::<usize>());
                prop_assert!(waiting.iter().map(|(data, _)| data).eq(left));
            }
            prop_assert_eq!(waiting.clear().len(), given.len() - gone);
            prop_assert_eq!(waiting.size(), 0);
        }
    }
}
