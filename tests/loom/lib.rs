//! `src/core/inbox.rs` as a crate of its own, with this crate in the place of loom.
//!
//! loom takes SeqCst accesses for AcqRel ones and would let a load pass an earlier store to another place, which is
//! what the protocol rules out (a false alarm). Its SeqCst *fences* are real, so the atomics here are loom's with a
//! fence after each store and before each load: what SeqCst accesses are compiled to where the processor has no
//! better way. The inbox uses no other ordering; one that it did use would be checked as if it were SeqCst, so
//! anything else is refused.

#![cfg(loom)]

extern crate self as loom;

#[path = "../../src/core/inbox.rs"]
pub mod inbox;

pub use checker::{model, thread};

pub mod sync {
    pub use checker::sync::{Arc, Mutex, MutexGuard};

    pub mod atomic {
        use checker::sync::atomic::fence;
        pub use checker::sync::atomic::{AtomicUsize, Ordering};

        fn all_in_one_order(order: Ordering) {
            assert_eq!(order, Ordering::SeqCst, "only SeqCst is modelled");
            fence(Ordering::SeqCst);
        }

        macro_rules! sequential {
            ($name:ident, $value:ty) => {
                #[derive(Debug)]
                pub struct $name(checker::sync::atomic::$name);

                impl $name {
                    pub fn new(value: $value) -> Self {
                        Self(checker::sync::atomic::$name::new(value))
                    }

                    pub fn load(&self, order: Ordering) -> $value {
                        all_in_one_order(order);
                        self.0.load(order)
                    }

                    pub fn store(&self, value: $value, order: Ordering) {
                        self.0.store(value, order);
                        all_in_one_order(order);
                    }

                    pub fn compare_exchange(
                        &self,
                        current: $value,
                        new: $value,
                        success: Ordering,
                        failure: Ordering,
                    ) -> Result<$value, $value> {
                        all_in_one_order(failure);
                        let done = self.0.compare_exchange(current, new, success, failure);
                        all_in_one_order(success);
                        done
                    }
                }
            };
        }

        sequential!(AtomicBool, bool);

        impl AtomicBool {
            pub fn swap(&self, value: bool, order: Ordering) -> bool {
                all_in_one_order(order);
                let before = self.0.swap(value, order);
                all_in_one_order(order);
                before
            }
        }

        sequential!(AtomicU8, u8);
    }
}
