//! A life from its seed: the limits of the host, who is there, and what is done. Every kind of act
//! and fault has a weight of its own in each life, often none at all: what hides behind a crowd of
//! faults shows when there are few.

use std::time::Duration;
use store::SyncMode;
use wire::{DeviceId, MembershipOp, UserId};

use crate::act::{Act, Restart, Start, What};
use crate::sim::pace::Rng;
use crate::sim::setup::Setup;
use router::mesh::Lanes;

/// Ticks after which a session that says nothing ends, where that is to happen at all.
const SILENCE_TICKS: u32 = 60;

/// What a seed makes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) setup: Setup,
    pub(crate) devices: Vec<(UserId, DeviceId)>,
    pub(crate) users: u64,
    pub(crate) acts: Vec<Act>,
}

/// Kinds of acts, for their weights.
const KINDS: usize = 32;

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let users = 2 + rng.next() % 4;
        let mut devices = Vec::new();
        for number in 1..=users {
            let user = UserId::new(number).expect("from 1");
            let count = 1 + u32::try_from(rng.below(3)).expect("small");
            devices.extend((1..=count).map(|device| (user, DeviceId(device))));
        }
        let setup = setup(&mut rng);
        let weights: [usize; KINDS] =
            std::array::from_fn(|kind| usual(kind) * [0, 1, 1, 2, 4][rng.below(5)]);
        let count = 100 + rng.below(500);
        let mut acts = vec![Act { seed: rng.next(), steps: 0, what: What::Tick { count: 0 } }];
        acts.extend((0..devices.len()).map(|device| {
            let (device, core) = (small(device), small(rng.below(4)));
            let what = What::Connect { device, core, from: Start::Cursor { ticket: false } };
            Act { seed: rng.next(), steps: 20, what }
        }));
        acts.extend((0..count).map(|_| {
            let what = what(&mut rng, &weights);
            let steps = [0, 1, 3, 10, 30, 60, 200][rng.below(7)];
            Act { seed: rng.next(), steps, what }
        }));
        acts.push(Act { seed: rng.next(), steps: 0, what: What::Calm });
        Self { seed, setup, devices, users, acts }
    }
}

fn small(number: usize) -> u8 {
    u8::try_from(number).expect("small")
}

/// One of a few values.
fn one_of<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len())]
}

fn setup(rng: &mut Rng) -> Setup {
    let mut setup = Setup::cores(u16::from(small(1 + rng.below(4)))).with(|limits| {
        let told = &mut limits.told;
        told.sync_page_max = one_of(rng, &[1, 2, 3, 8]);
        told.history_page_max = one_of(rng, &[1, 3, 8]);
        told.channel_page_max = one_of(rng, &[1, 3, 100]);
        told.posts_in_flight_max = one_of(rng, &[1, 2, 5, 64]);
        told.frames_per_second_max = one_of(rng, &[1 << 30, 1 << 30, 1 << 30, 40, 7]);
        told.group_members_max = one_of(rng, &[3, 100]);
        limits.conversations_max = one_of(rng, &[1, 1, 4, 1000]);
        limits.sequencer.channels_max = one_of(rng, &[1, 4, 1000]);
        limits.sequencer.nonce_window = one_of(rng, &[4, 16, 1024]);
        limits.sequencer.group_members_max = told.group_members_max as usize;
        limits.retry_scan_max = one_of(rng, &[100_000, 100_000, 20]);
        limits.silence_ticks = one_of(rng, &[u32::MAX, u32::MAX, SILENCE_TICKS]);
        limits.send_queue_bytes_max = one_of(rng, &[40_000, 40_000, 1 << 20]);
        limits.session_bytes_max = one_of(rng, &[150_000, 150_000, 4 << 20]);
        limits.send_blocks = one_of(rng, &[(32, 4096), (1000, 1024), (1000, 16 * 1024)]);
        limits.ring.buffer_bytes = one_of(rng, &[64, 512, 4096]);
        limits.admissions_per_second_max = one_of(rng, &[1_000_000, 40, 200]);
        let bounds = &mut limits.bounds;
        bounds.page_bytes_max = one_of(rng, &[10_000, 30_000]);
        // For a few sessions that read nothing beside those that do.
        let room = 16 * limits.send_blocks.1 + 60_000;
        bounds.room_bytes_max = one_of(rng, &[usize::MAX, usize::MAX, room]);
        bounds.crowd_max = one_of(rng, &[1, 4, bounds.crowd_max]);
        bounds.catch_ups_max = one_of(rng, &[1, 3, bounds.catch_ups_max]);
        bounds.window_max = one_of(rng, &[4, 32, bounds.window_max]);
        bounds.outstanding_max = one_of(rng, &[2, 16, bounds.outstanding_max]);
        bounds.unfolded_max = one_of(rng, &[2, 16, bounds.unfolded_max]);
        bounds.journal_batches_max = one_of(rng, &[2, 16, bounds.journal_batches_max]);
        bounds.trim_every = one_of(rng, &[2, 2, 8, bounds.trim_every]);
    });
    let lanes = Lanes::default();
    setup.lanes = Lanes {
        offers_max: one_of(rng, &[1, 2, 8, lanes.offers_max]),
        deliveries_max: one_of(rng, &[1, 2, 8, lanes.deliveries_max]),
    };
    setup.socket_bytes = one_of(rng, &[1500, 64 * 1024]);
    setup.buffers = one_of(rng, &[1, 2, 8, 1000]);
    setup.batch_bytes_max = one_of(rng, &[200, 2000, 1 << 20]);
    let interval = SyncMode::Interval(Duration::from_millis(200));
    let always = SyncMode::Always;
    setup.sync = one_of(rng, &[always, always, always, always, always, interval]);
    setup
}

