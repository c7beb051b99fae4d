//! The command line: what may be said, and what is wrong with what was said.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::engine::{DESCRIPTORS_SPARE, SESSIONS_PER_THREAD_MAX};
use crate::plan::{ChatPlan, ConnectPlan, IdlePlan, KeySource, Plan, Scenario, StormPlan};
use crate::scenario::ForeignArgs;
use crate::schedule::Arrivals;
use crate::stamp::STAMP_BYTES;
use crate::target::Target;

/// Users from here on are the generator's, so that it does not collide with people.
const FIRST_USER_DEFAULT: u64 = 1_000_001;

/// Threads that are still sensible on one host.
const THREADS_MAX: u32 = 256;

/// Sessions in one run: what 24 bits of a ring's token leave, over all threads, and no host holds.
const SESSIONS_MAX: u32 = 4_000_000;

/// Unanswered messages of a session beyond which its next is dropped.
const UNANSWERED_DEFAULT: usize = 256;

/// Who hangs up on purpose may take so long to come back.
const RETURN_MAX: Duration = Duration::from_secs(300);

/// The highest rate that is understood; far above what one host sends.
const RATE_MAX: f64 = 10_000_000.0;

/// An open-loop load generator for Mooring, with latency measured from the intended time.
///
/// Exit codes: 0 fine; 1 the oracle found lost, duplicated, reordered or altered messages or gaps;
/// 2 the command line is wrong; 3 anything else (cannot connect, sessions lost).
#[derive(Parser, Debug)]
#[command(name = "loadgen", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a scenario against a server.
    Run {
        #[command(subcommand)]
        scenario: ScenarioArgs,
    },
}

#[derive(Subcommand, Debug)]
enum ScenarioArgs {
    /// Pairs and groups that talk at a fixed rate; every message is followed to its receivers.
    Chat(ChatArgs),
    /// Sessions that are open and say nothing but heartbeats.
    Idle(IdleArgs),
    /// How many sessions a second begin.
    Connect(ConnectArgs),
    /// Sessions that hang up all at once and come back, while others talk.
    Storm(StormArgs),
    /// Idle sessions on a server that is not Mooring.
    Foreign(ForeignArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CommonArgs {
    /// The server: ws://host:port/path. Several are used in turn.
    #[arg(long, required = true, num_args = 1.., value_delimiter = ',')]
    url: Vec<String>,
    /// The server's data directory: tokens are signed with the last of its keys/*.pem.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A signing key of the server, instead of --data.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    key: Option<PathBuf>,
    /// Threads, each with a ring of its own. Default: as few as hold the sessions.
    #[arg(long, value_name = "N")]
    threads: Option<u32>,
    /// Time before measuring begins, at the same rate.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    warmup: Duration,
    /// Time that is measured (chat), or that sessions are held (idle). The others end by
    /// themselves.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// The first user's number; the others follow.
    #[arg(long, value_name = "N", default_value_t = FIRST_USER_DEFAULT)]
    first_user: u64,
    /// Sessions that end come back, go on from their cursor, and send again what was not answered.
    #[arg(long)]
    reconnect: bool,
    /// Also write the report here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put the whole histograms into the JSON (HdrHistogram V2, compressed).
    #[arg(long)]
    hdr: bool,
    /// For the schedule's phases. Default: another one each time.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Args, Debug)]
struct ChatArgs {
    /// Pairs of users, each in their Direct channel.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pairs: u32,
    /// Groups of users that are in no other channel.
    #[arg(long, value_name = "N", default_value_t = 0)]
    groups: u32,
    /// Members of each group, the owner among them.
    #[arg(long, value_name = "N", default_value_t = 10)]
    group_size: u32,
    /// Messages a second of all sessions together.
    #[arg(long, value_name = "MESSAGES_PER_S", default_value_t = 1000.0)]
    rate: f64,
    /// Bytes of a message's body.
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    size: usize,
    /// How intended times are spread.
    #[arg(long, value_enum, default_value = "uniform")]
    arrivals: Arrivals,
    /// A session with so many unanswered messages drops its next one (and the report tells).
    #[arg(long, value_name = "N", default_value_t = UNANSWERED_DEFAULT)]
    unanswered: usize,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args, Debug)]
struct IdleArgs {
    /// How many.
    #[arg(long, value_name = "N")]
    sessions: u32,
    /// Of them, so many percent talk in pairs; the others are idle.
    #[arg(long, value_name = "PERCENT")]
    chat_percent: Option<f64>,
    /// Messages a second of those who talk, together.
    #[arg(
        long,
        value_name = "MESSAGES_PER_S",
        default_value_t = 1000.0,
        requires = "chat_percent"
    )]
    rate: f64,
    /// Bytes of a message's body.
    #[arg(long, value_name = "BYTES", default_value_t = 128, requires = "chat_percent")]
    size: usize,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args, Debug)]
