//! `mooring check`: reads a data directory that no server uses, and compares everything in it.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use gateway::check::{Checked, Loss, check};
use gateway::config::Config;
use gateway::limits::Limits;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// TOML file with the configuration that the server has
    #[arg(long, env = "MOORING_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory; no server may be using it
    #[arg(long, env = "MOORING_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// If the log has lost what was acknowledged: go on without it. Keep a copy first. Every device
    /// loads anew
    #[arg(long)]
    accept_loss: bool,
}

/// Recovers first, as a start would: what a crash has left is completed before it is judged.
pub(crate) fn run(args: &Args) -> Result<()> {
    crate::require_data(&args.data)?;
    let config = args.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
    let limits = Limits::new(&config)?;
    let loss = if args.accept_loss { Loss::Accepted } else { Loss::Refused };
    let Checked { recovery, report } = check(&args.data, &limits, loss)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "recovered  {} messages and {} inbox entries of the journal, {} entries completed\n\
         channels   {}\nmessages   {}\nmembers    {}\nusers      {}\nentries    {}\n\
         cursors    {}\nendings    {}",
        recovery.messages,
        recovery.entries,
        recovery.completed,
        report.channels,
        report.messages,
        report.members,
        report.users,
        report.entries,
        report.cursors,
        report.endings,
    )?;
    for torn in &report.torn {
        writeln!(out, "torn       {torn}")?;
    }
    anyhow::ensure!(
        report.is_sound(),
        "{}: {} contradictions; keep a copy of the directory before anything else",
        args.data.display(),
        report.torn_count
    );
    writeln!(out, "sound")?;
    Ok(())
}
