//! `eal_args` of `[node]`: arguments of DPDK's environment beyond those that we give it. A wrong one would end the
//! process within DPDK, and some would undo what we rely on: only known ones are taken, and none of ours.

use crate::config::reader::{Value, nearest};
use crate::config::report::quote;

/// What may be given, and whether a value belongs to it. All of DPDK 22.11's that are not in [`OURS`].
const KNOWN: [(&str, HasValue); 24] = [
    ("-d", HasValue::Yes),
    ("-n", HasValue::Yes),
    ("-r", HasValue::Yes),
    ("--base-virtaddr", HasValue::Yes),
    ("--create-uio-dev", HasValue::No),
    ("--file-prefix", HasValue::Yes),
    ("--force-max-simd-bitwidth", HasValue::Yes),
    ("--huge-dir", HasValue::Yes),
    ("--huge-unlink", HasValue::Maybe),
    ("--iova-mode", HasValue::Yes),
    ("--legacy-mem", HasValue::No),
    ("--log-level", HasValue::Yes),
    ("--match-allocations", HasValue::No),
    ("--no-hpet", HasValue::No),
    ("--single-file-segments", HasValue::No),
    ("--socket-limit", HasValue::Yes),
    ("--syslog", HasValue::Yes),
    ("--trace", HasValue::Yes),
    ("--trace-bufsz", HasValue::Yes),
    ("--trace-dir", HasValue::Yes),
    ("--trace-mode", HasValue::Yes),
    ("--vfio-intr", HasValue::Yes),
    ("--vfio-vf-token", HasValue::Yes),
    ("--vmware-tsc-map", HasValue::No),
];

/// What may not, why, and what to write instead.
const OURS: [(&[&str], &str, &str); 9] = [
    (
        &["-l", "-c", "-s", "-S", "--lcores", "--main-lcore"],
        "the node's own threads are the cores",
        "list them in \"cores\"",
    ),
    (&["-m", "--socket-mem"], "it follows from the ports", "remove it"),
    (&["--no-huge", "--in-memory"], "it follows from the pages there are", "use \"pages\" in [node]"),
    (&["-a", "--allow", "--no-pci"], "it follows from the ports", "name the NIC as a port's \"device\""),
    (&["-b", "--block"], "no device is used but those of the ports", "remove it"),
    (&["--vdev"], "devices are ports", "name it as a port's \"device\""),
    (
        &["--no-shconf", "--telemetry", "--no-telemetry", "--proc-type"],
        "no other process shares our DPDK",
        "remove it",
    ),
    (&["--mbuf-pool-ops-name"], "the port makes its own pools", "remove it"),
    (&["-h", "--help", "-v", "--"], "the node would not start with it", "remove it"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum HasValue {
    No,
    /// Behind a `=`, or as the next element of the list.
    Yes,
    /// Only behind a `=`.
    Maybe,
}

/// The arguments, each in one or two elements of the list; what is wrong is reported.
pub(super) fn arguments(value: &Value<'_, '_>) -> Vec<String> {
    let mut all = Vec::new();
    let mut items = value.list().into_iter();
    while let Some(item) = items.next() {
        let Some(text) = item.string() else { continue };
        if text.bytes().any(|b| !b.is_ascii_graphic()) {
            item.error(format!("{} is not an argument of EAL's", quote(text)), "write one without spaces");
            continue;
        }
        let (name, with) = match text.split_once('=') {
            Some((name, with)) if name.starts_with("--") => (name, Some(with)),
            // `-n4` is `-n 4`.
            _ if text.starts_with('-')
                && !text.starts_with("--")
                && text.len() > 2
                && text.is_char_boundary(2) =>
            {
                (&text[..2], Some(&text[2..]))
            }
            _ => (text, None),
        };
        if let Some((_, why, mend)) = OURS.iter().find(|(names, ..)| names.contains(&name)) {
            item.error(format!("{} is not for \"eal_args\": {why}", quote(name)), *mend);
            // Its value would be taken for another argument.
            return Vec::new();
        }
        let Some((_, has_value)) = KNOWN.iter().find(|(known, _)| *known == name) else {
            // Words of the file have no hyphens: what looks for slips minds that.
            let names = KNOWN.map(|(name, _)| name.replace('-', "_"));
            let mend = match nearest(name, &names) {
                Some(close) => format!("did you mean \"{}\"?", close.replace('_', "-")),
                None => "DPDK's guide lists them: https://doc.dpdk.org/guides-22.11/linux_gsg/".to_owned(),
            };
            item.error(format!("{} is not an argument of EAL's", quote(name)), mend);
            return Vec::new();
        };
        all.push(text.to_owned());
        match (has_value, with) {
            (HasValue::Yes, None) => match items.next().as_ref().and_then(|next| next.string()) {
                Some(next) if !next.starts_with('-') && next.bytes().all(|b| b.is_ascii_graphic()) => {
                    all.push(next.to_owned());
                }
                _ => item
                    .error(format!("{} has no value", quote(name)), "write it behind, as in \"-n\", \"4\""),
            },
            (HasValue::No, Some(_)) => item.error(format!("{} takes no value", quote(name)), "remove it"),
            _ => {}
        }
    }
    all
}
