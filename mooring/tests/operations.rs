//! docs/operations.md tells the truth: its tables are compared with the program.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not foresee")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;

use common::http;
use common::process::{Running, Server, mooring};
use gateway::config::Config;

/// The rows of the tables of one section, each a list of cells.
fn rows(section: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let heading = format!("\n## {section}\n");
    let start = text.find(&heading).expect("the section is there") + heading.len();
    let rest = &text[start..];
    let section = rest.find("\n## ").map_or(rest, |end| &rest[..end]);
    let cells = |line: &str| {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect()
    };
    section.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

/// Fails with the rows in which the document and the program differ.
fn assert_agree<Value>(listed: &BTreeMap<String, Value>, told: &BTreeMap<String, Value>)
where
    Value: PartialEq + Debug,
{
    let keys: BTreeSet<&String> = listed.keys().chain(told.keys()).collect();
    let differences: Vec<String> = keys
        .into_iter()
        .filter(|key| listed.get(*key) != told.get(*key))
        .map(|key| format!("{key}: docs {:?}, program {:?}", listed.get(key), told.get(key)))
        .collect();
    assert!(differences.is_empty(), "docs/operations.md differs:\n{}", differences.join("\n"));
}

#[test]
fn every_key_is_listed_with_its_default() {
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    let mut expected = BTreeMap::new();
    for (table, keys) in defaults {
        for (key, value) in keys.as_table().expect("the file has tables alone") {
            expected.insert(format!("{table}.{key}"), value.clone());
        }
    }
    let listed: BTreeMap<String, toml::Value> = rows("Configuration")
        .into_iter()
        .map(|row| {
            let value = format!("value = {}", row[1]).parse::<toml::Table>();
            let value = value.unwrap_or_else(|error| panic!("{}: {error}", row[0]));
            (row[0].clone(), value["value"].clone())
        })
        .collect();
    assert_agree(&listed, &expected);
}

#[test]
fn every_metric_is_listed_with_its_type() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let (_, text) = http::get(server.admin, "/metrics");
    server.stop();
    let told: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| {
            let suffix = if kind == "counter" { "_total" } else { "" };
            (format!("{name}{suffix}"), kind.to_owned())
        })
        .collect();
    let listed: BTreeMap<String, String> =
        rows("Metrics").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_agree(&listed, &told);
}

#[test]
fn the_exposition_is_what_a_scraper_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let (_, text) = http::get(server.admin, "/metrics");
    server.stop();
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let Some(name) = name.strip_suffix(" histogram") else { continue };
        let last = text.lines().rfind(|line| line.starts_with(&format!("{name}_bucket")));
        let last = last.expect("a histogram has buckets");
        assert!(last.starts_with(&format!("{name}_bucket{{le=\"+Inf\"}} ")), "{last}");
    }
}

#[test]
fn every_flag_of_serve_is_listed_with_its_variable() {
    let help = Running::start(&mut mooring(&["serve", "--help"])).end().stdout;
    let told: Vec<_> = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--")?.split_once(" <"))
        .map(|(flag, rest)| {
            let (_, variable) = rest.split_once("[env: ").expect("each has a variable");
            let (variable, _) = variable.split_once('=').expect("clap shows its value");
            (format!("--{flag}"), variable.to_owned())
        })
        .collect();
    let listed: Vec<_> = rows("Flags and environment")
        .into_iter()
        .map(|row| (row[0].split(' ').next().unwrap_or_default().to_owned(), row[1].clone()))
        .collect();
    assert_eq!(listed, told, "in\n{help}");
}