struct ConnectArgs {
    /// How many.
    #[arg(long, value_name = "N")]
    sessions: u32,
    /// Then they hang up, and resume with their tickets.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args, Debug)]
struct StormArgs {
    /// Sessions that hang up and come back.
    #[arg(long, value_name = "N")]
    sessions: u32,
    /// Sessions that stay, and talk in pairs.
    #[arg(long, value_name = "N")]
    established: u32,
    /// They hang up evenly over this time; 0 for as fast as they can.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    over: Duration,
    /// They come back at a random time within this; 0 for at once.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    jitter: Duration,
    /// Messages that wait for each of them, and as many of its own.
    #[arg(long, value_name = "N", default_value_t = 1)]
    waiting: u32,
    /// Time that is measured before they hang up, and again when all are back.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    calm: Duration,
    /// Messages a second of those who stay, together.
    #[arg(long, value_name = "MESSAGES_PER_S", default_value_t = 1000.0)]
    rate: f64,
    /// Bytes of a message's body.
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    size: usize,
    #[command(flatten)]
    common: CommonArgs,
}

/// Reads the command line; `files_max` is the limit of open files.
///
/// # Errors
/// What clap prints, and exits with: help, the version, or what is wrong, where, and what to do.
pub(crate) fn parse(args: &[OsString], files_max: u64) -> Result<Plan, clap::Error> {
    let cli = Cli::try_parse_from(args)?;
    let Command::Run { scenario } = cli.command;
    let command = args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
    check(scenario, command, files_max)
        .map_err(|problem| Cli::command().error(clap::error::ErrorKind::ValueValidation, problem))
}

fn check(scenario: ScenarioArgs, command: String, files_max: u64) -> Result<Plan, String> {
    let mut foreign = None;
    let (scenario, common) = match scenario {
        ScenarioArgs::Chat(args) => check_chat(args)?,
        ScenarioArgs::Idle(args) => check_idle(args)?,
        ScenarioArgs::Connect(args) => check_connect(args)?,
        ScenarioArgs::Storm(args) => check_storm(args)?,
        ScenarioArgs::Foreign(args) => {
            foreign = Some(Arc::new(args.server()));
            let idle = IdlePlan { idle: at_least_one(args.sessions)?, chat: None };
            (Scenario::Idle(idle), args.common)
        }
    };
    let sessions = scenario.sessions();
    let problem = format!("more than {SESSIONS_MAX} sessions: split the run over several hosts");
    let sessions = u32::try_from(sessions).ok().filter(|sessions| *sessions <= SESSIONS_MAX);
    let sessions = sessions.ok_or(problem)?;
    let targets = common.url.iter().map(|url| Target::parse(url)).collect::<Result<Vec<_>, _>>();
    let mut targets = targets.map_err(|error| format!("--url {error}"))?;
    targets.iter_mut().for_each(|target| target.foreign.clone_from(&foreign));
    let key = match (common.data, common.key) {
        (Some(data), _) => KeySource::Data(data),
        (None, Some(key)) => KeySource::Key(key),
        (None, None) if foreign.is_some() => KeySource::None,
        (None, None) => {
            return Err("--data DIR (the server's data directory) or --key FILE (one of its \
                        keys/*.pem) is needed to sign tokens"
                .to_owned());
        }
    };
    let duration = match &scenario {
        Scenario::Chat(_) | Scenario::Idle(_) => common.duration,
        Scenario::Connect(connect) if !connect.resumes => Duration::from_millis(1),
        Scenario::Connect(_) => RETURN_MAX,
        Scenario::Storm(storm) => RETURN_MAX + 2 * storm.calm,
    };
    if duration.is_zero() {
        return Err("--duration is 0: nothing would be measured".to_owned());
    }
    let last_user = common.first_user.checked_add(sessions.into());
    if common.first_user == 0 || last_user.is_none() {
        return Err("--first-user must be from 1 to what leaves room for all users".to_owned());
    }
    let threads = check_threads(common.threads, &scenario, files_max)?;
    let is_connect = matches!(scenario, Scenario::Connect(_));
    Ok(Plan {
        scenario,
        targets,
        key,
        threads,
        // Nothing is sent that a start could disturb.
        warmup: if is_connect { Duration::ZERO } else { common.warmup },
        duration,
        first_user: common.first_user,
        reconnects: common.reconnect,
        json: common.json,
        hdr: common.hdr,
        seed: common.seed,
        command,
    })
}

fn check_chat(args: ChatArgs) -> Result<(Scenario, CommonArgs), String> {
    if args.pairs == 0 && args.groups == 0 {
        return Err("nobody to talk: give --pairs N, --groups N or both".to_owned());
    }
    let members_max = wire::limits::MEMBERS_PER_REQUEST_MAX + 1;
    if args.groups > 0 && !(2..=members_max).contains(&(args.group_size as usize)) {
        let size = args.group_size;
        return Err(format!("--group-size {size}: it must be from 2 to {members_max}"));
    }
    check_messages(args.rate, args.size)?;
    if !(1..=1 << 16).contains(&args.unanswered) {
        let unanswered = args.unanswered;
        return Err(format!("--unanswered {unanswered}: it must be from 1 to 65536"));
    }
    let plan = ChatPlan {
        pairs: args.pairs,
        groups: args.groups,
        group_size: args.group_size,
        rate: args.rate,
        bytes: args.size,
        arrivals: args.arrivals,
        unanswered_max: args.unanswered,
    };
    Ok((Scenario::Chat(plan), args.common))
}

fn at_least_one(sessions: u32) -> Result<u32, String> {
    let problem = "--sessions is 0: ask for at least one";
    if sessions == 0 { Err(problem.to_owned()) } else { Ok(sessions) }
}

fn check_idle(args: IdleArgs) -> Result<(Scenario, CommonArgs), String> {
    let sessions = at_least_one(args.sessions)?;
    let Some(percent) = args.chat_percent else {
        return Ok((Scenario::Idle(IdlePlan { idle: sessions, chat: None }), args.common));
    };
    if !(percent > 0.0 && percent <= 100.0) {
        return Err(format!("--chat-percent {percent}: it must be above 0 and at most 100"));
    }
    check_messages(args.rate, args.size)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most half")]
    let pairs = (f64::from(sessions) * percent / 200.0) as u32;
    if pairs == 0 {
        return Err(format!("--chat-percent {percent} of {sessions} sessions is not one pair"));
    }
    let chat = self::pairs(pairs, args.rate, args.size);
    let plan = IdlePlan { idle: sessions - 2 * pairs, chat: Some(chat) };
    Ok((Scenario::Idle(plan), args.common))
}

fn check_connect(args: ConnectArgs) -> Result<(Scenario, CommonArgs), String> {
    let ConnectArgs { sessions, resume, common } = args;
    let sessions = at_least_one(sessions)?;
    Ok((Scenario::Connect(ConnectPlan { sessions, resumes: resume }), common))
}

fn check_storm(args: StormArgs) -> Result<(Scenario, CommonArgs), String> {
    check_messages(args.rate, args.size)?;
    for (flag, count) in [("--sessions", args.sessions), ("--established", args.established)] {
        if count == 0 || !count.is_multiple_of(2) {
            return Err(format!("{flag} {count}: it must be an even number above 0, for pairs"));
        }
    }
    if !(1..=100).contains(&args.waiting) {
        return Err(format!("--waiting {}: it must be from 1 to 100", args.waiting));
    }
    if args.calm.is_zero() {
        return Err("--calm is 0: there would be nothing to compare with".to_owned());
    }
    let chat = pairs(args.established / 2, args.rate, args.size);
    let StormArgs { sessions, waiting, over, jitter, calm, .. } = args;
    Ok((Scenario::Storm(StormPlan { chat, sessions, waiting, over, jitter, calm }), args.common))
}

/// Pairs that talk as in `chat`, with its defaults.
const fn pairs(pairs: u32, rate: f64, bytes: usize) -> ChatPlan {
    ChatPlan {
        pairs,
        groups: 0,
        group_size: 2,
        rate,
        bytes,
        arrivals: Arrivals::Uniform,
        unanswered_max: UNANSWERED_DEFAULT,
    }
}

fn check_messages(rate: f64, size: usize) -> Result<(), String> {
    if !(rate > 0.0 && rate <= RATE_MAX) {
        return Err(format!("--rate {rate}: it must be above 0 and at most {RATE_MAX}"));
    }
    let bytes_max = wire::limits::BODY_BYTES_MAX;
    if !(STAMP_BYTES..=bytes_max).contains(&size) {
        return Err(format!(
            "--size {size}: it must be from {STAMP_BYTES} (each body carries what the oracle \
             needs) to {bytes_max}"
        ));
    }
    Ok(())
}

/// As many threads as were asked for, if the sessions fit into their rings; otherwise as few as
/// hold them.
fn check_threads(asked: Option<u32>, scenario: &Scenario, files_max: u64) -> Result<u32, String> {
    let room = files_max.saturating_sub(DESCRIPTORS_SPARE.into());
    let room = u32::try_from(room).unwrap_or(u32::MAX);
    let fits = |threads: u32, room: u32| scenario.largest_share(threads) <= u64::from(room);
    let default_room = room.min(SESSIONS_PER_THREAD_MAX);
    let least = (1..=THREADS_MAX).find(|threads| fits(*threads, default_room));
    let raise = format!("raise the limit of open files ({files_max} now; ulimit -n)");
    match (asked, least) {
        (None, Some(least)) => Ok(least),
        (None, None) => Err(format!("the sessions do not fit into {THREADS_MAX} rings: {raise}")),
        (Some(asked), _) if !(1..=THREADS_MAX).contains(&asked) => {
            Err(format!("--threads {asked}: it must be from 1 to {THREADS_MAX}"))
        }
        (Some(asked), _) if fits(asked, room) => Ok(asked),
        (Some(asked), least) => {
            let more = least.map_or(String::new(), |least| format!("--threads {least}, or "));
            Err(format!(
                "--threads {asked} is too few: a ring has room for {room} sessions; {more}{raise}"
            ))
        }
    }
}

/// `250ms`, `10s`, `5m`, `1h`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number with ms, s, m or h, such as 10s".to_owned()),
    };
    let number: f64 =
        number.parse().map_err(|_| "write a number with ms, s, m or h, such as 10s".to_owned())?;
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|duration| *duration <= Duration::from_secs(30 * 24 * 3600))
        .ok_or_else(|| "longer than thirty days".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: u64 = 20_000;

    fn parse_line(line: &str) -> Result<Plan, String> {
        let args: Vec<OsString> =
            std::iter::once("loadgen").chain(line.split_whitespace()).map(Into::into).collect();
        parse(&args, FILES).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_is_told_with_the_flag_and_what_to_do() {
        let rows = [
            ("", "Usage"),
            ("run", "Usage"),
            ("run stomr", "unrecognized subcommand 'stomr'"),
            (
                "run storm --url ws://127.0.0.1:1 --key k --sessions 3 --established 2",
                "--sessions 3: it must be an even number",
            ),
            (
                "run storm --url ws://127.0.0.1:1 --key k --sessions 2 --established 2 --calm 0",
                "--calm is 0",
            ),
            ("run chat --pairs 1 --key k", "--url"),
            ("run chat --url ws://127.0.0.1:1 --key k", "--pairs N, --groups N or both"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1", "--data DIR"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --key k --data d", "cannot be used with"),
            ("run chat --url http://127.0.0.1:1 --pairs 1 --key k", "write ws://host:port/path"),
            ("run chat --url ws://127.0.0.1:0 --pairs 1 --key k", "port must be a number"),
            ("run chat --url ws://127.0.0.1:1 --pairs x --key k", "'--pairs <N>'"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --rate 0 --key k", "--rate 0: it must be"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --rate NaN --key k", "--rate NaN: it"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --size 31 --key k", "from 32 (each body"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --size 65537 --key k", "to 65536"),
            (
                "run chat --url ws://127.0.0.1:1 --groups 1 --group-size 1 --key k",
                "--group-size 1: it must be from 2 to 501",
            ),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --unanswered 0 --key k", "from 1 to 65536"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --key k --duration 0s", "--duration is 0"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --key k --duration 1d", "such as 10s"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --key k --warmup x", "such as 10s"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --key k --first-user 0", "--first-user"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --key k --threads 0", "from 1 to 256"),
            ("run chat --url ws://127.0.0.1:1 --pairs 1 --key k --arrivals never", "poisson"),
            ("run idle --url ws://127.0.0.1:1 --key k", "--sessions"),
            ("run idle --url ws://127.0.0.1:1 --key k --sessions 0", "ask for at least one"),
            ("run idle --url ws://127.0.0.1:1 --key k --sessions 5000000", "more than 4000000"),
            (
                "run idle --url ws://127.0.0.1:1 --key k --sessions 40000 --threads 2",
                "--threads 2 is too few: a ring has room for 19936 sessions; --threads 3, or raise",
            ),
            ("run idle --url ws://127.0.0.1:1 --key k --sessions 1 --rate 5", "--chat-percent"),
            (
                "run idle --url ws://127.0.0.1:1 --key k --sessions 10 --chat-percent 101",
                "--chat-percent 101: it must be above 0",
            ),
            (
                "run idle --url ws://127.0.0.1:1 --key k --sessions 10 --chat-percent 1",
                "is not one pair",
            ),
        ];
        for (line, expected) in rows {
            let error = parse_line(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let plan = parse_line("run chat --url ws://127.0.0.1:1 --data d --pairs 5").unwrap();
        let Scenario::Chat(chat) = &plan.scenario else { panic!() };
        assert_eq!((chat.rate, chat.bytes, chat.unanswered_max), (1000.0, 128, 256));
        assert_eq!((plan.warmup.as_secs(), plan.duration.as_secs()), (2, 10));
        assert_eq!((plan.threads, plan.first_user), (1, 1_000_001));
        assert!(!plan.reconnects);
        assert_eq!(plan.targets[0].path, "/v1/ws");
        assert!(plan.command.ends_with("--pairs 5"));
    }

    #[test]
    fn urls_may_be_repeated_listed_or_separated_by_commas() {
        for urls in [
            "--url ws://127.0.0.1:1 --url ws://127.0.0.1:2",
            "--url ws://127.0.0.1:1 ws://127.0.0.1:2",
            "--url ws://127.0.0.1:1,ws://127.0.0.1:2",
        ] {
            let plan = parse_line(&format!("run idle {urls} --key k --sessions 1")).unwrap();
            assert_eq!(plan.targets.len(), 2, "{urls}");
        }
    }

    #[test]
    fn threads_are_as_few_as_hold_the_sessions() {
        let rows = [(1, 1), (18_000, 1), (18_001, 2), (100_000, 6), (1_000_000, 56)];
        for (sessions, threads) in rows {
            let line = format!("run idle --url ws://127.0.0.1:1 --key k --sessions {sessions}");
            assert_eq!(parse_line(&line).unwrap().threads, threads, "{sessions}");
        }
        // A group is not divided.
        let line = "run chat --url ws://127.0.0.1:1 --key k --groups 40 --group-size 500";
        assert_eq!(parse_line(line).unwrap().threads, 2);
    }

    #[test]
    fn durations_have_units() {
        let rows = [("250ms", 250), ("2s", 2000), ("1.5s", 1500), ("7", 7000), ("2m", 120_000)];
        for (text, milliseconds) in rows {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1.2.3s", "1 s", "1e3s", "9999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
