//! A rolling restart of 200 gateways with 50 million sessions, by counts: every one is moved at
//! most once, and at no time has a gateway much more than its share.
//!
//! Time goes in seconds. Gateways tell their load every few seconds, so whoever answers knows what
//! was; a batch of gateways drains evenly over a minute, stops, and is back with the new release.

#![allow(clippy::unwrap_used, reason = "a test says where it fails")]

use std::collections::BTreeMap;

use discovery::{Asker, Record, Rollout, candidates};

const GATEWAYS: usize = 200;
const SESSIONS: u64 = 50_000_000;
const BATCH: usize = 10;
/// A quarter more than its share.
const SESSIONS_MAX: u64 = SESSIONS / GATEWAYS as u64 * 5 / 4;
const REPORT_SECONDS: u64 = 5;
const DRAIN_SECONDS: u64 = 60;
/// From the end of a drain until the gateway is there again.
const RESTART_SECONDS: u64 = 30;
/// Sessions that end by themselves and come again, in a second.
const CHURN: u64 = 20_000;

#[derive(Clone)]
struct Gateway {
    told: Record,
    /// Sessions by how often they were moved.
    moved: [u64; 3],
    promised: u64,
    is_there: bool,
}

impl Gateway {
    fn new(index: usize, release: u64) -> Self {
        let told = Record {
            id: format!("gw-{index:03}"),
            url: format!("ws://gw-{index:03}"),
            region: ["eu", "us"][index % 2].into(),
            release,
            sessions: 0,
            sessions_max: SESSIONS_MAX,
            draining: false,
        };
        Self { told, moved: [0; 3], promised: 0, is_there: true }
    }

    fn sessions(&self) -> u64 {
        self.moved.iter().sum()
    }
}

struct Fleet {
    gateways: Vec<Gateway>,
    rollout: Option<Rollout>,
    second: u64,
    worst: f64,
    homeless: [u64; 3],
    homeless_max: u64,
}

impl Fleet {
    fn new() -> Self {
        let mut fleet = Self {
            gateways: (0..GATEWAYS).map(|index| Gateway::new(index, 1)).collect(),
            rollout: None,
            second: 0,
            worst: 0.0,
            homeless: [0; 3],
            homeless_max: 0,
        };
        for gateway in &mut fleet.gateways {
            gateway.moved[0] = SESSIONS / GATEWAYS as u64;
            gateway.told.sessions = gateway.moved[0];
        }
        fleet
    }

    /// One second: churn, arrivals by what is known, reports.
    fn step(&mut self) {
        self.second += 1;
        // Who leaves by herself comes back as somebody new.
        let total: u64 = self.gateways.iter().map(Gateway::sessions).sum();
        let mut fresh = 0;
        for gateway in self.gateways.iter_mut().filter(|gateway| gateway.is_there) {
            for count in &mut gateway.moved {
                let gone = *count * CHURN / total.max(1);
                *count -= gone;
                fresh += gone;
            }
        }
        self.homeless[0] += fresh;
        for moved in 0..self.homeless.len() {
            let arriving = std::mem::take(&mut self.homeless[moved]);
            for (part, region) in ["eu", "us"].into_iter().enumerate() {
                let half = arriving / 2 + if part == 0 { arriving % 2 } else { 0 };
                self.homeless[moved] += self.arrive(moved, half, region);
            }
        }
        self.homeless_max = self.homeless_max.max(self.homeless.iter().sum());
        for (index, gateway) in self.gateways.iter_mut().enumerate() {
            // Not all at the same time.
            if (self.second + index as u64).is_multiple_of(REPORT_SECONDS) {
                gateway.told.sessions = gateway.sessions();
                gateway.promised = 0;
            }
        }
        let there = self.gateways.iter().filter(|gateway| gateway.is_there);
        let most = there.map(Gateway::sessions).max().unwrap_or_default();
        let mean = SESSIONS as f64 / GATEWAYS as f64;
        self.worst = self.worst.max(most as f64 / mean);
    }

