//! Who asks, and what the kernel lets them: the node's user should be the one who runs the doctor.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::files::Files;

/// Capabilities, by their bits in `CapEff`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cap {
    DacOverride = 1,
    NetBindService = 10,
    NetAdmin = 12,
    IpcLock = 14,
}

/// The process that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// The user, as files see it.
    pub uid: u32,
    groups: Vec<u32>,
    caps: u64,
    /// In a user namespace of its own: the capabilities say nothing about the host's files.
    pub in_namespace: bool,
    /// Soft limit of locked memory; `None`: none.
    pub memlock_bytes: Option<u64>,
    /// Soft limit of open files; `None`: none.
    pub open_files: Option<u64>,
}

impl Asker {
    pub(super) fn read(files: &Files) -> Asker {
        let status = files.text("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or("").trim()
        };
        // Real, effective, saved, of the file system: the last decides about files.
        let id = |name| field(name).split_whitespace().last().and_then(|n| n.parse::<u32>().ok());
        let mut groups: Vec<u32> =
            field("Groups").split_whitespace().filter_map(|n| n.parse().ok()).collect();
        groups.extend(id("Gid"));
        let limits = files.text("/proc/self/limits").unwrap_or_default();
        let limit = |name: &str| {
            let rest = limits.lines().find_map(|l| l.strip_prefix(name))?;
            rest.split_whitespace().next()?.parse().ok()
        };
        let uid_map = files.text("/proc/self/uid_map").unwrap_or_default();
        let whole: Vec<&str> = uid_map.split_whitespace().collect();
        Asker {
            // Without /proc nothing is known: take the least.
            uid: id("Uid").unwrap_or(u32::MAX),
            groups,
            caps: u64::from_str_radix(field("CapEff"), 16).unwrap_or(0),
            in_namespace: !whole.is_empty() && whole != ["0", "0", "4294967295"],
            memlock_bytes: limit("Max locked memory"),
            open_files: limit("Max open files"),
        }
    }

    pub(super) fn can(&self, cap: Cap) -> bool {
        self.caps >> (cap as u32) & 1 == 1
    }

    /// Whether a file with these facts may be read and written, by its owner and mode (lists of access rights are not
    /// looked at).
    pub(super) fn may_use(&self, facts: &Metadata) -> bool {
        self.allowed(facts, 0o6)
    }

    /// Whether a folder could be made in `folder`, or in the one above that will be made first.
    pub(super) fn may_make(&self, files: &Files, folder: &Path) -> bool {
        for part in folder.ancestors() {
            let Some(facts) = files.facts(part) else { continue };
            let allowed = facts.is_dir() && self.allowed(&facts, 0o3);
            // A file system can be read-only; only the kernel knows.
            let writable = rustix::fs::access(files.at(part), rustix::fs::Access::WRITE_OK);
            return allowed && (!files.real() || writable.is_ok());
        }
        false
    }

    fn allowed(&self, facts: &Metadata, bits: u32) -> bool {
        if self.can(Cap::DacOverride) && !self.in_namespace {
            return true;
        }
        let shift = match () {
            () if facts.uid() == self.uid => 6,
            () if self.groups.contains(&facts.gid()) => 3,
            () => 0,
        };
        facts.mode() >> shift & bits == bits
    }
}
