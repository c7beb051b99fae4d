//! `cargo xtask run`: from a fresh clone to a running server and a first message.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::environment::{Environment, cache_dir};
use crate::python::Venv;
use crate::{console, environment, prerequisites};

/// The example client, relative to the checkout. It reads the address and the token from its
/// options: `chat.py --url URL --token TOKEN --to USER TEXT`.
const EXAMPLE: &str = "docs/examples/python/chat.py";

/// Users that get a token: enough for a conversation.
const DEMO_USERS: [u64; 2] = [1, 2];

/// How often an ending server is looked at.
const END_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What `run` is asked for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the server keeps its data.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Further arguments of `mooring serve`.
    #[arg(last = true, value_name = "ARGUMENT")]
    serve: Vec<String>,
}

/// Builds and runs the server until it ends; its exit status becomes ours.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    prerequisites::ensure()?;
    let environment = Environment::prepare()?;
    console::step("Building the server");
    environment::run(&mut environment.cargo(["build", "--release", "--package", "mooring"]))?;
    std::fs::create_dir_all(&arguments.data).with_context(|| {
        format!("cannot make {}; name another --data", arguments.data.display())
    })?;

    let example = Example::find(environment.root())?;
    let mooring = environment.release_binary("mooring");
    console::step(&format!("Starting the server on {}", arguments.data.display()));
    let mut serve = Command::new(&mooring);
    serve.args(["serve", "--data"]).arg(&arguments.data).args(&arguments.serve);
    // A process group of its own: the terminal's Ctrl-C reaches us alone, and the server gets each
    // signal exactly once, from us.
    serve.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut server = serve.spawn().context("cannot start the server")?;
    let events = events_of(&mut server)?;

    let status = attend(&mut server, &events, |ready| {
        greet(&mooring, &arguments.data, example.as_ref(), ready)
    })?;
    Ok(exit_code(status))
}

/// Everything that can happen while the server runs.
enum Event {
    Line(String),
    OutputEnded,
    Signal(Signal),
}

fn events_of(server: &mut Child) -> Result<Receiver<Event>> {
    let (sender, events) = mpsc::channel();
    let output = server.stdout.take().context("the server's output is not piped")?;
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
    let of_signals: Sender<Event> = sender.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let signal = if signal == SIGINT { Signal::INT } else { Signal::TERM };
            if of_signals.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(|line| line.ok()) {
            if sender.send(Event::Line(line)).is_err() {
                return;
            }
        }
        // The receiver may be gone already: then nobody waits for the end.
        let _ = sender.send(Event::OutputEnded);
    });
    Ok(events)
}

/// Passes output and signals on until the server has ended.
fn attend(
    server: &mut Child,
    events: &Receiver<Event>,
    mut on_ready: impl FnMut(&Ready) -> Result<()>,
) -> Result<ExitStatus> {
    let mut output_ended = false;
    loop {
        match events.recv_timeout(END_POLL_INTERVAL) {
            Ok(Event::Line(line)) => match Ready::parse(&line) {
                Some(ready) => {
                    if let Err(error) = on_ready(&ready) {
                        console::warn(&format!("the server is up, but {error:#}"));
                    }
                }
                None => console::answer(&line),
            },
            Ok(Event::OutputEnded) => output_ended = true,
            Ok(Event::Signal(signal)) => forward(server, signal)?,
            Err(_) if output_ended => {
                if let Some(status) = server.try_wait().context("cannot wait for the server")? {
                    return Ok(status);
                }
            }
            Err(_) => {}
        }
    }
}

/// The server has not been waited for yet, so its process id is still its own.
fn forward(server: &Child, signal: Signal) -> Result<()> {
    console::step("Stopping the server");
    kill_process(Pid::from_child(server), signal).context("cannot signal the server")
}

