//! `[tls]`, and what sites and listeners say of TLS.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::certificate::{certificate, roots};
use super::{HOUR, Reader, files, text};
use crate::config::CONNECTIONS_MAX;
use crate::config::model::*;
use crate::config::names;
use crate::config::reader::{Switch, Table};
use crate::config::report::quote;

/// Nobody has more key types than these.
const CERTIFICATES_MAX: usize = 3;
/// More would only wait for a CPU.
const THREADS_MAX: u64 = 64;
/// RFC 8446, 4.6.1: seven days at most.
const TICKET_DAYS_MAX: u32 = 7;
/// Keys that are kept: a ticket's is looked for among them.
const PERIODS_MAX: u32 = l7::tls::tickets::PERIODS_MAX as u32;
/// What keys are made from: at least the strength of the keys themselves; 48 and 80 bytes are what other servers use.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=256;

pub(super) fn tls(folder: &Path, table: &Table<'_, '_>) -> Tls {
    let default = Tls::default();
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    let min_version = table.get("min_version").and_then(|v| v.choice(&versions));
    let tickets = tickets(folder, table);
    let early_value = table.get("early_data");
    let early_data = early_value.as_ref().and_then(|v| v.boolean()).unwrap_or(default.early_data);
    if let Some(value) = early_value.filter(|_| early_data) {
        match &tickets {
            None => value.error(
                "early_data = true means nothing with tickets = false: it is for clients that resume a session",
                "leave one of the two out",
            ),
            Some(Tickets { shared: Some(_), .. }) => value.warn(
                "with early_data = true sessions are kept in the node that they were begun with, and \"key_file\" is \
                 only of use to sites with client_auth: a client that comes to another node shakes hands in full",
                "leave one of the two out, or have clients come back to the same node",
            ),
            Some(_) => {}
        }
    }
    let count = |key, max: u32| table.get(key).and_then(|v| v.integer(1..=u64::from(max))).map(|n| n as u32);
    let handshakes_max = count("handshakes_max", CONNECTIONS_MAX);
    let handshakes_per_source_max = count("handshakes_per_source_max", CONNECTIONS_MAX);
    let connections_per_source_max = count("connections_per_source_max", CONNECTIONS_MAX);
    let threads = table.get("threads").and_then(|v| v.integer(1..=THREADS_MAX)).map(|n| n as u16);
    table.finish();
    Tls {
        min_version: min_version.unwrap_or(default.min_version),
        tickets,
        early_data,
        handshakes_max,
        handshakes_per_source_max,
        connections_per_source_max,
        threads,
    }
}

fn tickets(folder: &Path, table: &Table<'_, '_>) -> Option<Tickets> {
    let default = Tickets::default();
    let (switch, table) = table.switch("tickets");
    let days = |n: u32| n * 24 * HOUR;
    let minute = Duration::from_secs(60);
    let rotate = table.get("rotate").and_then(|v| v.duration(minute..=days(30)));
    let keep = table.get("keep").and_then(|v| v.duration(minute..=days(TICKET_DAYS_MAX)));
    let shared = table.get("key_file").and_then(|value| {
        let (file, bytes) = files::read(folder, &value, *SECRET_BYTES.end() as u64, "name a key file")?;
        if !SECRET_BYTES.contains(&bytes.len()) {
            let cause = format!("{} has {} bytes", quote(value.string()?), bytes.len());
            value.error(cause, "make it of 80 random ones: openssl rand 80 > FILE");
            return None;
        }
        Some(TicketSecret { file, bytes: bytes.into() })
    });
    let (rotate, keep) = (rotate.unwrap_or(default.rotate), keep.unwrap_or(default.keep));
    if keep > rotate * PERIODS_MAX {
        let cause = format!("\"keep\" is more than {PERIODS_MAX} times \"rotate\"");
        table.wrong(table.place(), cause, "keep tickets for a shorter time, or rotate less often");
    }
    table.finish();
    let said = Tickets { rotate, keep, shared };
    (switch != Switch::Off).then_some(said)
}

impl Reader<'_, '_> {
    /// What a site shows to clients that come by https.
    pub(super) fn site_tls(&self, site: &Table<'_, '_>, hosts: &[super::At<HostPattern>]) -> SiteTls {
        let value = site.get("certificate");
        let client_auth = self.client_auth(site);
        if let Some(value) = value.as_ref().filter(|v| v.is_string("acme")) {
            return SiteTls { client_auth, ..self.by_acme(value, hosts) };
        }
        let items = value.as_ref().map(|v| v.some_or_one()).unwrap_or_default();
        let mut certificates = Vec::new();
        let mut taken: HashMap<KeyType, usize> = HashMap::new();
        for item in &items {
            let Some(table) = item.if_table("[[site.certificate]]") else {
                item.error(
                    "\"certificate\" is neither a table nor a list of tables",
                    "write it as in { chain = \"site.pem\", key = \"site.key\" }, or \"acme\"",
                );
                continue;
            };
            let Some(certificate) = certificate(self.folder, &table, ShownTo::Clients) else { continue };
            let line = table.place().line(self.context);
            if let Some(other) = taken.insert(certificate.key_type, line) {
                let key_type = certificate.key_type.text();
                let cause =
                    format!("the site has two certificates with {key_type} keys, here and in line {other}");
                let mend = "keep one of each type of key, and give hosts with their own certificate a site of their own";
                self.context.report(table.place(), cause, mend);
            }
            for host in hosts.iter().filter(|h| !certificate.covers(&h.value)) {
                let cause = format!("the certificate is not for the host {}", quote(&host.value.to_string()));
                let mend = match &certificate.names[..] {
                    [] => "have one made with it as a subject alternative name".to_owned(),
                    names => format!("clients refuse it there: it is for {}", list(names)),
                };
                self.context.warn(table.place(), cause, mend);
            }
            certificates.push(certificate);
        }
        if items.len() > CERTIFICATES_MAX {
            let cause = format!("the site has {} certificates", items.len());
            self.context.report(site.place(), cause, "keep one of each type of key");
        }
        certificates.sort_by_key(|c| c.key_type);
        SiteTls { certificates, acme: false, client_auth }
    }

