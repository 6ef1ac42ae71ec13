//! `millrace doctor`: what this host can do for each kind of port, and what mends what is missing.
//!
//! ```text
//! /sys /proc /dev ──► Host (files.rs, asker.rs) ──► findings, one file for each subject ──► Report (report.rs)
//! ```
//!
//! It reads and nothing else: no module is loaded, no device opened, no limit changed. All that it reads lies under one
//! root, so that a test can make a host of files; who asks is read from there as well. `docs/doctor.md` is the contract.

mod asker;
mod control;
mod cpu;
mod dpdk;
mod files;
mod finding;
mod iommu;
mod memory;
mod nics;
mod report;
#[cfg(test)]
mod tests;
mod tun;

use std::ffi::OsStr;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use self::asker::Asker;
pub use self::dpdk::Build;
use self::files::Files;
pub use self::finding::{Finding, Kind, Level};
pub use self::report::Report;
use crate::cli::DoctorArgs;
use crate::{exit, rundir};

/// A host, as far as it is looked at.
pub struct Host {
    files: Files,
    asker: Asker,
    /// What this program was built with.
    build: Build,
    /// Where run directories would go.
    run_root: PathBuf,
    /// Our end of the ssh session that asks.
    ssh: Option<IpAddr>,
}

impl Host {
    /// The host that we run on.
    pub fn this() -> Host {
        let ssh = std::env::var_os("SSH_CONNECTION");
        Host::at(Path::new("/"), Build::this(), rundir::root(), ssh.as_deref())
    }

    /// A host whose /sys, /proc and /dev lie under `root`. `ssh` is what sshd puts into `SSH_CONNECTION`.
    pub fn at(root: &Path, build: Build, run_root: PathBuf, ssh: Option<&OsStr>) -> Host {
        let files = Files::new(root);
        let asker = Asker::read(&files);
        // CLIENT PORT SERVER PORT
        let ssh = ssh.and_then(OsStr::to_str).and_then(|s| s.split(' ').nth(2)).and_then(|s| s.parse().ok());
        Host { files, asker, build, run_root, ssh }
    }

    /// Looks at everything that matters to ports of this kind, or to any.
    pub fn examine(&self, asked: Option<Kind>) -> Report {
        let nics = nics::all(self);
        let pages = memory::hugepages(self);
        let mut findings = Vec::new();
        findings.extend(cpu::findings(self));
        findings.extend(memory::findings(self, &pages, &nics));
        findings.extend(control::findings(self));
        findings.extend(dpdk::findings(self, &nics));
        findings.extend(iommu::findings(self, &nics));
        findings.extend(nics::findings(self, &nics));
        findings.extend(tun::findings(self));
        Report::new(asked, findings, nics, pages)
    }
}

/// `millrace doctor`
pub fn main(args: &DoctorArgs) -> ExitCode {
    let report = Host::this().examine(args.port);
    let text = if args.json { report.json() } else { report.text() };
    // A closed pipe (`| head`) is no reason to panic.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    if report.ok() { exit::DONE } else { exit::bad() }
}