/// The status of a process as a shell would show it: 128 and the signal for a killed one.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The line with which the server says that it can be used: `ready name=address name=address`.
#[derive(Debug, PartialEq, Eq)]
struct Ready {
    addresses: Vec<(String, String)>,
}

impl Ready {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        if words.next() != Some("ready") {
            return None;
        }
        let addresses = words
            .map(|word| word.split_once('='))
            .map(|pair| pair.map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect::<Option<Vec<_>>>()?;
        Some(Self { addresses })
    }

    /// Where devices connect: the first of the addresses, which commas divide.
    fn gateway(&self) -> Option<&str> {
        let (_, addresses) = self.addresses.iter().find(|(name, _)| name == "gateway")?;
        addresses.split(',').next()
    }
}

/// The example client, with an interpreter that has what it imports.
struct Example {
    python: PathBuf,
}

impl Example {
    /// None where the checkout has no example.
    fn find(root: &Path) -> Result<Option<Self>> {
        if !root.join(EXAMPLE).is_file() {
            return Ok(None);
        }
        let venv = Venv::for_examples(root, &cache_dir()?)?;
        let python = venv.map_or_else(|| "python3".into(), |venv| venv.program("python"));
        Ok(Some(Self { python }))
    }

    /// A command line that sends a first message.
    fn command_line(&self, address: &str, token: &str) -> String {
        let python = self.python.display();
        format!("{python} {EXAMPLE} --url ws://{address} --token {token} --to 2 hello")
    }
}

/// Tells a person what she can do now.
fn greet(mooring: &Path, data: &Path, example: Option<&Example>, ready: &Ready) -> Result<()> {
    console::answer("");
    for (name, address) in &ready.addresses {
        console::answer(&format!("{name:<10} {address}"));
    }
    let tokens = DEMO_USERS
        .iter()
        .map(|user| {
            let mut command = Command::new(mooring);
            command.arg("token").arg("--data").arg(data);
            command.args(["--user", &user.to_string(), "--device", "1"]);
            let token = environment::output(&mut command)?.trim().to_owned();
            console::answer(&format!("\ntoken of user {user}, device 1\n{token}"));
            Ok(token)
        })
        .collect::<Result<Vec<_>>>()?;
    if let (Some(example), Some(address), Some(token)) = (example, ready.gateway(), tokens.first())
    {
        console::answer("\nuser 1 writes to user 2");
        console::answer(&example.command_line(address, token));
    }
    console::answer("\nCtrl-C stops the server.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_told_from_every_other_line() {
        let addresses = |rows: &[(&str, &str)]| {
            let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
            Some(Ready { addresses: rows.iter().map(own).collect() })
        };
        let rows = [
            (
                "ready gateway=127.0.0.1:7080 admin=127.0.0.1:7081",
                addresses(&[("gateway", "127.0.0.1:7080"), ("admin", "127.0.0.1:7081")]),
            ),
            ("ready", addresses(&[])),
            ("readying shards", None),
            ("ready to serve", None),
            ("", None),
        ];
        for (line, expected) in rows {
            assert_eq!(Ready::parse(line), expected, "{line}");
        }
    }

    #[test]
    fn a_server_is_attended_to_its_end_and_asked_to_stop_once_for_each_signal() -> Result<()> {
        // Stands for the server: says `ready`, ends with status 7 when it is asked to stop.
        let script =
            "trap 'exit 7' TERM; echo ready gateway=1.2.3.4:5,1.2.3.4:6; while :; do wait; done";
        let mut server = Command::new("bash")
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let events = events_of(&mut server)?;
        let pid = Pid::from_child(&server);
        let mut greeted = Vec::new();
        let status = attend(&mut server, &events, |ready| {
            greeted.extend(ready.gateway().map(str::to_owned));
            kill_process(pid, Signal::TERM).context("cannot signal")
        })?;
        assert_eq!(greeted, ["1.2.3.4:5"]);
        assert_eq!(status.code(), Some(7));
        Ok(())
    }
}
