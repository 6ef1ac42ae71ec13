//! One thing that was found.

use serde::Serialize;

/// Kinds of ports that a host can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A NIC of this host, by DPDK.
    Dpdk,
    /// A TAP device.
    Tap,
    /// Kernel sockets on loopback.
    Host,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Dpdk, Kind::Tap, Kind::Host];

    /// As in the config.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Dpdk => "dpdk",
            Kind::Tap => "tap",
            Kind::Host => "host",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// Costs speed, or a kind of port that was not asked about alone.
    Warn,
    /// What was asked about cannot run before this is mended.
    Must,
}

impl Level {
    /// The word in the table.
    pub fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warn => "warn",
            Level::Must => "must",
        }
    }
}

/// One thing that was found, in a sentence, with what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check it is of: a stable word.
    pub check: &'static str,
    /// Which of several things of a kind: a node, a PCI address; else empty.
    pub subject: String,
    /// How bad it is by itself; what it blocks makes it worse.
    own: Level,
    /// One sentence.
    pub found: String,
    /// Commands for root, or words where no command does it; empty where nothing is to be done.
    pub mend: String,
    /// The kinds of ports that it matters to.
    pub ports: Vec<Kind>,
    /// Those that cannot run as it is.
    pub blocks: Vec<Kind>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            check,
            subject: String::new(),
            own: Level::Ok,
            found: found.into(),
            mend: String::new(),
            ports: Kind::ALL.to_vec(),
            blocks: Vec::new(),
        }
    }

    pub(super) fn note(check: &'static str, found: impl Into<String>) -> Finding {
        Finding { own: Level::Note, ..Finding::ok(check, found) }
    }

    pub(super) fn warn(check: &'static str, found: impl Into<String>) -> Finding {
        Finding { own: Level::Warn, ..Finding::ok(check, found) }
    }

    pub(super) fn about(self, subject: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), ..self }
    }

    pub(super) fn mend(self, mend: impl Into<String>) -> Finding {
        Finding { mend: mend.into(), ..self }
    }

    /// It matters to these kinds only.
    pub(super) fn matters_to(self, ports: &[Kind]) -> Finding {
        Finding { ports: ports.to_vec(), ..self }
    }

    /// These kinds cannot run as it is.
    pub(super) fn blocks(self, kinds: &[Kind]) -> Finding {
        Finding { blocks: kinds.to_vec(), ..self }
    }

    /// How bad it is for who asked about one kind, or about any: what blocks all that was asked about must be mended.
    pub fn level(&self, asked: Option<Kind>) -> Level {
        let all = match asked {
            Some(kind) => self.blocks.contains(&kind),
            None => Kind::ALL.iter().all(|k| self.blocks.contains(k)),
        };
        match self.blocks.len() {
            _ if all => Level::Must,
            1.. if asked.is_none() => self.own.max(Level::Warn),
            _ => self.own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blocks_all_that_was_asked_about_must_be_mended() {
        let f = Finding::note("x", "y").blocks(&[Kind::Dpdk]);
        assert_eq!(f.level(Some(Kind::Dpdk)), Level::Must);
        assert_eq!(f.level(Some(Kind::Tap)), Level::Note);
        assert_eq!(f.level(None), Level::Warn, "other kinds run");
        let f = f.blocks(&Kind::ALL);
        assert_eq!(f.level(None), Level::Must);
        assert_eq!(Finding::ok("x", "y").level(None), Level::Ok);
    }
}
