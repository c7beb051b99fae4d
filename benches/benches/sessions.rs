//! Stage 11, first half: who is there to get it. `cargo bench -p benches --bench sessions`.
//!
//! Users are looked up in an order that no prefetcher follows, among as many as one core may hold.
//! Left out: the connection itself, which is a place of a table (see `message`).

use benches::subjects::{DEVICE, user};
use criterion::{Criterion, criterion_group, criterion_main};
use router::sessions::{ConnId, Sessions};
use wire::{DeviceId, UserId};

/// A core's users, few enough for the cache and too many for it.
const USERS: [u64; 2] = [1_000, 100_000];

fn conn(number: u64) -> ConnId {
    ConnId { slot: u32::try_from(number).expect("few"), generation: 1 }
}

fn sessions(users: u64, devices: u32) -> Sessions {
    let mut sessions = Sessions::default();
    for number in 1..=users {
        for device in 1..=devices {
            let device = DeviceId(device);
            sessions.attach(user(number), device, conn(number)).expect("few devices");
        }
    }
    sessions
}

/// The users from 1 on, each once, by an odd stride.
fn in_no_order(users: u64) -> impl FnMut() -> UserId {
    let mut at = 0;
    move || {
        at = (at + 6_311) % users;
        user(at + 1)
    }
}

fn lookups(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("sessions");
    for users in USERS {
        for devices in [1, 3] {
            let sessions = sessions(users, devices);
            let mut next = in_no_order(users);
            bench.bench_function(format!("{devices} of one of {users}"), |bencher| {
                bencher.iter(|| sessions.of(next()).map(|(_, conn)| conn.slot).max());
            });
        }
    }
    let online = sessions(USERS[1], 1);
    let mut next = in_no_order(USERS[1]);
    bench.bench_function("nobody is there", |bencher| {
        bencher.iter(|| online.of(user(next().get() + USERS[1])).count());
    });
    bench.finish();
}

fn changes(criterion: &mut Criterion) {
    let mut online = sessions(USERS[1], 1);
    let mut next = in_no_order(USERS[1]);
    criterion.bench_function("sessions/leave and come back", |bencher| {
        bencher.iter(|| {
            let user = next();
            let conn = conn(user.get());
            online.detach(user, conn);
            online.attach(user, DEVICE, conn)
        });
    });
}

criterion_group!(benches, lookups, changes);
criterion_main!(benches);
