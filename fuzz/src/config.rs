//! The configuration file: no text panics; what is accepted is the same after it was written out
//! and read again.

use std::net::SocketAddr;

use gateway::config::Config;
use gateway::limits::Limits;

/// Reads `data` as the configuration file.
///
/// # Panics
/// If an accepted configuration does not come back as it was.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = toml::from_str::<Config>(text) else { return };
    let written = toml::to_string(&config).expect("what was read can be written");
    let again: Config = toml::from_str(&written).expect("what was written can be read");
    assert_eq!(config, again, "written as\n{written}");
    // Host names would be asked for over the network.
    let addresses = config.server.listen.iter().chain([&config.server.admin]);
    if addresses.into_iter().any(|text| text.parse::<SocketAddr>().is_err()) {
        return;
    }
    if let Ok(limits) = Limits::new(&config) {
        assert!(limits.cores > 0 && !limits.listen.is_empty());
        assert!(usize::from(limits.cores) <= usize::from(limits.store.shards));
        assert!(limits.ring.cq_entries > limits.ring.sq_entries);
    }
}
