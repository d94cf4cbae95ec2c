//! The pure parts of the loop, measured alone: what one turn pays for its queues before Python comes in.
//!
//! ```text
//! cargo bench --bench core                # all
//! cargo bench --bench core -- timers      # those whose name contains "timers"
//! ```
//!
//! The numbers are per element: the time of one callback's way through the ready queue, one timer's through the heap,
//! one message's through the inbox.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use pyloop::internals::{Away, Inbox, Lane, ReadyQueue, Timers};

/// As large as the loop's own entries (a tag and three references).
type Entry = [usize; 4];

const ENTRY: Entry = [1, 2, 3, 4];

fn group<'a>(c: &'a mut Criterion, name: &str, elements: u64) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(elements));
    group
}

fn run_batches(queue: &mut ReadyQueue<Entry>) -> usize {
    let mut ran = 0;
    while queue.begin_batch() {
        while let Some(entry) = queue.next_of_batch() {
            black_box(entry);
            ran += 1;
        }
    }
    ran
}

/// Push and run: one entry a batch (a task that gives way again and again), a batch of 1,000, and all three lanes.
fn ready_queue(c: &mut Criterion) {
    let mut one = group(c, "ready/one a batch", 1);
    one.bench_function("normal", |b| {
        let mut queue = ReadyQueue::default();
        b.iter(|| {
            queue.push(black_box(ENTRY));
            run_batches(&mut queue)
        });
    });
    one.finish();

    let mut many = group(c, "ready/1000 a batch", 1_000);
    many.bench_function("normal", |b| {
        let mut queue = ReadyQueue::default();
        b.iter(|| {
            for _ in 0..1_000 {
                queue.push(black_box(ENTRY));
            }
            run_batches(&mut queue)
        });
    });
    many.bench_function("three lanes", |b| {
        let mut queue = ReadyQueue::default();
        b.iter(|| {
            for i in 0..1_000_u32 {
                let lane = match i % 10 {
                    0 => Lane::High,
                    1 => Lane::Low,
                    _ => Lane::Normal,
                };
                queue.push_to(lane, black_box(ENTRY));
            }
            run_batches(&mut queue)
        });
    });
    many.finish();
}

/// Deadlines that are neither sorted nor random to the compiler (a linear congruential generator).
fn deadlines(count: u64) -> Vec<u64> {
    let mut state = 42_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 32
    };
    (0..count).map(next).collect()
}

fn filled(whens: &[u64]) -> Timers<u64> {
    let mut timers = Timers::default();
    for &when in whens {
        timers.push(when, when);
    }
    timers
}

fn timers(c: &mut Criterion) {
    for count in [1_000, 100_000] {
        let whens = deadlines(count);
        let mut earliest_first = whens.clone();
        earliest_first.sort_unstable();
        let mut group = group(c, &format!("timers/{count} pending"), count);
        group.sample_size(20);
        group.bench_function("push all", |b| b.iter(|| filled(black_box(&whens))));
        group.bench_function("pop all in order", |b| {
            b.iter_batched_ref(
                || filled(&whens),
                |timers| {
                    while let Some(item) = timers.pop_due(u64::MAX) {
                        black_box(item);
                    }
                },
                BatchSize::LargeInput,
            );
        });
        // The passes that remove them are paid here: nothing cancelled is left to pile up.
        group.bench_function("cancel all", |b| {
            b.iter_batched_ref(
                || filled(&whens),
                |timers| {
                    for &when in &earliest_first {
                        // Cancelled so far: all deadlines up to this one.
                        if timers.note_cancelled() {
                            black_box(timers.take_cancelled(|&item| item <= when));
                        }
                    }
                },
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }

    // A timeout that does not strike, beside 1,000 pending timers: `asyncio.timeout` around something quick.
    let mut timeout = group(c, "timers/timeout not reached", 1);
    timeout.bench_function("push and cancel", |b| {
        let mut timers = filled(&deadlines(1_000));
        b.iter(|| {
            timers.push(black_box(u64::MAX), u64::MAX);
            if timers.note_cancelled() {
                black_box(timers.take_cancelled(|&item| item == u64::MAX));
            }
        });
    });
    timeout.finish();
}

fn inbox(c: &mut Criterion) {
    let mut alone = group(c, "inbox", 1);
    alone.bench_function("look at an empty one", |b| {
        let (inbox, mut into) = (Inbox::<Entry>::default(), VecDeque::new());
        inbox.enter();
        b.iter(|| black_box(&inbox).take(&mut into));
    });
    alone.bench_function("push to a loop that looks, take", |b| {
        let (inbox, mut into) = (Inbox::default(), VecDeque::new());
        inbox.enter();
        b.iter(|| {
            let wake = inbox.push(black_box(ENTRY));
            let taken = inbox.take(&mut into);
            into.clear();
            (wake, taken)
        });
    });
    alone.bench_function("push to a loop that is away, take, leave", |b| {
        let (inbox, mut into) = (Inbox::default(), VecDeque::new());
        b.iter(|| {
            let wake = inbox.push(black_box(ENTRY));
            inbox.enter();
            let taken = inbox.take(&mut into);
            into.clear();
            (wake, taken, inbox.leave(Away::ForWaker))
        });
    });
    alone.bench_function("push while another thread pushes, take", |b| {
        let (inbox, stop) = (Arc::new(Inbox::default()), Arc::new(AtomicBool::new(false)));
        inbox.enter();
        let other = {
            let (inbox, stop) = (Arc::clone(&inbox), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    black_box(inbox.push(ENTRY));
                    thread::yield_now();
                }
            })
        };
        let mut into = VecDeque::new();
        b.iter(|| {
            let wake = inbox.push(black_box(ENTRY));
            let taken = inbox.take(&mut into);
            into.clear();
            (wake, taken)
        });
        stop.store(true, Ordering::Relaxed);
        drop(other.join());
    });
    alone.finish();
}

criterion_group!(benches, ready_queue, timers, inbox);
criterion_main!(benches);
