//! A table by descriptor. The kernel gives the smallest number that is free, so small ones are places in a list, which
//! is as long as the largest of them; a program may choose a large one (`dup2`), which is looked up.

use std::collections::HashMap;
use std::os::fd::RawFd;

/// From here on numbers are looked up: the list of those below takes half a megabyte at most.
const LARGE: RawFd = 1 << 16;

/// What is known of descriptors, by their numbers.
#[derive(Debug)]
pub struct Table<T> {
    small: Vec<Option<Box<T>>>,
    large: HashMap<RawFd, Box<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { small: Vec::new(), large: HashMap::new() }
    }
}

impl<T> Table<T> {
    #[inline]
    pub fn get_mut(&mut self, fd: RawFd) -> Option<&mut T> {
        if fd >= LARGE {
            return self.large.get_mut(&fd).map(Box::as_mut);
        }
        self.small.get_mut(usize::try_from(fd).ok()?)?.as_deref_mut()
    }

    /// What is known of the descriptor, put in if there was nothing.
    ///
    /// # Panics
    /// For a negative number.
    pub fn get_or_insert(&mut self, fd: RawFd) -> &mut T
    where
        T: Default,
    {
        if fd >= LARGE {
            return self.large.entry(fd).or_default();
        }
        let index = usize::try_from(fd).expect("no descriptor has a negative number");
        if index >= self.small.len() {
            self.small.resize_with(index + 1, || None);
        }
        self.small[index].get_or_insert_default()
    }

    /// Take out what is known of a descriptor of a large number. Small ones stay: they are used again.
    pub fn remove_large(&mut self, fd: RawFd) -> Option<Box<T>> {
        self.large.remove(&fd)
    }

    pub fn into_values(self) -> impl Iterator<Item = Box<T>> {
        self.small.into_iter().flatten().chain(self.large.into_values())
    }

    /// All of them, the small numbers in their order.
    pub fn iter(&self) -> impl Iterator<Item = (RawFd, &T)> {
        let small = (0..).zip(&self.small).filter_map(|(fd, known)| known.as_deref().map(|known| (fd, known)));
        small.chain(self.large.iter().map(|(&fd, known)| (fd, &**known)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_numbers_are_found() {
        let mut table = Table::<RawFd>::default();
        let all = [0, 3, LARGE - 1, LARGE, RawFd::MAX];
        for fd in all {
            assert!(table.get_mut(fd).is_none());
            *table.get_or_insert(fd) = fd;
            assert_eq!(table.get_mut(fd), Some(&mut { fd }));
            assert_eq!(*table.get_or_insert(fd), fd);
        }
        let mut listed: Vec<_> = table.iter().map(|(fd, &known)| (fd, known)).collect();
        listed.sort_unstable();
        assert_eq!(listed, all.map(|fd| (fd, fd)));
    }

    #[test]
    fn what_is_no_descriptor_is_not_in_it() {
        let mut table = Table::<()>::default();
        assert!(table.get_mut(-1).is_none());
        assert!(table.get_mut(RawFd::MIN).is_none());
    }

    #[test]
    fn a_large_number_takes_no_room_for_those_below_and_goes() {
        let mut table = Table::<u8>::default();
        *table.get_or_insert(RawFd::MAX) = 1;
        assert_eq!(table.small.capacity(), 0);
        assert_eq!(table.remove_large(RawFd::MAX), Some(Box::new(1)));
        assert_eq!(table.iter().count(), 0);
    }
}
