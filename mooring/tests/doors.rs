//! What the process says to bad input, at each of its doors: flags, configuration, data directory,
//! ports. Each answer is exact, and says what is wrong, where, and what to do.
//!
//! In expected texts `{file}` and `{data}` stand for the row's own paths; `*` for words of the
//! kernel or of RocksDB that are not ours to choose.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not foresee")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use common::process::{Running, Server, mooring};

const USAGE: i32 = 2;
const FAILED: i32 = 1;
const CONFIG: i32 = 78;

/// Whether `text` is `pattern`, in which at most one `*` stands for anything.
fn matches(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => text.starts_with(start) && text.ends_with(end),
        None => text == pattern,
    }
}

#[track_caller]
fn assert_said(name: &str, (status, said): (i32, &str), expected: (i32, &str)) {
    let holds = status == expected.0 && matches(said, expected.1);
    assert!(holds, "{name}:\nexpected {expected:?}\nfound    {:?}", (status, said));
}

#[test]
fn flags_that_make_no_sense_are_named_with_status_2() {
    let rows: [(&[&str], &str); 13] = [
        (&["sing"], "error: unrecognized subcommand 'sing'"),
        (&["serve", "--loud"], "error: unexpected argument '--loud' found"),
        (&["serve", "now"], "error: unexpected argument 'now' found"),
        (
            &["serve", "--cores", "two"],
            "error: invalid value 'two' for '--cores <N>': invalid digit found in string",
        ),
        (
            &["serve", "--cores", "70000"],
            "error: invalid value '70000' for '--cores <N>': 70000 is not in 0..=65535",
        ),
        (
            &["serve", "--cores", "1", "--cores", "2"],
            "error: the argument '--cores <N>' cannot be used multiple times",
        ),
        (
            &["serve", "--config"],
            "error: a value is required for '--config <FILE>' but none was supplied",
        ),
        (&["check-config"], "error: the following required arguments were not provided:"),
        (&["token", "--user", "1"], "error: the following required arguments were not provided:"),
        (
            &["token", "--user", "0", "--device", "1"],
            "error: invalid value '0' for '--user <ID>': 0 is not in 1..18446744073709551615",
        ),
        (
            &["token", "--user", "1", "--device", "0"],
            "error: invalid value '0' for '--device <ID>': 0 is not in 1..=4294967295",
        ),
        (
            &["token", "--user", "1", "--device", "4294967296"],
            "error: invalid value '4294967296' for '--device <ID>': 4294967296 is not in \
             1..=4294967295",
        ),
        (
            &["token", "--user", "1", "--device", "1", "--seconds", "soon"],
            "error: invalid value 'soon' for '--seconds <SECONDS>': invalid digit found in string",
        ),
    ];
    for (arguments, expected) in rows {
        let ended = Running::start(&mut mooring(arguments)).end();
        let first = ended.stderr.lines().next().unwrap_or_default();
        assert_said(&arguments.join(" "), (ended.status, first), (USAGE, expected));
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mooring.toml");
    fs::write(&file, "[server]\nlisten = [\"of the file\"]\n").unwrap();
    let rows: [(&[&str], &str); 3] = [
        (&["flag", "environment"], "of the flag"),
        (&["environment"], "of the environment"),
        (&[], "of the file"),
    ];
    for (sources, winner) in rows {
        let mut command = mooring(&["serve", "--config"]);
        command.arg(&file).arg("--data").arg(folder.path().join("data"));
        for source in sources {
            match *source {
                "flag" => command.args(["--listen", "of the flag"]),
                _ => command.env("MOORING_LISTEN", "of the environment"),
            };
        }
        let ended = Running::start(&mut command).end();
        let expected = format!(
            "mooring: server.listen = {winner:?}: must be HOST:PORT, and the host must have an \
             address here\n"
        );
        assert_said(winner, (ended.status, &ended.stderr), (CONFIG, &expected));
    }
}

/// Name, contents of the file (none: there is no file), what is said.
type ConfigRow = (&'static str, Option<&'static [u8]>, &'static str);

const CONFIG_ROWS: [ConfigRow; 22] = [
    (
        "no file",
        None,
        "{file}: No such file or directory (os error 2); the configuration is a readable file of \
         UTF-8 text",
    ),
    (
        "not text",
        Some(b"\xff\xfe"),
        "{file}: stream did not contain valid UTF-8; the configuration is a readable file of \
         UTF-8 text",
    ),
    (
        "not TOML",
        Some(b"[server]\ncores ="),
        "{file}: TOML parse error at line 2, column 8\n  |\n2 | cores =\n  |        ^\nstring \
         values must be quoted, expected literal string",
    ),
    (
        "a table that is not known",
        Some(b"[servers]\n"),
        "{file}: TOML parse error at line 1, column 2\n  |\n1 | [servers]\n  |  ^^^^^^^\nunknown \
         field `servers`, expected one of `server`, `limits`, `timeouts`, `store`, `auth`, \
         `gateway`, `discovery`, `io`, `log`",
    ),
    (
        "a key that is not known",
        Some(b"[auth]\nskew = 1\n"),
        "{file}: TOML parse error at line 2, column 1\n  |\n2 | skew = 1\n  | ^^^^\nunknown field \
         `skew`, expected `clock_skew_seconds`",
    ),
    (
        "a key twice",
        Some(b"[server]\ncores = 1\ncores = 2\n"),
        "{file}: TOML parse error at line 3, column 1\n  |\n3 | cores = 2\n  | \
         ^^^^^\nduplicate key",
    ),
    (
        "a value of another type",
        Some(b"[server]\ncores = \"two\"\n"),
        "{file}: TOML parse error at line 2, column 9\n  |\n2 | cores = \"two\"\n  |         \
         ^^^^^\ninvalid type: string \"two\", expected u16",
    ),
    (
        "a negative value",
        Some(b"[store]\nshards = -1\n"),
        "{file}: TOML parse error at line 2, column 10\n  |\n2 | shards = -1\n  |          \
         ^^\ninvalid value: integer `-1`, expected u16",
    ),
    (
        "a word that is not known",
        Some(b"[store]\nsync = \"never\"\n"),
        "{file}: TOML parse error at line 2, column 8\n  |\n2 | sync = \"never\"\n  |        \
         ^^^^^^^\nunknown variant `never`, expected `always` or `interval`",
    ),
    (
        "an address without a port",
        Some(b"[server]\nadmin = \"127.0.0.1\"\n"),
        "server.admin = \"127.0.0.1\": must be HOST:PORT, and the host must have an address here",
    ),
    (
        "no address",
        Some(b"[server]\nlisten = []\n"),
        "server.listen = []: must name at least one address",
    ),
    ("no directory", Some(b"[server]\ndata = \"\"\n"), "server.data = \"\": must name a directory"),
    ("too many cores", Some(b"[server]\ncores = 257\n"), "server.cores = 257: must be 0 to 256"),
    (
        "a long drain",
        Some(b"[server]\ndrain_seconds = 3601\n"),
        "server.drain_seconds = 3601: must be 0 to 3600",
    ),
    (
        "a body that no frame holds",
        Some(b"[limits]\nbody_bytes_max = 65537\n"),
        "limits.body_bytes_max = 65537: must be 1 to 65536",
    ),
    (
        "a queue that holds no page",
        Some(b"[limits]\nsend_queue_bytes_max = 1\n"),
        "limits.send_queue_bytes_max = 1: must be at least 524288: a page and the frames after it \
         must fit",
    ),
    (
        "no heartbeat",
        Some(b"[timeouts]\nheartbeat_seconds = 0\n"),
        "timeouts.heartbeat_seconds = 0: must be 1 to 3600",
    ),
    (
        "fewer shards than cores",
        Some(b"[server]\ncores = 4\n[store]\nshards = 2\n"),
        "store.shards = 2: must be at least server.cores",
    ),
    (
        "a small memtable",
        Some(b"[store]\nmemtable_bytes = 1\n"),
        "store.memtable_bytes = 1: must be 1048576 to 1073741824",
    ),
    ("no reader", Some(b"[store]\nreaders = 0\n"), "store.readers = 0: must be 1 to 64"),
    (
        "buffers that are no power of two",
        Some(b"[io]\nreceive_buffers = 1000\n"),
        "io.receive_buffers = 1000: must be 0, or a power of two from 16 to 16384",
    ),
    (
        "a level that is none",
        Some(b"[log]\nlevel = \"loud==\"\n"),
        "log.level = \"loud==\": must be error, warn, info, debug or trace, or directives such as \
         \"info,gateway=debug\"",
    ),
];

#[test]
fn a_bad_configuration_is_named_by_key_with_status_78_checked_or_served() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mooring.toml");
    let data = folder.path().join("data");
    for (name, contents, expected) in CONFIG_ROWS {
        match contents {
            Some(contents) => fs::write(&file, contents).unwrap(),
            None => assert!(!file.exists(), "the row without a file comes first"),
        }
        let expected = expected.replace("{file}", file.to_str().unwrap());
        let expected = format!("mooring: {expected}\n");
        let mut check = mooring(&["check-config"]);
        let mut serve = mooring(&["serve", "--config"]);
        for command in [check.arg(&file), serve.arg(&file)] {
            let ended = Running::start(command.current_dir(&folder)).end();
            assert_said(name, (ended.status, &ended.stderr), (CONFIG, &expected));
            assert_eq!(ended.stdout, "", "{name}");
        }
    }
    assert!(!data.exists(), "nothing was started");
}

/// Name, what is done to a sound directory, what is said.
type DataRow = (&'static str, fn(&Path), &'static str);

const DATA_ROWS: [DataRow; 17] = [
    (
        "somebody else's directory",
        |data| {
            fs::remove_dir_all(data).unwrap();
            fs::create_dir(data).unwrap();
            fs::write(data.join("notes.txt"), "hello").unwrap();
        },
        "{data} has no FORMAT file but holds \"notes.txt\": not a data directory; choose an empty \
         one, or restore FORMAT from a backup",
    ),
    (
        "a file",
        |data| {
            fs::remove_dir_all(data).unwrap();
            fs::write(data, "hello").unwrap();
        },
        "cannot make {data}: File exists (os error 17); give the directory to the user that runs \
         mooring",
    ),
    (
        "identity lost",
        |data| fs::remove_file(data.join("FORMAT")).unwrap(),
        "{data} has no FORMAT file but holds \"DURABLE\": not a data directory; choose an empty \
         one, or restore FORMAT from a backup",
    ),
    (
        "identity torn",
        |data| cut(&data.join("FORMAT"), 20),
        "{data}/FORMAT is damaged (string values must be quoted, expected literal string); restore \
         it from a backup",
    ),
    (
        "identity torn between two lines",
        |data| cut(&data.join("FORMAT"), "version = 1\n".len()),
        "{data}/FORMAT is damaged (missing field `shards`); restore it from a backup",
    ),
    (
        "identity empty",
        |data| cut(&data.join("FORMAT"), 0),
        "{data}/FORMAT is damaged (missing field `version`); restore it from a backup",
    ),
    (
        "identity overwritten",
        |data| fs::write(data.join("FORMAT"), [0xff; 100]).unwrap(),
        "{data}/FORMAT is damaged (it is not text); restore it from a backup",
    ),
    (
        "a newer release's",
        |data| {
            let format = fs::read_to_string(data.join("FORMAT")).unwrap();
            let newer = format.replace("version = 2", "version = 3\nmore = true");
            fs::write(data.join("FORMAT"), newer).unwrap();
        },
        "{data}/FORMAT says format 3, this release knows 2; run a release that knows it, or export \
         and import",
    ),
    (
        "database lost",
        |data| fs::remove_dir_all(data.join("db")).unwrap(),
        "{data}/db is missing though FORMAT says that it was made; restore the whole directory \
         from a backup",
    ),
    (
        "database is a file",
        |data| {
            fs::remove_dir_all(data.join("db")).unwrap();
            fs::write(data.join("db"), "hello").unwrap();
        },
        "cannot look at {data}/db: Not a directory (os error 20); give the directory to the user \
         that runs mooring",
    ),
    (
        "CURRENT empty",
        |data| cut(&data.join("db/CURRENT"), 0),
        "the database is damaged: Corruption: *; restore it from a backup",
    ),
    (
        "CURRENT names a file that is gone",
        |data| fs::write(data.join("db/CURRENT"), "MANIFEST-999999\n").unwrap(),
        "the database is damaged: IO error: No such file or directory: *; restore it from a backup",
    ),
    (
        "MANIFEST overwritten",
        |data| fs::write(manifest(data), [0x5a; 300]).unwrap(),
        "the database is damaged: Corruption: *; restore it from a backup",
    ),
    (
        "a key that is none",
        |data| fs::write(data.join("keys/first.pem"), "hello").unwrap(),
        "{data}/keys/first.pem: not an Ed25519 private key in PKCS #8 PEM; remove it or replace it",
    ),
    (
        "a ticket key cut short",
        |data| cut(&data.join("keys/ticket.key"), 31),
        "{data}/keys/ticket.key: must be 32 bytes; remove it and devices log in anew",
    ),
    (
        "keys that cannot be read",
        |data| {
            fs::remove_file(data.join("keys/first.pem")).unwrap();
            fs::create_dir(data.join("keys/first.pem")).unwrap();
        },
        "cannot use {data}/keys/first.pem: Is a directory (os error 21); it must be readable and \
         writable for this user",
    ),
    (
        "a lock that cannot be written",
        |data| {
            fs::remove_file(data.join("LOCK")).unwrap();
            fs::create_dir(data.join("LOCK")).unwrap();
        },
        "cannot write {data}/LOCK: Is a directory (os error 21); give the directory to the user \
         that runs mooring",
    ),
];

fn cut(path: &Path, bytes: usize) {
    let contents = fs::read(path).unwrap();
    fs::write(path, &contents[..bytes]).unwrap();
}

fn manifest(data: &Path) -> std::path::PathBuf {
    let current = fs::read_to_string(data.join("db/CURRENT")).unwrap();
    data.join("db").join(current.trim_end())
}

/// What a start on this directory says, and its status.
fn start_on(data: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = mooring(&["serve", "--data"]);
    command.arg(data).args(arguments);
    let ended = Running::start(&mut command).end();
    assert_eq!(ended.stdout, "", "it did not start");
    (ended.status, ended.stderr)
}

const ANY_PORT: &str = "127.0.0.1:0";
const ANY_PORTS: [&str; 4] = ["--listen", ANY_PORT, "--admin", ANY_PORT];

#[test]
fn a_data_directory_that_is_not_sound_is_refused_and_left_alone() {
    for (name, damage, expected) in DATA_ROWS {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Server::start(&data).stop();
        damage(&data);
        let expected = format!("mooring: cannot start on {{data}}: {expected}\n");
        let expected = expected.replace("{data}", data.to_str().unwrap());
        // Twice: the first attempt has changed nothing.
        for _ in 0..2 {
            let (status, said) = start_on(&data, &ANY_PORTS);
            assert_said(name, (status, &said), (FAILED, &expected));
        }
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "hello").unwrap();
    let below = file.join("data");
    // Not even root makes a folder there.
    for data in [below.as_path(), Path::new("/sys/mooring")] {
        let (status, said) = start_on(data, &ANY_PORTS);
        let data = data.display();
        let expected = format!(
            "mooring: cannot start on {data}: cannot make {data}: *; give the directory to the \
             user that runs mooring\n"
        );
        assert_said("unwritable", (status, &said), (FAILED, &expected));
    }
}

#[test]
fn a_second_process_is_told_who_has_the_directory_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let pid = fs::read_to_string(data.join("LOCK")).unwrap();
    let (status, said) = start_on(&data, &ANY_PORTS);
    let expected = format!(
        "mooring: cannot start on {0}: {0} is in use by process {1}; stop that process, or give \
         this one its own directory\n",
        data.display(),
        pid.trim_end()
    );
    assert_said("second process", (status, &said), (FAILED, &expected));
    assert_eq!(common::http::get(server.admin, "/healthz").0, 200);
    server.stop();
}

