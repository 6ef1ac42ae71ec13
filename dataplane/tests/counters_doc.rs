//! Holds docs/counters.md against the schema, from which it is made. After a change of the schema:
//!
//! ```text
//! MILLRACE_BLESS=1 cargo test -p dataplane --test counters_doc
//! ```

use std::fmt::Write;
use std::path::Path;

use dataplane::{Ctr, Hist, Stage};

const INTRO: &str = "\
<!-- Made from dataplane/src/counters/schema.rs; do not edit. To make it anew:
     MILLRACE_BLESS=1 cargo test -p dataplane --test counters_doc -->

# Counters

What a node counts. `millrace stats` shows the values, `millrace stats --json` gives them under these names.
They are kept per core, written with plain stores into a shared-memory segment, and summed by whoever reads; a
node that has crashed leaves them behind.

Counters only grow while the node runs; a *gauge* is a level that goes up and down.

Two laws hold whenever a core is between two passes of its loop, and `millrace stats` shows both. No packet is
lost without a reason. (Whoever reads while a pass is under way may find a burst that is not settled yet.)

- received: `rx.packets + rx.taken_over = rx.accepted + rx.forwarded + rx.punted + rx.handed_over + Σ drop.*`, without
  `drop.tx.*`. It holds for each core, and for the node. A frame that one core hands over to another is `handed_over`
  by the one and `taken_over` by the other; over all cores the two are equal but for the frames that are in the mail.
- built: `tx.built = tx.sent + tx.queued + Σ drop.tx.*`
";

/// Headings, each with the prefixes of the names under it, in the order of the page.
const SECTIONS: &[(&str, &[&str])] = &[
    ("Received packets", &["rx."]),
    ("Built packets", &["tx."]),
    ("Drops of received packets, by reason", &["drop."]),
    ("Drops of built packets, by reason", &["drop.tx."]),
    ("Neighbours, ICMP and UDP", &["arp.", "nd.", "neighbour.", "icmp.", "udp."]),
    ("TCP", &["tcp."]),
    ("TLS", &["tls."]),
    ("HTTP, the client's side", &["http."]),
    ("The cache", &["cache."]),
    ("HTTP, the origin's side", &["origin."]),
    ("The cache", &["cache."]),
    ("Core loop, pools, steering, mail and logs", &["loop.", "pool.", "steer.", "mail.", "log."]),
];

/// The section with the longest prefix of a name.
fn section_of(name: &str) -> Option<usize> {
    let prefix_len = |(i, (_, prefixes)): (usize, &(&str, &[&str]))| {
        prefixes.iter().filter(|p| name.starts_with(**p)).map(|p| (p.len(), i)).max()
    };
    SECTIONS.iter().enumerate().filter_map(prefix_len).max().map(|(_, i)| i)
}

fn render() -> String {
    let mut page = INTRO.to_owned();
    for (i, (heading, _)) in SECTIONS.iter().enumerate() {
        write!(page, "\n## {heading}\n\n| Name | Unit | Meaning |\n|---|---|---|\n").expect("to a String");
        for c in Ctr::ALL.iter().filter(|c| section_of(c.name()) == Some(i)) {
            writeln!(page, "| `{}` | {} | {} |", c.name(), c.unit().word(), c.help()).expect("to a String");
        }
    }
    page.push_str(
        "\n## Stages\n\nIn the order in which a packet meets them. Each counts calls, packets and TSC cycles.\n\n\
         | Name | Meaning |\n|---|---|\n",
    );
    for s in Stage::ALL {
        writeln!(page, "| `{}` | {} |", s.name(), s.help()).expect("to a String");
    }
    page.push_str(
        "\n## Latencies\n\nIn nanoseconds; histograms whose buckets are at most 3 % wide, from which the \
         percentiles come.\n\n| Name | Meaning |\n|---|---|\n",
    );
    for h in Hist::ALL {
        writeln!(page, "| `{}` | {} |", h.name(), h.help()).expect("to a String");
    }
    page
}

#[test]
fn the_page_says_what_the_schema_says() {
    for c in Ctr::ALL {
        assert!(section_of(c.name()).is_some(), "{} has no section: add its prefix to SECTIONS", c.name());
        assert!(!c.help().contains('|'), "{}: a bar would break the table", c.name());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/counters.md");
    let made = render();
    if std::env::var_os("MILLRACE_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &made).expect("docs/counters.md can be written");
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let line = page.lines().zip(made.lines()).position(|(a, b)| a != b);
    let line = line.unwrap_or(page.lines().count().min(made.lines().count())) + 1;
    assert!(
        page == made,
        "docs/counters.md differs from the schema from line {line} on; make it anew: \
         MILLRACE_BLESS=1 cargo test -p dataplane --test counters_doc"
    );
}
