//! How clients find this gateway: what it says of itself, to ZooKeeper or to its own process, on a
//! thread of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use discovery::zookeeper::{Settings, announce, follow};
use discovery::{Board, Record};
use gateway::config::DiscoveryConfig;
use gateway::metrics::Metrics;
use gateway::server::Drainer;
use tokio::sync::watch;

/// Between two looks at the load; a change of it is told then.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A load that has changed by less than this part of all is not worth telling.
const WORTH_TELLING: u64 = 200;

/// What the gateway says of itself when it starts.
pub(crate) fn record(
    config: &DiscoveryConfig,
    addresses: &[SocketAddr],
    sessions_max: u64,
) -> Result<Record> {
    let address = addresses.first().context("server.listen: a gateway listens somewhere")?;
    let or = |text: &str, default: String| if text.is_empty() { default } else { text.to_owned() };
    // A colon of an IPv6 address would not do as a name.
    let id = or(&config.id, address.to_string().replace([':', '[', ']'], "-"));
    let record = Record {
        id: id.trim_matches('-').to_owned(),
        url: or(&config.url, format!("ws://{address}")),
        region: config.region.clone(),
        release: config.release,
        sessions: 0,
        sessions_max,
        draining: false,
    };
    record.check().context("discovery")?;
    Ok(record)
}

/// Starts to make it known, and to know the others.
pub(crate) fn start(
    config: &DiscoveryConfig,
    record: Record,
    metrics: Arc<Metrics>,
    drainer: Drainer,
) -> Result<Arc<Board>> {
    let board = Arc::new(Board::default());
    let announces = config.announce;
    if announces {
        board.put(record.clone());
    }
    let (sender, records) = watch::channel(record);
    let settings = (!config.zookeeper.is_empty()).then(|| Settings {
        cluster: config.zookeeper.clone(),
        root: config.root.clone(),
        session_timeout: Duration::from_secs(config.session_timeout_seconds.into()),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let known = Arc::clone(&board);
    let run = move || {
        runtime.block_on(async move {
            if let Some(settings) = settings.clone() {
                if announces {
                    tokio::spawn(announce(settings.clone(), records));
                }
                tokio::spawn(follow(settings, Arc::clone(&known)));
            }
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                let draining = drainer.is_draining() || drainer.evacuation().is_some();
                let has_changed =
                    sender.send_if_modified(|record| look(record, metrics.sessions(), draining));
                if has_changed && announces && settings.is_none() {
                    known.put(sender.borrow().clone());
                }
            }
        });
    };
    std::thread::Builder::new().name("discovery".into()).spawn(run)?;
    Ok(board)
}

/// Brings the record up to date; whether that is worth telling.
fn look(record: &mut Record, sessions: u64, draining: bool) -> bool {
    let step = (record.sessions_max / WORTH_TELLING).max(1);
    if record.draining == draining && record.sessions.abs_diff(sessions) < step {
        return false;
    }
    (record.sessions, record.draining) = (sessions, draining);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_named_by_its_address_unless_it_has_a_name() {
        let config = DiscoveryConfig::default();
        let named = |address: &str| {
            let record = record(&config, &[address.parse().unwrap()], 9).unwrap();
            (record.id, record.url)
        };
        let pair = |id: &str, url: &str| (id.to_owned(), url.to_owned());
        assert_eq!(named("127.0.0.1:77"), pair("127.0.0.1-77", "ws://127.0.0.1:77"));
        assert_eq!(named("[::1]:77"), pair("1--77", "ws://[::1]:77"));
        let config = DiscoveryConfig { region: "e u".into(), ..DiscoveryConfig::default() };
        let error = record(&config, &["127.0.0.1:77".parse().unwrap()], 9).unwrap_err();
        assert!(format!("{error:#}").starts_with("discovery: region"), "{error:#}");
    }

    #[test]
    fn a_change_is_told_if_it_is_worth_it() {
        let addresses = ["127.0.0.1:77".parse().unwrap()];
        let mut record = record(&DiscoveryConfig::default(), &addresses, 2000).unwrap();
        assert!(!look(&mut record, 9, false));
        assert!(look(&mut record, 10, false));
        assert!(!look(&mut record, 10, false));
        assert!(look(&mut record, 10, true), "a drain always is");
    }
}
