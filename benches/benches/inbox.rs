//! Stage 10: an entry gets its place in each inbox. `cargo bench -p benches --bench inbox`.
//!
//! Processor time. Entries are placed, said to be durable and folded in rounds of 64 an inbox; one
//! bench counts the placing alone, the other the folding alone. Left out: the journal and the
//! chunks that are written of it (`store`), and loading a user's state.

use std::time::Duration;

use benches::stopwatch::processor_time;
use benches::subjects::{entry, group, user};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use router::fan_out::Users;
use router::inbox::{InboxLimits, InboxLoaded, Inboxes, Notice, Placement};
use wire::{BatchNumber, Conversation, InboxSeq, Seq, UserId};

/// Entries of each inbox between two folds.
const FOLD_AT: u64 = 64;

/// Users in one channel, each with an inbox and one conversation in memory.
struct Town {
    inboxes: Inboxes,
    /// What is said next in each channel, and to whom.
    groups: Vec<(Notice, Users)>,
    seq: Seq,
    place: InboxSeq,
    batch: BatchNumber,
}

impl Town {
    /// `groups` channels of `members` users each; nobody is in two.
    fn new(groups: u64, members: u64) -> Self {
        let mut inboxes = Inboxes::new(InboxLimits::new(1 << 20));
        let place = |index| {
            let first = 1 + index * members;
            let users: Vec<UserId> = (first..first + members).map(user).collect();
            let said = entry(group(index + 1), Seq::ZERO, users[0]);
            (Notice::Logged(said), Users::Many(users.into()))
        };
        let groups: Vec<_> = (0..groups).map(place).collect();
        for (notice, users) in &groups {
            for user in users.iter() {
                let wanted = inboxes.want_head(user).expect("nothing is known yet");
                let conversation = Some((notice.item().channel(), Conversation::default()));
                let (user, head) = (wanted.user, InboxSeq::ZERO);
                inboxes.handle_loaded(InboxLoaded {
                    user,
                    head,
                    cursors: vec![],
                    endings: vec![],
                    conversation,
                });
                inboxes.place_next_parked(user, BatchNumber::ZERO.next());
            }
        }
        let (seq, place, batch) = (Seq::ZERO, InboxSeq::ZERO, BatchNumber::ZERO);
        Self { inboxes, groups, seq, place, batch }
    }

    /// One entry for everybody; each group's of its own channel.
    fn place(&mut self) {
        self.batch = self.batch.next();
        self.seq = self.seq.next();
        for (notice, users) in &mut self.groups {
            if let Notice::Logged(entry) = notice {
                entry.seq = self.seq;
            }
            for user in users.iter() {
                let placement = self.inboxes.place(user, notice, self.batch);
                assert!(matches!(placement, Placement::Placed(_)));
            }
        }
    }

    /// The next `entries` places of everybody are durable.
    fn commit(&mut self, entries: u64) {
        for _ in 0..entries {
            self.place = self.place.next();
            for (_, users) in &self.groups {
                users.iter().for_each(|user| self.inboxes.handle_committed(user, self.place));
            }
        }
    }

    /// Folds everybody and forgets what was folded. Tells how many users that was.
    fn fold(&mut self) -> u64 {
        let mut folded = 0;
        while let Some(fold) = self.inboxes.fold_next(self.batch) {
            let (user, last) = (fold.user, fold.entries.last().expect("not empty").inbox_seq);
            assert_eq!(fold.conversations.len(), 1, "each user has one conversation");
            self.inboxes.handle_folded(user, last, true);
            folded += 1;
        }
        self.inboxes.handle_released(self.batch);
        folded
    }
}

fn place(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("inbox/place");
    let rows = [("one user", 1, 1), ("100 members", 1, 100), ("16,384 users, pairs", 8192, 2)];
    for (name, groups, members) in rows {
        let mut town = Town::new(groups, members);
        bench.throughput(Throughput::Elements(groups * members));
        bench.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_custom(|count| {
                let mut elapsed = Duration::ZERO;
                let mut left = count;
                while left > 0 {
                    let entries = left.min(FOLD_AT);
                    elapsed += processor_time(|| (0..entries).for_each(|_| town.place()));
                    town.commit(entries);
                    town.fold();
                    left -= entries;
                }
                elapsed
            });
        });
    }
    bench.finish();
}

fn fold(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("inbox/fold");
    for (name, users) in [("64 entries of a user", 100), ("64 entries, 4,096 users", 4096)] {
        let mut town = Town::new(1, users);
        bench.throughput(Throughput::Elements(1));
        bench.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_custom(|count| {
                let (mut elapsed, mut folded) = (Duration::ZERO, 0);
                while folded < count {
                    (0..FOLD_AT).for_each(|_| town.place());
                    town.commit(FOLD_AT);
                    elapsed += processor_time(|| folded += town.fold());
                }
                // More were folded than asked for: a round folds everybody.
                elapsed.mul_f64(count as f64 / folded as f64)
            });
        });
    }
    bench.finish();
}

criterion_group!(benches, place, fold);
criterion_main!(benches);
