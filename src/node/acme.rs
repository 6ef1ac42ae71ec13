//! ACME in a running node: what its thread wants shown reaches the cores, and what it has stored is taken into use.

use std::sync::Arc;

use crate::acme::{Proof, Shown};
use crate::config::{HostPattern, Site};
use crate::log;
use crate::tls::Challenge;

use super::Reloader;

/// Below this the server looks (RFC 8555, 8.3).
const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// The paths of a site by which it is proved, and what is there.
pub(super) fn paths(site: &Site, shown: &[Shown]) -> Vec<(String, Vec<u8>)> {
    let is_ours =
        |name: &str| site.hosts.iter().any(|h| matches!(h, HostPattern::Exact(host) if host == name));
    let path = |s: &Shown| match &s.proof {
        Proof::Http { token, answer } if is_ours(&s.name) => {
            Some((format!("{WELL_KNOWN}{token}"), answer.clone().into_bytes()))
        }
        _ => None,
    };
    shown.iter().filter_map(path).collect()
}

/// The certificates by which names are proved in a handshake.
pub(super) fn challenges(shown: &[Shown]) -> Vec<Challenge> {
    let challenge = |s: &Shown| match &s.proof {
        Proof::Tls(certificate) => {
            Some(Challenge { name: s.name.clone(), certificate: Arc::clone(certificate) })
        }
        Proof::Http { .. } => None,
    };
    shown.iter().filter_map(challenge).collect()
}

impl Reloader {
    /// Does what ACME's thread asks for. Now and then.
    pub fn follow_acme(&self) {
        let Some(news) = self.board().news() else { return };
        if let Err(e) = self.give_anew(news.renewed) {
            log::error(format_args!("ACME: {e}"));
            self.board().not_taken(&news);
            return;
        }
        if let Some(at) = news.show {
            self.board().taken(at);
        }
    }
}
