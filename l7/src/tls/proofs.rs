//! What an ACME server looks for by HTTP, while a name is proved to it (RFC 8555, 8.3).

use crate::phases::Hosts;

/// Below this it looks.
const WELL_KNOWN: &[u8] = b"/.well-known/acme-challenge/";

/// A proof.
pub struct Proof {
    /// Of whom: a name, no wildcard. One proof for each.
    pub name: String,
    /// The end of the path.
    pub token: String,
    /// What is to be there.
    pub answer: Vec<u8>,
}

/// All that there are; none, nearly always.
pub(super) struct Proofs {
    hosts: Hosts,
    all: Box<[Proof]>,
}

impl Proofs {
    pub fn new(all: Vec<Proof>) -> Proofs {
        let hosts = Hosts::new(all.iter().zip(0..).map(|(p, n)| (p.name.as_str(), n)));
        Proofs { hosts, all: all.into() }
    }

    /// What is at this path of this host.
    #[inline]
    pub fn find(&self, host: &[u8], clean_path: &[u8]) -> Option<&[u8]> {
        if self.all.is_empty() {
            return None;
        }
        let token = clean_path.strip_prefix(WELL_KNOWN)?;
        let proof = self.all.get(usize::from(self.hosts.find(host)?))?;
        (token == proof.token.as_bytes()).then_some(&proof.answer)
    }
}
