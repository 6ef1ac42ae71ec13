//! Exit codes: a contract with scripts.

use std::process::ExitCode;

/// Done.
pub const DONE: ExitCode = ExitCode::SUCCESS;

/// What was asked about is bad.
pub fn bad() -> ExitCode {
    ExitCode::from(1)
}

/// The command line is wrong, or what it asks for is not in this version.
pub fn usage() -> ExitCode {
    ExitCode::from(2)
}

/// The node can't be reached.
pub fn unreachable() -> ExitCode {
    ExitCode::from(3)
}
