//! Congestion control: of a listener, of a share of its connections, of a site.

use stack::tcp::cc::Algorithm;

use crate::config::model::Split;
use crate::config::reader::{Table, Value};
use crate::config::report::quote;

/// `congestion`
pub(super) fn congestion(table: &Table<'_, '_>) -> Option<Algorithm> {
    let choices = Algorithm::ALL.map(|a| (a.name(), a));
    table.get("congestion").and_then(|v| v.choice(&choices))
}

/// `split`, of a listener whose other connections have `base`.
pub(super) fn split(table: &Table<'_, '_>, base: Algorithm) -> Split {
    let mut split = Split::default();
    let table = table.table("split");
    for entry in table.entries() {
        let Some(algorithm) = Algorithm::from_name(entry.key) else {
            let names = Algorithm::ALL.map(Algorithm::name).join(", ");
            let cause = format!("{} is no congestion control", quote(entry.key));
            table.wrong(&entry.place, cause, format!("choose from {names}, as in {{ bbr = 10 }}"));
            continue;
        };
        if algorithm == base {
            let cause = format!("the split names {}, which the other connections have", algorithm.name());
            table.wrong(&entry.place, cause, "name another, or change \"congestion\"");
            continue;
        }
        split.0[algorithm as usize] = percent(&entry.value).unwrap_or(0);
    }
    let all: u32 = split.0.iter().map(|n| u32::from(*n)).sum();
    if all > 100 {
        table.wrong(
            table.place(),
            format!("the split gives away {all} of 100 connections"),
            "give away less",
        );
    }
    table.finish();
    split
}

/// A share in percent: the number, or with its unit.
fn percent(value: &Value<'_, '_>) -> Option<u8> {
    if value.is_integer() {
        return value.integer(1..=100).map(|n| n as u8);
    }
    value.percent(1..=100)
}
