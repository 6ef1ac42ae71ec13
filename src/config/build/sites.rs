//! `[[site]]` and `[[site.route]]`, and what holds between sites.

use std::collections::HashMap;

use super::congestion::congestion;
use super::headers::{error_pages, header_rules, redirect};
use super::{At, Reader, log_target, text, texts, time};
use crate::config::ROUTES_MAX;
use crate::config::model::*;
use crate::config::names::{self, Direction};
use crate::config::reader::{Place, Table};
use crate::config::report::quote;

/// A site with the places that later checks point at.
pub(super) struct SiteAt {
    pub hosts: Vec<At<HostPattern>>,
    /// Whether a certificate is named, be it a bad one.
    pub tried_certificate: bool,
    pub site: Site,
}

/// What a site and its routes both may say; a route begins with its site's.
#[derive(Clone)]
struct Settings {
    /// Without origins, as long as there are none.
    upstream: Upstream,
    timeouts: OriginTimeouts,
    cache: Option<CacheRules>,
    request_headers: HeaderRules,
    response_headers: HeaderRules,
    redirect: Option<Redirect>,
}

impl Reader<'_, '_> {
    pub(super) fn site(&mut self, table: &Table<'_, '_>) {
        let hosts = table.require("hosts", "add them, as in hosts = [\"example.com\"], or [\"*\"] for all");
        let hosts = hosts.map(|v| texts(&v.one_or_more(), names::host_pattern)).unwrap_or_default();
        let own = self.settings(table, &Settings::none());
        self.clients_are_named(table, &own, table);
        let tls = self.site_tls(table, &hosts);
        let tried_certificate = table.get("certificate").is_some();
        let error_pages = error_pages(self.folder, &table.table("error_pages"));
        let access_log = self.access_log(table);
        let congestion = congestion(table);
        let mut without_origin = Vec::new();
        let mut routes = self.routes(table, &own, &hosts, &mut without_origin);
        table.finish();
        let used = routes.iter().filter_map(|r| r.upstream).map(|n| &self.upstreams[n]);
        self.origin_tls_is_used(table, &used.chain([&own.upstream]).collect::<Vec<_>>());

        if routes.iter().all(|r| r.path != "/") {
            // A route without one has it from here.
            if !own.answers(&hosts) {
                without_origin = vec![(table.place().clone(), "[[site]]")];
            }
            routes.push(self.route("/".to_string(), own));
        }
        // A bad one has been reported.
        if table.get("origin").is_none() {
            for (place, name) in without_origin {
                let mend = "add one, as in origin = \"http://192.0.2.80:8080\"";
                self.context.report_absence(&place, format!("{name} has no \"origin\""), mend);
            }
        }
        routes.sort_by_key(|r| std::cmp::Reverse(r.path.len()));
        let patterns = hosts.iter().map(|h| h.value.clone()).collect();
        self.sites.push(SiteAt {
            hosts,
            tried_certificate,
            site: Site { hosts: patterns, routes, tls, error_pages, access_log, congestion },
        });
    }

