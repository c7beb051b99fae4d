//! `mooring token`: an access token, for a first try and for tests.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use gateway::auth::{Identity, KeyRing};
use gateway::ids::{DeviceId, UserId};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Data directory whose key signs
    #[arg(long, env = "MOORING_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Number of the user, from 1
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..),
        required_unless_present = "service")]
    user: Option<u64>,
    /// Number of her device, from 1
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..),
        required_unless_present = "service")]
    device: Option<u32>,
    /// For a service instead, which acts for every user: keep it as you keep the key
    #[arg(long, conflicts_with_all = ["user", "device"])]
    service: bool,
    /// How long it is valid
    #[arg(long, value_name = "SECONDS", default_value_t = 24 * 60 * 60)]
    seconds: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    crate::require_data(&args.data)?;
    let keys = KeyRing::open(&args.data, Duration::ZERO)?;
    let (now, lifetime) = (gateway::clock::wall(), Duration::from_secs(args.seconds));
    let token = match args.user.and_then(UserId::new).zip(args.device) {
        Some((user, device)) => {
            keys.sign(Identity { user, device: DeviceId(device) }, now, lifetime)
        }
        None => keys.sign_service(now, lifetime),
    };
    writeln!(std::io::stdout(), "{token}")?;
    Ok(())
}
