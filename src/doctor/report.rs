//! What was found, as a table and as JSON.

use serde::Serialize;

use super::memory::Pages;
use super::nics::Nic;
use super::{Finding, Kind, Level};

/// All that was found.
pub struct Report {
    pub(super) asked: Option<Kind>,
    findings: Vec<Finding>,
    nics: Vec<Nic>,
    pages: Vec<Pages>,
}

impl Report {
    /// Leaves out what does not matter to the kind that was asked about.
    pub(super) fn new(
        asked: Option<Kind>,
        mut findings: Vec<Finding>,
        nics: Vec<Nic>,
        pages: Vec<Pages>,
    ) -> Report {
        findings.retain(|f| asked.is_none_or(|kind| f.ports.contains(&kind)));
        Report { asked, findings, nics, pages }
    }

    /// Whether nothing must be mended: what the exit code says.
    pub fn ok(&self) -> bool {
        self.levels().all(|level| level < Level::Must)
    }

    /// What was found.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn levels(&self) -> impl Iterator<Item = Level> + '_ {
        self.findings.iter().map(|f| f.level(self.asked))
    }

    /// The kinds that the answer is about, each with what is in its way.
    fn verdicts(&self) -> Vec<(Kind, Vec<&'static str>)> {
        let kinds = Kind::ALL.into_iter().filter(|k| self.asked.is_none_or(|a| a == *k));
        let in_the_way = |kind: Kind| {
            let mut checks: Vec<_> =
                self.findings.iter().filter(|f| f.blocks.contains(&kind)).map(|f| f.check).collect();
            checks.dedup();
            checks
        };
        kinds.map(|k| (k, in_the_way(k))).collect()
    }

    /// For a person.
    pub fn text(&self) -> String {
        let title = |f: &Finding| match f.subject.as_str() {
            "" => f.check.to_owned(),
            subject => format!("{} {subject}", f.check),
        };
        let width = self.findings.iter().map(|f| title(f).len()).max().unwrap_or(0);
        let mut lines = Vec::new();
        for f in &self.findings {
            lines.push(format!("{:<4}  {:<width$}  {}", f.level(self.asked).name(), title(f), f.found));
            if !f.mend.is_empty() {
                lines.push(format!("{:<4}  {:<width$}  mend: {}", "", "", f.mend));
            }
        }
        lines.push(String::new());
        for (kind, in_the_way) in self.verdicts() {
            let verdict = match (&in_the_way[..], kind) {
                ([], Kind::Dpdk) => "a NIC can be driven".to_owned(),
                ([], _) => "can run".to_owned(),
                (checks, Kind::Dpdk) => format!("no NIC can be driven yet: {}", checks.join(", ")),
                (checks, _) => format!("cannot run yet: {}", checks.join(", ")),
            };
            lines.push(format!("{:<4}  {verdict}", kind.name()));
        }
        let count = |level: Level| self.levels().filter(|l| *l == level).count();
        lines.push(format!("{} must be mended, {} to look at", count(Level::Must), count(Level::Warn)));
        lines.join("\n")
    }

    /// For a program: one object, with the fields of `docs/doctor.md`.
    pub fn json(&self) -> String {
        let findings = self.findings.iter().map(|f| Line {
            check: f.check,
            subject: there(&f.subject),
            level: f.level(self.asked),
            found: &f.found,
            mend: there(&f.mend),
            ports: &f.ports,
            blocks: &f.blocks,
        });
        let ports = self.verdicts().into_iter();
        let object = Object {
            ok: self.ok(),
            port: self.asked,
            ports: ports
                .map(|(kind, because)| Verdict { kind, can_run: because.is_empty(), because })
                .collect(),
            findings: findings.collect(),
            nics: &self.nics,
            hugepages: &self.pages,
        };
        serde_json::to_string(&object).expect("strings and numbers always serialise")
    }
}

fn there(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[derive(Serialize)]
struct Object<'a> {
    ok: bool,
    port: Option<Kind>,
    ports: Vec<Verdict>,
    findings: Vec<Line<'a>>,
    nics: &'a [Nic],
    hugepages: &'a [Pages],
}

#[derive(Serialize)]
struct Verdict {
    kind: Kind,
    can_run: bool,
    because: Vec<&'static str>,
}

#[derive(Serialize)]
struct Line<'a> {
    check: &'static str,
    subject: Option<&'a str>,
    level: Level,
    found: &'a str,
    mend: Option<&'a str>,
    ports: &'a [Kind],
    blocks: &'a [Kind],
}
