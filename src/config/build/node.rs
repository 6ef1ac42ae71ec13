//! The tables of which there is one: `[node]`, `[timeouts]`, `[limits]`, `[tcp]`, `[log]`, `[resolver]`.

use std::net::SocketAddr;
use std::time::Duration;

use hugepages::PagePolicy;
use stack::{CookieUse, EcnUse};

use super::{HOUR, SECOND, eal, log_target, text, texts, time};
use crate::config::machine::Machine;
use crate::config::model::*;
use crate::config::names;
use crate::config::reader::{Place, Table};
use crate::config::units::show_size;
use crate::config::{CONNECTIONS_MAX, CORE_MEMORY_BYTES_MIN, HEAD_BYTES, MEMORY_BYTES_MIN};

/// Name servers that are asked in turn.
const SERVERS_MAX: usize = 8;

/// Also gives the place of `eal_args`.
pub(super) fn node(table: &Table<'_, '_>, machine: &Machine) -> (Node, Option<Place>) {
    let name =
        table.get("name").and_then(|v| text(&v, names::label)).unwrap_or_else(|| "default".to_string());
    let mut cores: Vec<u16> = Vec::new();
    for value in table.get("cores").map(|v| v.list()).unwrap_or_default() {
        let Some(core) = value.integer(0..=65535).map(|n| n as u16) else { continue };
        if !machine.cores.contains(&core) {
            let cause = format!("this machine has no core {core}");
            value.error(cause, format!("choose from {}", show_cores(&machine.cores)));
        } else if cores.contains(&core) {
            value.error(format!("core {core} is listed twice"), "list each core once");
        } else {
            cores.push(core);
        }
    }
    let memory = table.get("memory").and_then(|value| {
        let bytes = value.size(0..=u64::MAX)?;
        let shown = show_size(bytes);
        let share = bytes / cores.len().max(1) as u64;
        if bytes >= MEMORY_BYTES_MIN && share < CORE_MEMORY_BYTES_MIN {
            let mend = format!("give it {} for each core, or list fewer", show_size(CORE_MEMORY_BYTES_MIN));
            value.error(format!("{shown} of memory is too small for {} cores", cores.len()), mend);
        } else if bytes < MEMORY_BYTES_MIN {
            let mend = format!("give it {} or more", show_size(MEMORY_BYTES_MIN));
            value.error(format!("{shown} of memory is too small for a node"), mend);
        } else if bytes > machine.memory_bytes {
            let mend = format!("give it less than {}MiB", machine.memory_bytes >> 20);
            value.error(format!("{shown} of memory is more than this machine has"), mend);
        }
        Some(bytes)
    });
    let choices =
        [("best", PagePolicy::Best), ("huge", PagePolicy::HugeOnly), ("normal", PagePolicy::NormalOnly)];
    let pages = table.get("pages").and_then(|v| v.choice(&choices));
    let eal_args_value = table.get("eal_args");
    let eal_args = eal_args_value.as_ref().map(eal::arguments).unwrap_or_default();
    let drain = table.get("drain").and_then(|v| v.duration(Duration::ZERO..=24 * HOUR));
    table.finish();
    let node = Node {
        name,
        cores,
        pages: pages.unwrap_or_default(),
        eal_args,
        memory_bytes: memory.unwrap_or_else(|| machine.memory_default_bytes()),
        drain: drain.unwrap_or(30 * SECOND),
    };
    (node, eal_args_value.map(|v| v.place))
}

pub(super) fn timeouts(table: &Table<'_, '_>) -> Timeouts {
    let default = Timeouts::default();
    let timeouts = Timeouts {
        header: time(table, "header", default.header),
        keep_alive: time(table, "keep_alive", default.keep_alive),
    };
    table.finish();
    timeouts
}

pub(super) fn limits(table: &Table<'_, '_>) -> Limits {
    let default = Limits::default();
    let head = table.get("head_bytes_max").and_then(|v| v.size(HEAD_BYTES));
    let connections = table.get("connections").and_then(|v| v.integer(1..=u64::from(CONNECTIONS_MAX)));
    table.finish();
    Limits {
        head_bytes_max: head.map_or(default.head_bytes_max, |n| n as u32),
        connections_max: connections.map(|n| n as u32),
    }
}

pub(super) fn tcp(table: &Table<'_, '_>) -> Tcp {
    let cookies = [
        ("under_pressure", CookieUse::UnderPressure),
        ("always", CookieUse::Always),
        ("never", CookieUse::Never),
    ];
    let ecn = [("when_asked", EcnUse::WhenAsked), ("always", EcnUse::Always), ("never", EcnUse::Never)];
    let tcp = Tcp {
        syn_cookies: table.get("syn_cookies").and_then(|v| v.choice(&cookies)).unwrap_or_default(),
        ecn: table.get("ecn").and_then(|v| v.choice(&ecn)).unwrap_or_default(),
    };
    table.finish();
    tcp
}

pub(super) fn log(table: &Table<'_, '_>) -> Log {
    let default = Log::default();
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let access_formats = [("json", AccessFormat::Json), ("text", AccessFormat::Text)];
    let log = Log {
        level: table.get("level").and_then(|v| v.choice(&levels)).unwrap_or(default.level),
        format: table.get("format").and_then(|v| v.choice(&formats)).unwrap_or(default.format),
        access: table.get("access").and_then(|v| log_target(&v)),
        access_format: table
            .get("access_format")
            .and_then(|v| v.choice(&access_formats))
            .unwrap_or(default.access_format),
    };
    table.finish();
    log
}

pub(super) fn resolver(table: &Table<'_, '_>) -> Resolver {
    let default = Resolver::default();
    let mut servers: Vec<SocketAddr> = Vec::new();
    if let Some(value) = table.get("servers") {
        let items = value.one_or_more();
        if items.len() > SERVERS_MAX {
            value.error("there are too many name servers", format!("keep {SERVERS_MAX} of them"));
        }
        servers.extend(texts(&items, names::server).into_iter().map(|s| s.value));
    }
    let ttl_min = table.get("ttl_min").and_then(|v| v.duration(SECOND..=24 * HOUR));
    table.finish();
    Resolver { servers, ttl_min: ttl_min.unwrap_or(default.ttl_min) }
}

/// `0-3, 8` for a sorted list.
fn show_cores(cores: &[u16]) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &core in cores {
        match ranges.last_mut() {
            Some((_, last)) if u32::from(*last) + 1 == u32::from(core) => *last = core,
            _ => ranges.push((core, core)),
        }
    }
    let show = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(show).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_shown_as_ranges() {
        assert_eq!(show_cores(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
        assert_eq!(show_cores(&[]), "");
        assert_eq!(show_cores(&[65535]), "65535");
    }
}