    /// The tables `[[site.route]]`.
    fn routes(
        &mut self,
        site: &Table<'_, '_>,
        own: &Settings,
        hosts: &[At<HostPattern>],
        without_origin: &mut Vec<(Place, &'static str)>,
    ) -> Vec<Route> {
        let tables = site.tables("route");
        let mut routes: Vec<Route> = Vec::new();
        let mut taken: HashMap<String, Place> = HashMap::new();
        for table in &tables {
            let value = table.require("path", "add its beginning, as in path = \"/api/\"");
            let path = value.as_ref().and_then(|v| text(v, names::route_path));
            let settings = self.settings(table, own);
            self.clients_are_named(table, &settings, site);
            table.finish();
            self.origin_tls_is_used(table, &[&settings.upstream]);
            if !settings.answers(hosts) && table.get("origin").is_none() {
                without_origin.push((table.place().clone(), "[[site.route]]"));
            }
            let (Some(path), Some(value)) = (path, value) else { continue };
            if let Some(other) = taken.get(&path) {
                let cause =
                    format!("the path {} is taken by line {}", quote(&path), other.line(self.context));
                value.error(cause, "keep one route for each path");
                continue;
            }
            taken.insert(path.clone(), value.place);
            routes.push(self.route(path, settings));
        }
        if tables.len() > ROUTES_MAX {
            let cause = format!("the site has {} routes", tables.len());
            self.context.report(site.place(), cause, format!("keep {ROUTES_MAX} of them"));
        }
        routes
    }

    fn route(&mut self, path: String, settings: Settings) -> Route {
        let upstream = settings.upstream;
        Route {
            path,
            upstream: (!upstream.origins.is_empty()).then(|| self.intern(upstream)),
            timeouts: settings.timeouts,
            cache: settings.cache,
            request_headers: settings.request_headers,
            response_headers: settings.response_headers,
            redirect: settings.redirect,
        }
    }

    fn settings(&mut self, table: &Table<'_, '_>, base: &Settings) -> Settings {
        Settings {
            upstream: self.upstream(table, &base.upstream),
            timeouts: origin_timeouts(&table.table("timeouts"), base.timeouts),
            cache: self.cache_rules(table, base.cache.as_ref()),
            request_headers: header_rules(
                table,
                "request_headers",
                Direction::Request,
                &base.request_headers,
            ),
            response_headers: header_rules(
                table,
                "response_headers",
                Direction::Response,
                &base.response_headers,
            ),
            redirect: redirect(table, base.redirect.as_ref()),
        }
    }

    /// What is said of clients' certificates needs a site that asks for them; and what an origin answers who is told of
    /// one is for that client alone. `table` is the site's or a route's.
    fn clients_are_named(&self, table: &Table<'_, '_>, settings: &Settings, site: &Table<'_, '_>) {
        let (request, response) = (&settings.request_headers, &settings.response_headers);
        for (key, rules) in [("request_headers", request), ("response_headers", response)] {
            if let Some(value) = table.get(key)
                && rules.name_clients()
                && site.get("client_auth").is_none()
            {
                let cause = "nobody is asked for the certificate that a variable here is of";
                value.error(cause, "add client_auth to the site, or leave the variable out");
            }
        }
        // What is inherited as a whole has been reported there.
        let said = table.get("cache").or_else(|| table.get("request_headers"));
        if let Some(value) = said
            && settings.cache.is_some()
            && request.name_clients()
        {
            let cause =
                "the cache would give others what the origin answers to one client by its certificate";
            value.error(cause, "write cache = false, or leave the variable out of request_headers");
        }
    }

    /// Where a line per request goes.
    fn access_log(&self, table: &Table<'_, '_>) -> Option<LogTarget> {
        let general = self.log.access.clone();
        let Some(value) = table.get("access_log") else { return general };
        match value.if_boolean() {
            Some(true) => Some(general.unwrap_or(LogTarget::Stdout)),
            Some(false) => None,
            None => log_target(&value),
        }
    }

    pub(super) fn between_sites(&self) {
        let context = self.context;
        let mut taken: HashMap<&HostPattern, (usize, &Place)> = HashMap::new();
        for (index, SiteAt { hosts, .. }) in self.sites.iter().enumerate() {
            for at in hosts {
                let Some((other_index, other)) = taken.get(&at.value) else {
                    taken.insert(&at.value, (index, &at.place));
                    continue;
                };
                let line = other.line(context);
                let (cause, mend) = match &at.value {
                    _ if *other_index == index => {
                        (format!("the host \"{}\" is listed twice", at.value), "keep one of them")
                    }
                    HostPattern::Default => {
                        (format!("the default site \"*\" is taken by line {line}"), "keep \"*\" in one site")
                    }
                    host => (
                        format!("the host \"{host}\" is taken by the site of line {line}"),
                        "keep it in one site",
                    ),
                };
                context.report(&at.place, cause, mend);
            }
        }
    }
}

impl Settings {
    /// What is so where neither site nor route says anything.
    fn none() -> Settings {
        Settings {
            upstream: Upstream::none(),
            timeouts: OriginTimeouts::default(),
            cache: None,
            request_headers: HeaderRules::default(),
            response_headers: HeaderRules::default(),
            redirect: None,
        }
    }

    /// Whether no request goes without an answer: there is an origin, or all of them are redirected.
    fn answers(&self, hosts: &[At<HostPattern>]) -> bool {
        let elsewhere = |host: &String| {
            hosts.iter().all(|h| match &h.value {
                HostPattern::Exact(own) => own != host,
                HostPattern::Wildcard(parent) => !host.ends_with(&format!(".{parent}")),
                HostPattern::Default => false,
            })
        };
        let all_redirected = |r: &Redirect| r.https || r.host.as_ref().is_some_and(elsewhere);
        !self.upstream.origins.is_empty() || self.redirect.as_ref().is_some_and(all_redirected)
    }
}

fn origin_timeouts(table: &Table<'_, '_>, base: OriginTimeouts) -> OriginTimeouts {
    let timeouts = OriginTimeouts {
        connect: time(table, "connect", base.connect),
        first_byte: time(table, "first_byte", base.first_byte),
        idle: time(table, "idle", base.idle),
    };
    table.finish();
    timeouts
}