    /// Places so many by what is known, in thousand parts, so that each sees what the last did; who
    /// finds no gateway at all is left over.
    fn arrive(&mut self, moved: usize, count: u64, region: &str) -> u64 {
        let mut left = count;
        let part = count.div_ceil(20).max(1);
        while left > 0 {
            let now = part.min(left);
            let known = self.gateways.iter().filter(|gateway| gateway.is_there);
            let known = known.map(|gateway| (&gateway.told, gateway.promised));
            let asker = Asker { region: Some(region), is_moved: moved > 0 };
            let found = candidates(known, self.rollout.as_ref(), asker);
            let total: u64 = found.iter().map(|candidate| candidate.weight).sum();
            if total == 0 {
                return left;
            }
            let mut parts: BTreeMap<String, u64> = BTreeMap::new();
            let mut given = 0;
            let mut reached = 0_u128;
            for candidate in &found {
                reached += u128::from(candidate.weight) * u128::from(now);
                let upto = u64::try_from(reached / u128::from(total)).unwrap();
                parts.insert(candidate.record.id.clone(), upto - given);
                given = upto;
            }
            for gateway in &mut self.gateways {
                let part = parts.get(&gateway.told.id).copied().unwrap_or_default();
                gateway.moved[moved] += part;
                gateway.promised += part;
            }
            left -= now;
        }
        0
    }

    /// Sends the sessions of a batch away over a minute; then it is gone.
    fn drain(&mut self, batch: std::ops::Range<usize>) {
        for gateway in &mut self.gateways[batch.clone()] {
            gateway.told.draining = true;
        }
        for left in (1..=DRAIN_SECONDS).rev() {
            for index in batch.clone() {
                for moved in 0..self.homeless.len() {
                    let goes = self.gateways[index].moved[moved] / left;
                    self.gateways[index].moved[moved] -= goes;
                    let times = (moved + 1).min(self.homeless.len() - 1);
                    self.homeless[times] += goes;
                }
            }
            self.step();
        }
        for gateway in &mut self.gateways[batch] {
            assert_eq!(gateway.sessions(), 0);
            gateway.is_there = false;
        }
    }

    fn come_back(&mut self, batch: std::ops::Range<usize>, release: u64) {
        (0..RESTART_SECONDS).for_each(|_| self.step());
        for index in batch {
            self.gateways[index] = Gateway::new(index, release);
        }
    }

    fn moves(&self) -> [u64; 3] {
        let mut moves = self.homeless;
        for gateway in &self.gateways {
            moves.iter_mut().zip(gateway.moved).for_each(|(sum, count)| *sum += count);
        }
        moves
    }
}

#[test]
fn a_rolling_restart_moves_nobody_twice_and_fills_no_gateway_beyond_its_bound() {
    let mut fleet = Fleet::new();
    (0..60).for_each(|_| fleet.step());
    let calm = fleet.worst;
    fleet.rollout = Some(Rollout { release: 2, next: Vec::new() });
    // As many new ones as a batch has, before the first of the old go; as many of the old do not
    // come back at the end.
    fleet.gateways.extend((GATEWAYS..GATEWAYS + BATCH).map(|index| Gateway::new(index, 2)));
    for first in (0..GATEWAYS).step_by(BATCH) {
        let batch = first..first + BATCH;
        let next =
            (batch.end..(batch.end + BATCH).min(GATEWAYS)).map(|next| format!("gw-{next:03}"));
        fleet.rollout = Some(Rollout { release: 2, next: next.collect() });
        fleet.drain(batch.clone());
        if batch.end < GATEWAYS {
            fleet.come_back(batch, 2);
        }
    }
    fleet.rollout = None;
    let seconds = fleet.second;
    let moves = fleet.moves();
    let there = fleet.gateways.iter().filter(|gateway| gateway.is_there);
    let after =
        there.map(Gateway::sessions).max().unwrap() as f64 * GATEWAYS as f64 / SESSIONS as f64;
    println!(
        "{GATEWAYS} gateways, {SESSIONS} sessions, batches of {BATCH}: {seconds} s\n\
         max/mean: {calm:.3} before, {:.3} at worst, {after:.3} after\n\
         moved: never {} (came after their gateway was done, or left by themselves), once {}, \
         twice {}\n\
         without a gateway at once, at most: {}",
        fleet.worst, moves[0], moves[1], moves[2], fleet.homeless_max
    );
    assert_eq!(moves.iter().sum::<u64>(), SESSIONS, "nobody is lost");
    assert_eq!(moves[2], 0, "nobody moves twice in one rollout");
    assert_eq!(fleet.homeless_max, 0, "there is always room");
    assert!(fleet.worst <= 1.25, "no gateway beyond its bound: {}", fleet.worst);
    // The last to start have had the least time to fill up; who comes by herself evens that out.
    assert!(after < 1.2, "nearly even at the end: {after}");
}
