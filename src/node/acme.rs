//! ACME in a running node: what its thread wants shown reaches the cores, and what it has stored is taken into use.

use std::sync::Arc;

use l7::tls::front;

use crate::acme::{Proof, Shown};
use crate::config::{HostPattern, Site};
use crate::log;
use crate::tls::Challenge;

use super::Reloader;

/// What proves names of these sites by a path.
pub(super) fn proofs(sites: &[Site], shown: &[Shown]) -> Vec<front::Proof> {
    let is = |host: &HostPattern, name: &str| matches!(host, HostPattern::Exact(host) if host == name);
    let is_ours = |name: &str| sites.iter().any(|s| s.hosts.iter().any(|h| is(h, name)));
    let proof = |s: &Shown| match &s.proof {
        Proof::Http { token, answer } if is_ours(&s.name) => Some(front::Proof {
            name: s.name.clone(),
            token: token.clone(),
            answer: answer.clone().into_bytes(),
        }),
        _ => None,
    };
    shown.iter().filter_map(proof).collect()
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
        if let Err(e) = self.present_anew(news.renewed) {
            log::error(format_args!("ACME: {e}"));
            self.board().not_taken(&news);
            return;
        }
        if let Some(at) = news.show {
            self.board().taken(at);
        }
    }
}
