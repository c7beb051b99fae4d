//! `cargo xtask discovery-drill`: three gateways in one real ZooKeeper, and a process beside them
//! that answers clients. What it answers is asked all the time, and each change of the world is
//! timed until the answer is as it should be.

mod processes;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::environment::{self, Environment};
use crate::prerequisites::{self, ZOOKEEPER};
use crate::{clock, console, document};
use processes::{Gateway, ZooKeeper, get, post};

/// How long a gateway may be silent: what the table compares with.
const SESSION_TIMEOUT_SECONDS: u64 = 4;

/// No step takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What `discovery-drill` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The document whose table is written.
    #[arg(long, value_name = "FILE", default_value = "docs/discovery.md")]
    out: PathBuf,
}

struct Drill {
    zookeeper: ZooKeeper,
    binary: PathBuf,
    observer: Gateway,
    /// What is asked.
    path: &'static str,
    rows: Vec<(String, String, Duration)>,
}

pub(crate) fn discovery_drill(arguments: &Arguments) -> Result<()> {
    prerequisites::ensure()?;
    ensure!(ZOOKEEPER.provide(), "the drill needs a real ZooKeeper");
    let environment = Environment::prepare()?;
    console::step("Building the server");
    environment::run(&mut environment.cargo(["build", "--release", "-p", "mooring"]))?;
    let binary = environment.release_binary("mooring");
    console::step("Drill");
    let zookeeper = ZooKeeper::start()?;
    let observer = Gateway::start(&binary, &zookeeper, "observer", 0)?;
    let mut drill = Drill { zookeeper, binary, observer, path: "/v1/gateways", rows: Vec::new() };
    drill.run()?;
    let mut table =
        String::from("\n| what happens | the answer then | after |\n| --- | --- | ---: |\n");
    for (what, answer, after) in &drill.rows {
        let after = after.as_secs_f64();
        table += &format!("| {what} | {answer} | {after:.2} s |\n");
    }
    document::replace(
        &arguments.out,
        "<!-- drill:begin -->\n",
        "<!-- drill:end -->\n",
        &(table + "\n"),
    )
}

impl Drill {
    fn run(&mut self) -> Result<()> {
        let mut one = self.gateway("gw-1", 1)?;
        let two = self.gateway("gw-2", 1)?;
        let three = self.gateway("gw-3", 1)?;
        self.until("three gateways start", &[1, 2, 3], false)?;
        one.kill()?;
        self.until("`kill -9` of gw-1", &[2, 3], false)?;
        one = self.gateway("gw-1", 1)?;
        self.until("gw-1 starts again", &[1, 2, 3], false)?;

        self.zookeeper.kill()?;
        self.until("ZooKeeper is killed", &[1, 2, 3], true)?;
        self.zookeeper.run()?;
        self.until("ZooKeeper starts again", &[1, 2, 3], false)?;

        // Stopped for longer than its session lasts: it ends, and the process finds that out.
        two.pause()?;
        self.until("gw-2 hangs (`SIGSTOP`): its session expires", &[1, 3], false)?;
        two.go_on()?;
        self.until("gw-2 goes on", &[1, 2, 3], false)?;

        post(&three.admin, "/drain", "{\"over_ms\":1000}")?;
        self.until("gw-3 drains (`mooring admin drain`)", &[1, 2], false)?;
        post(&three.admin, "/undrain", "")?;
        self.until("gw-3 stays (`mooring admin undrain`)", &[1, 2, 3], false)?;
        self.roll([one, two, three])
    }

    /// A spare one first, then each in its turn: nobody is sent to one that is about to go.
    fn roll(&mut self, old: [Gateway; 3]) -> Result<()> {
        self.path = "/v1/gateways?moved=true";
        self.zookeeper.create("/mooring/rollout", "{\"release\":2}")?;
        let _spare = self.gateway("gw-4", 2)?;
        self.until(
            "a rollout to release 2, and gw-4 starts with it (asked by who is moved)",
            &[4],
            false,
        )?;
        let mut new = Vec::new();
        for (number, mut gateway) in (1_u32..).zip(old) {
            gateway.terminate()?;
            new.push(self.gateway(&format!("gw-{number}"), 2)?);
            let there: Vec<u32> = (1..=number).chain([4]).collect();
            // No more than three are told, and which is chance.
            self.until(&format!("gw-{number} ends and starts with release 2"), &there, false)?;
        }
        self.zookeeper.delete("/mooring/rollout")?;
        self.until("the rollout is over", &[1, 2, 3, 4], false)
    }

    fn gateway(&self, id: &str, release: u64) -> Result<Gateway> {
        Gateway::start(&self.binary, &self.zookeeper, id, release)
    }

    /// Asks until all of these gateways and no others are answers, and takes down how long it took.
    fn until(&mut self, what: &str, gateways: &[u32], stale: bool) -> Result<()> {
        let mut expected: Vec<String> =
            gateways.iter().map(|number| format!("gw-{number}")).collect();
        let begin = clock::now();
        // An answer names three: of more, several answers together.
        let together = if gateways.len() > 3 { 40 } else { 1 };
        let after = loop {
            let mut told = Vec::new();
            let mut is_stale = false;
            for _ in 0..together {
                let answer = self.ask()?;
                is_stale = answer["stale"].as_bool().context("stale is told")?;
                let names = answer["gateways"].as_array().context("gateways are told")?;
                let names = names.iter().filter_map(|one| one["region"].as_str());
                told.extend(names.map(ToOwned::to_owned));
            }
            told.sort_unstable();
            told.dedup();
            let after = begin.elapsed();
            if told == expected && is_stale == stale {
                break after;
            }
            ensure!(after < PATIENCE, "{what}: {told:?}, stale {is_stale}; not {expected:?}");
            std::thread::park_timeout(ASK_EVERY);
        };
        if stale {
            expected.push("and that it is old".to_owned());
        }
        let answer = expected.join(", ");
        console::note(&format!("{what}: {answer}, after {:.2} s", after.as_secs_f64()));
        self.rows.push((what.to_owned(), answer, after));
        Ok(())
    }

    fn ask(&self) -> Result<Value> {
        Ok(serde_json::from_str(&get(&self.observer.admin, self.path)?)?)
    }
}
