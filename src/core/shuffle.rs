//! Another order of what is independent, the same for the same seed. Copied about as the one number that it is.

/// A generator of numbers (SplitMix64: its state is a counter, so every seed is as good as any other).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shuffle(u64);

impl Shuffle {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    /// Give each run of neighbours that have a key another order; what has none stays where it is. A run is put into
    /// the order of its keys first: what comes out does not depend on the order in which it came.
    pub fn rearrange<T>(&mut self, items: &mut [(Option<u64>, T)]) {
        for run in items.chunk_by_mut(|one, next| one.0.is_some() && next.0.is_some()) {
            run.sort_by_key(|item| item.0);
            for last in (1..run.len()).rev() {
                run.swap(last, self.below(last + 1));
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shuffled(seed: u64, keys: &[Option<u64>]) -> Vec<Option<u64>> {
        let mut items: Vec<_> = keys.iter().map(|key| (*key, ())).collect();
        Shuffle::new(seed).rearrange(&mut items);
        items.into_iter().map(|item| item.0).collect()
    }

    #[test]
    fn every_order_comes_up() {
        let keys = [Some(0), Some(1), Some(2), Some(3)];
        let orders: std::collections::BTreeSet<_> = (0..500).map(|seed| shuffled(seed, &keys)).collect();
        assert_eq!(orders.len(), 24);
    }

    #[test]
    fn the_order_in_which_a_run_came_does_not_matter() {
        let (one, other) = ([Some(5), Some(1), Some(3)], [Some(3), Some(5), Some(1)]);
        assert!((0..100).all(|seed| shuffled(seed, &one) == shuffled(seed, &other)));
    }

    proptest! {
        #[test]
        fn what_has_no_key_stays_and_nothing_passes_it(
            seed: u64,
            keys in prop::collection::vec(prop::option::of(0_u64..50), 0..50),
        ) {
            let after = shuffled(seed, &keys);
            let runs = |keys: &[Option<u64>]| -> Vec<Vec<u64>> {
                keys.split(Option::is_none).map(|run| {
                    let mut run: Vec<u64> = run.iter().flatten().copied().collect();
                    run.sort_unstable();
                    run
                }).collect()
            };
            prop_assert_eq!(runs(&after), runs(&keys));
        }
    }
}
