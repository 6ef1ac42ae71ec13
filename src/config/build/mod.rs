//! From the file's tables to a [`Config`]: one function per table, then what holds between tables.
//!
//! Each function asks for all its keys before it judges any, and goes on after an error, so that one run reports
//! everything.

mod acme;
mod cache;
mod certificate;
mod congestion;
mod eal;
mod files;
mod headers;
mod listeners;
mod node;
mod ports;
mod sites;
mod tls;
mod upstream;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use self::acme::stored_at;
pub(super) use self::certificate::stored;
use toml::de::DeTable;

use self::listeners::ListenerAt;
use self::ports::PortAt;
use self::sites::SiteAt;
use super::machine::Machine;
use super::model::*;
use super::names::Wrong;
use super::reader::{Context, Place, Table, Value};
use super::report::quote;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A value and where it stands, for the checks between tables.
struct At<T> {
    value: T,
    place: Place,
}

/// Reads the whole file; `None` when anything was reported.
pub fn config(
    context: &Context<'_>,
    entries: &DeTable<'_>,
    machine: &Machine,
    folder: &Path,
) -> Option<Config> {
    let top = Table::top(context, entries);
    let (node, eal_args_at) = node::node(&top.table("node"), machine);
    let log = node::log(&top.table("log"));
    let cache_at = cache::memory(&top.table("cache"));
    let acme_table = top.table("acme");
    let acme_there = entries.contains_key("acme");
    let acme = acme::acme(folder, acme_there, &acme_table);
    let mut reader = Reader {
        context,
        folder,
        log: log.clone(),
        ports: Vec::new(),
        listeners: Vec::new(),
        sites: Vec::new(),
        upstreams: Vec::new(),
        acme,
        acme_there,
        system_trusted_at: None,
        object_maxima: Vec::new(),
        whole: true,
    };

    let ports = top.tables("port");
    let listeners = top.tables("listener");
    let sites = top.tables("site");
    for table in &ports {
        reader.port(table);
    }
    for table in &listeners {
        reader.listener(table);
    }
    for table in &sites {
        reader.site(table);
    }
    let timeouts = node::timeouts(&top.table("timeouts"));
    let limits = node::limits(&top.table("limits"));
    let tcp = node::tcp(&top.table("tcp"));
    let tls = tls::tls(folder, &top.table("tls"));
    let resolver = node::resolver(&top.table("resolver"));
    top.later("route", "remove it: the gateway of the port is used");
    for (key, is_empty, mend) in [
        ("port", ports.is_empty(), "add one, with name, kind and addresses"),
        ("listener", listeners.is_empty(), "add one, as in address = \"192.0.2.10\", http = 80"),
        ("site", sites.is_empty(), "add one, as in hosts = [\"*\"], origin = \"http://192.0.2.80\""),
    ] {
        // With the wrong type (`[port]`), that has been said already.
        if is_empty && !entries.contains_key(key) {
            context.report_absence(&Place::file(), format!("there is no [[{key}]]"), mend);
        }
    }
    top.finish();
    reader.between_ports(eal_args_at.as_ref());
    reader.between_listeners();
    reader.between_sites();
    reader.between_tls();
    reader.between_acme(&acme_table);
    let cache = reader.cache(&cache_at, &node);
    let system_roots = reader.system_roots();
    if context.errors_count() > 0 {
        return None;
    }

    let Reader { ports, listeners, sites, upstreams, acme, .. } = reader;
    Some(Config {
        node,
        ports: ports.into_iter().map(|p| p.port).collect(),
        listeners: listeners
            .into_iter()
            .map(|l| Listener {
                addresses: l.addresses.into_iter().map(|a| a.value).collect(),
                http: l.http.map(|p| p.value),
                https: l.https.map(|p| p.value),
                proxy_protocol_from: l.proxy_protocol_from,
                congestion: l.congestion,
                split: l.split,
                connections_max: l.connections_max,
            })
            .collect(),
        sites: sites.into_iter().map(|s| s.site).collect(),
        upstreams,
        cache,
        timeouts,
        limits,
        tcp,
        tls,
        system_roots,
        acme,
        log,
        resolver,
    })
}

/// The lists so far; what had an error is not in them.
struct Reader<'c, 's> {
    context: &'c Context<'s>,
    /// Where paths without a beginning / start.
    folder: &'c Path,
    log: Log,
    ports: Vec<PortAt>,
    listeners: Vec<ListenerAt>,
    sites: Vec<SiteAt>,
    upstreams: Vec<Upstream>,
    /// `[acme]`, where it could be read, and whether it is there.
    acme: Option<Acme>,
    acme_there: bool,
    /// The first origin that is verified by whom the system trusts.
    system_trusted_at: Option<Place>,
    /// Each `object_max` of a site or route, and how it is called: they are held against the cache's.
    object_maxima: Vec<(At<u64>, &'static str)>,
    /// False once a port or its addresses could not be read: then "on no port" would be a guess.
    whole: bool,
}

impl Reader<'_, '_> {
    /// The upstream's index; routes that say the same share one.
    fn intern(&mut self, upstream: Upstream) -> usize {
        if let Some(index) = self.upstreams.iter().position(|known| *known == upstream) {
            return index;
        }
        self.upstreams.push(upstream);
        self.upstreams.len() - 1
    }
}

/// A string that one of the functions of [`names`] understands.
fn text<T>(value: &Value<'_, '_>, read: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
    match read(value.string()?) {
        Ok(read) => Some(read),
        Err(wrong) => {
            value.error(wrong.cause, wrong.mend);
            None
        }
    }
}

/// The elements that could be read, with their places.
fn texts<T>(values: &[Value<'_, '_>], read: impl Fn(&str) -> Result<T, Wrong>) -> Vec<At<T>> {
    values.iter().filter_map(|v| Some(At { value: text(v, &read)?, place: v.place.clone() })).collect()
}

fn path(value: &Value<'_, '_>) -> Option<PathBuf> {
    let path = value.string()?;
    if path.is_empty() || path.contains('\0') || path.ends_with('/') {
        value.error(format!("{} is not a file's path", quote(path)), "write one, as in \"/tmp/wan.pcap\"");
        return None;
    }
    Some(PathBuf::from(path))
}

/// Where lines are to go: standard output or a file.
fn log_target(value: &Value<'_, '_>) -> Option<LogTarget> {
    let text = value.string()?;
    if text == "stdout" {
        return Some(LogTarget::Stdout);
    }
    if !text.starts_with('/') || text.ends_with('/') || text.contains('\0') {
        let mend = "write \"stdout\", or a whole path, as in \"/var/log/millrace/access.log\"";
        value.error(format!("no log can go to {}", quote(text)), mend);
        return None;
    }
    Some(LogTarget::File(PathBuf::from(text)))
}

fn time(table: &Table<'_, '_>, key: &'static str, default: Duration) -> Duration {
    table.get(key).and_then(|v| v.duration(MILLISECOND..=HOUR)).unwrap_or(default)
}
