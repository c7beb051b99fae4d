//! `mooring check-config FILE`: what a start would make of it, without starting.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use gateway::config::Config;
use gateway::limits::Limits;

use crate::serve::log_filter;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let config = Config::read(&args.file)?;
    let limits = Limits::new(&config)?;
    log_filter(&config.log)?;
    let listen: Vec<String> = limits.listen.iter().map(ToString::to_string).collect();
    writeln!(
        std::io::stdout(),
        "{}: ok\n  listens on {}, admin on {}\n  {} cores of at most {} connections\n  \
         {} MiB of memory, {} of them for each core\n  data in {}",
        args.file.display(),
        listen.join(", "),
        limits.admin,
        limits.cores,
        limits.connections_max,
        limits.memory_bytes_max >> 20,
        limits.core_bytes_max >> 20,
        limits.data.display(),
    )?;
    Ok(())
}
