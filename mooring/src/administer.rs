//! `mooring admin`: asks a running server, over its admin port, to send its sessions away or to
//! let them come again.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use ureq::Agent;

use crate::admin::{DrainOrder, DrainState};

/// How long the admin port may take to answer: it shares its processor with nobody for long.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Between two looks at how far a drain is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Looks beyond the time that was ordered: sessions with unanswered posts are kept for 2 s.
const LOOKS_SPARE: u128 = 50;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// The server's admin port
    #[arg(
        long,
        env = "MOORING_ADMIN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7701",
        global = true
    )]
    admin: SocketAddr,
}

#[derive(Subcommand)]
enum Command {
    /// Send all sessions away at an even rate, let nobody in, and say when they are gone
    Drain(DrainArgs),
    /// Let sessions come again; those that are still here stay
    Undrain,
}

#[derive(clap::Args)]
struct DrainArgs {
    /// Time over which they are sent away, such as 60s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    over: Duration,
    /// What each is told to wait before it connects again
    #[arg(
        long,
        value_name = "TIME",
        default_value = "0s",
        value_parser = humantime::parse_duration
    )]
    after: Duration,
    /// Where each is told to connect; without it server.reconnect_url
    #[arg(long, value_name = "URL")]
    to: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let port = Port::new(args.admin);
    let said = match &args.command {
        Command::Drain(drain) => port.drain(drain)?,
        Command::Undrain => {
            port.ask("undrain", Some(""))?;
            "sessions may come again".to_owned()
        }
    };
    writeln!(std::io::stdout(), "{said}")?;
    Ok(())
}

struct Port {
    agent: Agent,
    address: SocketAddr,
}

impl Port {
    fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            // An error's text says what was wrong with the order.
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_MAX));
        Self { agent: config.build().into(), address }
    }

    fn drain(&self, drain: &DrainArgs) -> Result<String> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let order = DrainOrder {
            over_ms: milliseconds(drain.over),
            after_ms: milliseconds(drain.after),
            url: drain.to.clone(),
        };
        let before = self.state()?;
        self.ask("drain", Some(&serde_json::to_string(&order)?))?;
        let looks = drain.over.as_millis() / LOOK_EVERY.as_millis() + LOOKS_SPARE;
        let mut state = before.clone();
        for _ in 0..looks {
            state = self.state()?;
            if state.sessions == 0 {
                break;
            }
            ensure!(state.draining, "somebody else has ended the drain");
            wait();
        }
        let (left, gone) = (state.sessions, state.sent_away - before.sent_away);
        if left > 0 {
            bail!("{gone} sessions were sent away, and {left} are still here; look at the log");
        }
        Ok(format!("{gone} sessions were sent away, none is here"))
    }

    fn state(&self) -> Result<DrainState> {
        let text = self.ask("drain", None)?;
        serde_json::from_str(&text).with_context(|| format!("{} is no admin port", self.address))
    }

    /// GET, or POST with a body.
    fn ask(&self, path: &str, body: Option<&str>) -> Result<String> {
        let url = format!("http://{}/{path}", self.address);
        let answered = match body {
            Some(body) => self.agent.post(&url).send(body),
            None => self.agent.get(&url).call(),
        };
        let hint = "is the server running, and is this its admin port (--admin)?";
        let mut answer = answered.with_context(|| format!("{url}: {hint}"))?;
        let text = answer.body_mut().read_to_string()?;
        let status = answer.status();
        ensure!(status.is_success(), "{url}: {status}: {}", text.trim());
        Ok(text)
    }
}

#[expect(clippy::disallowed_methods, reason = "the server does not tell when somebody has gone")]
fn wait() {
    std::thread::sleep(LOOK_EVERY);
}
