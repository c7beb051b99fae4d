//! What each way of receiving costs, beside WebSocket: requests, bytes, processor time and delay
//! for a delivered message, measured on a server of its own. `docs/polling.md` has the table.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a measurement may stop at what it did not foresee")]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]

#[path = "transports/receive.rs"]
mod receive;
#[path = "transports/server.rs"]
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Config, StaticGateways};
use receive::{Tally, Way};
use server::Site;
use tokio::time::{Instant, sleep, sleep_until};
use wire::{ChannelId, UserId};

/// Devices that receive, one a user.
const RECEIVERS: u64 = 40;

/// The user who sends to all of them.
const SENDER: u64 = 1_000;

/// Messages a second, over all receivers: each of them gets one every two seconds.
const RATE: u32 = 20;

/// What is measured at a time, after all are there.
const SPAN: Duration = Duration::from_secs(8);

/// How long late deliveries are waited for: more than the longest interval between two polls.
const TAIL: Duration = Duration::from_secs(6);

/// Each way is measured so often, in turn with the others.
const ROUNDS: usize = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mooring = PathBuf::from(std::env::args().nth(1).expect("the path of `mooring`"));
    let folder = tempfile::tempdir().unwrap();
    let site = Arc::new(Site::start(&mooring, &folder.path().join("data")));
    let gateways = StaticGateways::new([&*site.gateway]).unwrap();
    let sender = Client::connect(Config::new(gateways, site.token(SENDER))).await.unwrap();
    let mut rows: Vec<Vec<Row>> = Way::ALL.map(|_| Vec::new()).to_vec();
    for round in 1..=ROUNDS {
        for (way, rows) in Way::ALL.iter().zip(&mut rows) {
            let row = measure(&site, &sender, *way).await;
            println!("{round} {:<24} {row}", way.name());
            rows.push(row);
        }
    }
    println!("\nmedian of {ROUNDS} (lowest to highest)");
    for (way, rows) in Way::ALL.iter().zip(&rows) {
        println!("| {} | {} |", way.name(), summary(rows));
    }
}

/// One run of one way.
#[derive(Clone, Copy)]
struct Row {
    requests: f64,
    bytes: f64,
    cpu_micros: f64,
    p50_millis: f64,
    p99_millis: f64,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { requests, bytes, cpu_micros, p50_millis, p99_millis } = self;
        write!(f, "{requests:.2} requests, {bytes:.0} bytes, {cpu_micros:.0} us; ")?;
        write!(f, "p50 {p50_millis:.1} ms, p99 {p99_millis:.1} ms")
    }
}

async fn measure(site: &Arc<Site>, sender: &Client, way: Way) -> Row {
    let start = Instant::now();
    let tally = Arc::new(Tally::default());
    let receivers: Vec<_> = (1..=RECEIVERS)
        .map(|user| {
            tokio::spawn(receive::receive(way, user, Arc::clone(site), Arc::clone(&tally), start))
        })
        .collect();
    while tally.begun() < RECEIVERS {
        sleep(Duration::from_millis(20)).await;
    }
    let (cpu, before) = (site.cpu(), tally.so_far());
    let sent = send_all(sender, start).await;
    sleep(TAIL).await;
    let (cpu, after) = (site.cpu() - cpu, tally.so_far());
    receivers.iter().for_each(tokio::task::JoinHandle::abort);
    let mut delays = tally.delays();
    assert_eq!(delays.len(), sent, "{}: each message comes once", way.name());
    delays.sort_unstable();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let per = |amount: f64| amount / sent as f64;
    Row {
        requests: per((after.0 - before.0) as f64),
        bytes: per((after.1 - before.1) as f64),
        cpu_micros: per(cpu.as_secs_f64() * 1e6),
        p50_millis: at(0.5),
        p99_millis: at(0.99),
    }
}

/// Sends at the rate, whatever becomes of it; how many.
async fn send_all(sender: &Client, start: Instant) -> usize {
    let begin = Instant::now();
    let interval = Duration::from_secs(1) / RATE;
    let count = (SPAN.as_secs() * u64::from(RATE)) as u32;
    let mut posts = tokio::task::JoinSet::new();
    for number in 0..count {
        let due = begin + interval * number;
        sleep_until(due).await;
        let user = |number| UserId::new(number).unwrap();
        let channel = ChannelId::direct(user(SENDER), user(u64::from(number) % RECEIVERS + 1));
        let (sender, text) = (sender.clone(), (due - start).as_nanos().to_string());
        posts.spawn(async move { sender.send(channel, text).await.unwrap() });
    }
    while posts.join_next().await.is_some() {}
    count as usize
}

fn summary(rows: &[Row]) -> String {
    type Column = fn(&Row) -> f64;
    let columns: [(Column, usize); 5] = [
        (|row| row.requests, 2),
        (|row| row.bytes, 0),
        (|row| row.cpu_micros, 0),
        (|row| row.p50_millis, 1),
        (|row| row.p99_millis, 1),
    ];
    let cell = |(column, digits): (Column, usize)| {
        let mut values: Vec<f64> = rows.iter().map(column).collect();
        values.sort_by(f64::total_cmp);
        let [low, middle, high] = [0, values.len() / 2, values.len() - 1].map(|it| values[it]);
        format!("{middle:.digits$} ({low:.digits$} to {high:.digits$})")
    };
    columns.map(cell).join(" | ")
}