    /// Whether clients are asked for a certificate.
    fn client_auth(&self, site: &Table<'_, '_>) -> Option<ClientAuth> {
        let is_there = site.get("client_auth").is_some();
        let table = site.table("client_auth");
        let ca = table.get("ca");
        let mode = table.get("mode").map(|v| v.choice(&[("required", true), ("optional", false)]));
        table.finish();
        if !is_there {
            return None;
        }
        let Some(ca) = ca else {
            let mend = "add the file with the certificates of those who issue the clients'";
            self.context.report_absence(table.place(), "[site.client_auth] has no \"ca\"", mend);
            return None;
        };
        Some(ClientAuth { roots: roots(self.folder, &ca)?, required: mode.flatten().unwrap_or(true) })
    }

    /// How connections to origins are made, over what is inherited.
    pub(super) fn origin_tls(&self, table: &Table<'_, '_>, base: &OriginTls) -> OriginTls {
        let table = table.table("origin_tls");
        let mut said = base.clone();
        if let Some(value) = table.get("ca") {
            match value.string() {
                Some("system") => said.roots = None,
                Some(_) => said.roots = roots(self.folder, &value).or(said.roots),
                None => {}
            }
        }
        if let Some(name) = table.get("name").and_then(|v| text(&v, names::server_name)) {
            said.name = Some(name);
        }
        if let Some(value) = table.get("verify")
            && let Some(verify) = value.boolean()
        {
            said.verify = verify;
            if !verify {
                let cause = "with \"verify = false\" whoever is between this node and the origin can read and \
                             change everything";
                value.warn(cause, "name who issued its certificate, or that itself, with \"ca\"");
            }
        }
        let own = table.get("certificate");
        let certificate_table = table.table("certificate");
        if own.is_some() {
            let read = certificate(self.folder, &certificate_table, ShownTo::Origins);
            said.certificate = read.or(said.certificate);
        } else {
            // Asked for all the same, so that they are known.
            for key in ["chain", "key", "ocsp"] {
                let _ = certificate_table.get(key);
            }
            certificate_table.finish();
        }
        table.finish();
        said
    }

    /// What is said of TLS to origins has to be of use to one.
    pub(super) fn origin_tls_is_used(&self, table: &Table<'_, '_>, upstreams: &[&Upstream]) {
        let Some(value) = table.get("origin_tls") else { return };
        let used = upstreams.iter().any(|u| u.origins.iter().any(|o| o.scheme == Scheme::Https));
        if !used && upstreams.iter().any(|u| !u.origins.is_empty()) {
            let cause = "\"origin_tls\" means nothing without an origin that is reached by https";
            value.error(cause, "write https:// before the origin, or remove this");
        }
    }

    /// A listener with `https` needs certificates, and each site one that is for its hosts.
    pub(super) fn between_tls(&self) {
        self.nothing_by_http();
        let Some(https) = self.listeners.iter().find_map(|l| l.https.as_ref()) else { return };
        let certificates = || self.sites.iter().flat_map(|s| &s.site.tls.certificates);
        if certificates().next().is_none() {
            if self.sites.iter().any(|s| s.tried_certificate) {
                return;
            }
            let cause = "no [[site]] has a certificate for \"https\"";
            let mend = "add one, as in certificate = { chain = \"site.pem\", key = \"site.key\" }";
            self.context.report_absence(&https.place, cause, mend);
            return;
        }
        let is_default = |s: &&super::sites::SiteAt| s.hosts.iter().any(|h| h.value == HostPattern::Default);
        if self.sites.iter().find(is_default).is_some_and(|s| s.tried_certificate) {
            return;
        }
        for site in self.sites.iter().filter(|s| !s.tried_certificate) {
            for host in &site.hosts {
                if host.value != HostPattern::Default && !certificates().any(|c| c.covers(&host.value)) {
                    let host_text = host.value.to_string();
                    let cause = format!("no site has a certificate for {}", quote(&host_text));
                    let mend =
                        "clients that come for it by https are refused: add one, or one to the default site";
                    self.context.warn(&host.place, cause, mend);
                }
            }
        }
    }

    /// A site that is only for clients with certificates has nothing for whoever comes by http.
    fn nothing_by_http(&self) {
        let only_with =
            |s: &&super::sites::SiteAt| s.site.tls.client_auth.as_ref().is_some_and(|a| a.required);
        let by_http = self.listeners.iter().any(|l| l.http.is_some());
        for site in self.sites.iter().filter(|_| by_http).filter(only_with) {
            let sends_on = |r: &Route| r.redirect.as_ref().is_some_and(|r| r.https);
            let Some(host) = site.hosts.first().filter(|_| !site.site.routes.iter().all(sends_on)) else {
                continue;
            };
            let name = quote(&host.value.to_string());
            let cause =
                format!("{name} is only for clients with certificates, which nobody can show by http");
            let mend = "such requests are answered 403: send them on by redirect = { https = true }";
            self.context.warn(&host.place, cause, mend);
        }
    }
}

/// Some of the names, for a message.
fn list(names: &[HostPattern]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if names.len() > SHOWN { " and others" } else { "" };
    format!("{}{more}", shown.join(", "))
}
