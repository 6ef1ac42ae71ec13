//! `millrace stats`: the counters of a running node. Not built yet.

use std::process::ExitCode;

use crate::cli::StatsArgs;
use crate::exit;

/// `millrace stats`
pub fn main(_args: StatsArgs) -> ExitCode {
    eprintln!("millrace stats is not built yet; use `millrace check FILE` in the meantime");
    exit::usage()
}
