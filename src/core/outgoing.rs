//! What a transport has still to send: chunks of bytes, of which the first may have gone out in part.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Chunks of bytes that wait for a stream that takes no more now.
#[derive(Debug)]
pub struct Outgoing<T> {
    chunks: VecDeque<T>,
    /// How much of the first chunk has gone out.
    gone: usize,
    /// How many bytes are left.
    size: usize,
}

impl<T> Default for Outgoing<T> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), gone: 0, size: 0 }
    }
}

impl<T: AsRef<[u8]>> Outgoing<T> {
    /// How many bytes are left.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many chunks are left.
    pub fn count(&self) -> usize {
        self.chunks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Put a chunk behind the others; an empty one is none.
    pub fn push(&mut self, chunk: T) {
        let length = chunk.as_ref().len();
        if length > 0 {
            self.size += length;
            self.chunks.push_back(chunk);
        }
    }

    /// As `push`, for a chunk of which the first bytes have gone out; it must be the only one.
    pub fn push_rest(&mut self, chunk: T, gone: usize) {
        debug_assert!(self.is_empty(), "bytes would go out of their order");
        let length = chunk.as_ref().len();
        if gone < length {
            self.size = length - gone;
            self.gone = gone;
            self.chunks.push_back(chunk);
        }
    }

    /// The bytes that are to go out next, as far as there are places for them; how many places were filled.
    pub fn fill<'a>(&'a self, places: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (place, chunk) in places.iter_mut().zip(&self.chunks) {
            let from = if count == 0 { self.gone } else { 0 };
            *place = IoSlice::new(&chunk.as_ref()[from..]);
            count += 1;
        }
        count
    }

    /// So many bytes have gone out. The chunks that are done with, for the caller to drop.
    ///
    /// # Panics
    /// When there were not so many.
    pub fn advance(&mut self, count: usize, mut done: impl FnMut(T)) {
        assert!(count <= self.size, "more was sent than there is");
        self.size -= count;
        let mut left = count;
        while let Some(first) = self.chunks.front() {
            let length = first.as_ref().len() - self.gone;
            if left < length {
                self.gone += left;
                return;
            }
            left -= length;
            self.gone = 0;
            self.chunks.pop_front().into_iter().for_each(&mut done);
        }
    }

    /// Nothing is left to send. The chunks that were, for the caller to drop.
    #[must_use = "what is dropped may run Python code: say where"]
    pub fn clear(&mut self) -> VecDeque<T> {
        self.gone = 0;
        self.size = 0;
        std::mem::take(&mut self.chunks)
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u8>),
        Send(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Step::Push),
            (0..60_usize).prop_map(Step::Send),
        ];
        prop::collection::vec(step, 0..60)
    }

    fn next(outgoing: &Outgoing<Vec<u8>>, places: usize) -> Vec<u8> {
        let mut room = vec![IoSlice::new(&[]); places];
        let count = outgoing.fill(&mut room);
        room[..count].iter().flat_map(|place| place.to_vec()).collect()
    }

    proptest! {
        #[test]
        fn bytes_go_out_once_and_in_their_order(steps in steps(), places in 1..5_usize) {
            let mut outgoing = Outgoing::default();
            let (mut given, mut sent) = (Vec::<u8>::new(), Vec::<u8>::new());
            for step in steps {
                match step {
                    Step::Push(chunk) => {
                        given.extend(&chunk);
                        outgoing.push(chunk);
                    }
                    Step::Send(most) => {
                        let offered = next(&outgoing, places);
                        let count = most.min(offered.len());
                        sent.extend(&offered[..count]);
                        outgoing.advance(count, drop);
                    }
                }
                prop_assert_eq!(outgoing.size(), given.len() - sent.len());
                prop_assert_eq!(outgoing.is_empty(), given.len() == sent.len());
                prop_assert!(given.starts_with(&sent));
                let offered = next(&outgoing, 100);
                prop_assert_eq!(&offered[..], &given[sent.len()..]);
            }
        }
    }

    #[test]
    fn the_rest_of_a_chunk_is_what_has_not_gone_out() {
        let mut outgoing = Outgoing::default();
        outgoing.push_rest(b"abcdef".to_vec(), 2);
        assert_eq!((outgoing.size(), next(&outgoing, 1)), (4, b"cdef".to_vec()));
        outgoing.advance(4, drop);
        outgoing.push_rest(b"ab".to_vec(), 2);
        assert!(outgoing.is_empty());
    }
}