#[test]
fn more_cores_than_the_directory_has_shards_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Server::start_with(&data, "[store]\nshards = 2\n").stop();
    let (status, said) = start_on(&data, &[&ANY_PORTS[..], &["--cores", "3"]].concat());
    let expected = format!(
        "mooring: cannot start on {}: server.cores = 3: the data directory has only 2 shards; use \
         fewer cores\n",
        data.display()
    );
    assert_said("cores", (status, &said), (FAILED, &expected));
}

#[test]
fn a_port_that_cannot_be_had_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let holder = TcpListener::bind(ANY_PORT).unwrap();
    let busy = holder.local_addr().unwrap().to_string();
    let taken = "Address already in use (os error 98); another process listens there: stop it or \
                 choose another port";
    // A block for documentation (RFC 5737), which no host has.
    let (foreign, absent) = (
        "192.0.2.1:7700",
        "Cannot assign requested address (os error 99); \
                                                this host has no such address",
    );
    let start = format!("cannot start on {}: ", data.display());
    let rows = [
        ("busy port", [&busy, ANY_PORT], start.as_str(), &*busy, taken),
        ("busy admin port", [ANY_PORT, &busy], "server.admin: ", &*busy, taken),
        ("foreign address", [foreign, ANY_PORT], start.as_str(), foreign, absent),
        ("foreign admin address", [ANY_PORT, foreign], "server.admin: ", foreign, absent),
    ];
    for (name, [listen, admin], where_, address, why) in rows {
        let (status, said) = start_on(&data, &["--listen", listen, "--admin", admin]);
        let expected = format!("mooring: {where_}cannot listen on {address}: {why}\n");
        assert_said(name, (status, &said), (FAILED, &expected));
    }
}

#[test]
fn a_token_comes_only_from_a_data_directory() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let broken = folder.path().join("broken");
    Server::start(&broken).stop();
    fs::write(broken.join("keys/first.pem"), "hello").unwrap();
    let rows = [
        (
            &absent,
            "{data} is not a data directory (it has no FORMAT); start `mooring serve --data \
             {data}` once, or name the right one",
        ),
        (
            &broken,
            "{data}/keys/first.pem: not an Ed25519 private key in PKCS #8 PEM; remove it or \
             replace it",
        ),
    ];
    for (data, expected) in rows {
        let mut command = mooring(&["token", "--user", "1", "--device", "1", "--data"]);
        let ended = Running::start(command.arg(data)).end();
        let expected = format!("mooring: {expected}\n").replace("{data}", data.to_str().unwrap());
        assert_said("token", (ended.status, &ended.stderr), (FAILED, &expected));
    }
    assert!(!absent.exists(), "a mistyped name makes no directory");
}
