//! The node: ports, cores and pipeline put together from a [`Config`]. Not built yet.

use std::process::ExitCode;

use crate::cli::DemoArgs;
use crate::config::Config;
use crate::exit;

/// `millrace demo`
pub fn demo(_args: DemoArgs) -> ExitCode {
    eprintln!("millrace demo is not built yet; use `millrace check FILE` in the meantime");
    exit::usage()
}

/// `millrace run`
pub fn run(_config: Config) -> ExitCode {
    eprintln!("millrace run is not built yet; use `millrace check FILE` in the meantime");
    exit::usage()
}
