//! What the API promises, on SQLite and on PostgreSQL: every test runs on both.
//!
//! Requests go through all layers, but no socket brings them; the core is a stand-in that remembers
//! what it was told and can fail. The tests of the binary have the real one.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not foresee")]

mod accounts;
mod conversations;
mod devices;
mod fake;
mod farewell;
mod groups;
mod outside;
mod people;
mod postgres;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use postgres::Postgres;
use world::{Case, World};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let may_be_missing = std::env::var_os("MOORING_ALLOW_NO_POSTGRES").is_some_and(|it| it == "1");
    let postgres = if arguments.list { Err(String::new()) } else { Postgres::start() };
    let postgres = Arc::new(postgres);
    let cases = [
        accounts::cases(),
        conversations::cases(),
        farewell::cases(),
        devices::cases(),
        groups::cases(),
        outside::cases(),
        people::cases(),
    ];
    let mut trials = Vec::new();
    for case in cases.into_iter().flatten() {
        trials.push(Trial::test(format!("sqlite::{}", case.name), move || on_sqlite(case)));
        let server = Arc::clone(&postgres);
        let name = format!("postgres::{}", case.name);
        let trial = Trial::test(name, move || on_postgres(case, &server));
        trials.push(trial.with_ignored_flag(may_be_missing && postgres.is_err()));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // What is left of the servers' clients has ended with the trials.
    drop(postgres);
    conclusion.exit_code()
}

fn on_sqlite(case: Case) -> Result<(), Failed> {
    run(case, String::new());
    Ok(())
}

fn on_postgres(case: Case, server: &Result<Postgres, String>) -> Result<(), Failed> {
    let server = server.as_ref().map_err(|why| Failed::from(why.as_str()))?;
    let name = format!("t{:x}", rand::random::<u64>());
    world::execute(&server.url("postgres"), &format!("CREATE DATABASE {name}"));
    run(case, server.url(&name));
    Ok(())
}

fn run(case: Case, database: String) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { (case.run)(World::open(database).await).await });
}