/// How often a kind of act is done, beside the others; in the order of [`what`].
const fn usual(kind: usize) -> usize {
    match kind {
        0 => 40,        // Posts.
        1..=2 => 16,    // Repeats, connections.
        3..=12 => 5,    // What else devices do.
        13 => 10,       // Ticks.
        14..KINDS => 2, // Faults.
        _ => 0,
    }
}

fn what(rng: &mut Rng, weights: &[usize; KINDS]) -> What {
    let all: usize = weights.iter().sum();
    let mut at = rng.below(all.max(1));
    let mut kind = 0;
    for (index, weight) in weights.iter().enumerate() {
        kind = index;
        if at < *weight {
            break;
        }
        at -= weight;
    }
    if kind < 14 { of_a_device(rng, kind) } else { of_the_host(rng, kind) }
}

fn of_a_device(rng: &mut Rng, kind: usize) -> What {
    let (device, channel) = (small(rng.below(32)), small(rng.below(256)));
    let coin = rng.below(2) == 0;
    match kind {
        1 => {
            let altered = rng.below(6) == 0;
            What::Repeat { device, pick: small(rng.below(256)), marked: coin, altered }
        }
        2 => {
            let from = match rng.below(12) {
                0 => Start::Fresh,
                1 => Start::OtherEpoch,
                2 => Start::Beyond,
                _ => Start::Cursor { ticket: coin },
            };
            What::Connect { device, core: small(rng.below(4)), from }
        }
        3 => one_of(rng, &[What::Cut { device, resets: coin }, What::GivesUp { device, channel }]),
        4 => one_of(rng, &[What::Bye { device }, What::Forget { device }]),
        5 => What::Create { device, members: small(rng.below(64)) },
        6 => {
            let op = one_of(rng, &[MembershipOp::Add, MembershipOp::Remove, MembershipOp::Leave]);
            let members = small(1 + rng.below(63));
            What::Change { device, channel, op, members, admins: coin }
        }
        7 => What::MarkRead { device, channel },
        8 => What::Ack { device },
        9 => What::Sync { device, back: small(rng.below(20)) },
        10 => What::History { device, channel, forward: coin },
        11 => one_of(
            rng,
            &[What::List { device }, What::Typing { device, channel }, What::Ping { device }],
        ),
        12 => What::Reads { device, reads: coin },
        13 => What::Tick { count: small(1 + rng.below(4)) },
        _ => {
            let bytes = one_of(rng, &[3, 40, 300, 2500]);
            What::Post { device, channel, bytes, count: one_of(rng, &[1, 1, 1, 3, 20]) }
        }
    }
}

fn of_the_host(rng: &mut Rng, kind: usize) -> What {
    let coin = rng.below(2) == 0;
    let restart = restart(rng);
    match kind {
        14 => What::Sleep { ticks: one_of(rng, &[10, 100, 5000]) },
        15 => What::WallClock { seconds: one_of(rng, &[-86_400, -60, -1, 1, 60, 86_400, 200_000]) },
        16 | 17 => What::HoldCommits(coin),
        18 => one_of(rng, &[What::Full(coin), What::FullForOne]),
        19 => What::NoSpace(coin),
        20 => What::Pressure(coin),
        21 => What::FailReads(coin),
        22 | 23 => What::Rest { core: small(rng.below(4)), rests: coin },
        24 => What::Places { count: one_of(rng, &[1, 4, 16, 255]) },
        25..=27 => What::Crash { waits_for: small(rng.below(256)), restart },
        28 | 29 => What::DieInWrite { is_kept: coin, restart },
        30 => What::Drain { restart },
        _ => What::Calm,
    }
}

fn restart(rng: &mut Rng) -> Restart {
    let mut death = || (rng.below(3) == 0).then(|| small(rng.below(3)));
    let deaths = [death(), death()];
    Restart { cores: small(1 + rng.below(4)), deaths }
}
