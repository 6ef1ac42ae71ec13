//! Clients beside the established ones, who come to shake hands and go.

#![allow(dead_code)] // Each bench uses its part of it.

use std::sync::Arc;

use l7::tls::front::Tickets;
use l7::tls::offload::Host;
use l7::tls::tickets::{TicketSpec, Ticketer};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};

use crate::support::identity::Identity;
use crate::support::tls::TlsOf;
use crate::support::{Load, Rig, Shared, Who};

/// Bytes of the object that everybody asks for.
pub const BODY_BYTES: usize = 1024;
/// Seconds of the clock on the wall that the last ones have to come to an end. A frame may be lost on a wire that is full.
pub const PATIENCE_S: u64 = 10;
/// As in a node: threads for one core, and handshakes that it may have there.
const HELPERS: usize = 1;
const AWAY_MAX: usize = 64;

/// The key of the node's certificate.
#[derive(Clone, Copy, PartialEq)]
pub enum Key {
    P256,
    Rsa2048,
    Rsa4096,
}

impl Key {
    pub fn name(self) -> &'static str {
        match self {
            Key::P256 => "ecdsa",
            Key::Rsa2048 => "rsa-2048",
            Key::Rsa4096 => "rsa-4096",
        }
    }

    pub fn make(self) -> KeyPair {
        match self {
            Key::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Key::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            Key::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
        }
        .expect("a key")
    }
}

/// A node with a cache, so many connections, a helper thread that `host` keeps, and room for so many strangers at a time.
pub fn rig(key: &KeyPair, flows: usize, strangers: usize, host: Arc<dyn Host>) -> Rig {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: max-age=86400\r\nETag: \"6745-400\"\r\n\
         Content-Length: {BODY_BYTES}\r\n\r\n"
    );
    let response = [head.as_bytes(), &[b'y'; BODY_BYTES]].concat();
    let producer = Ticketer::new(TicketSpec::default(), 1_700_000_000).expect("keys");
    let identity = Identity::of(&["site.lab"], key);
    let tls = TlsOf::of(&identity, Some(Tickets { producer, sent: 2, kept: None }));
    let mut shared = Shared::new(1);
    // As a node of this size has it.
    let tls = tls.with_helpers(host, HELPERS, 1, AWAY_MAX);
    shared.tls = Some(TlsOf { handshakes: 4096, ..tls });
    let mut rig = Rig::with_cores(Who::Cached, flows + strangers, response, &shared, |_, _, _| 0);
    rig.load.known = flows;
    // Or what was answered last would be sent again in each stretch that lasts longer than an RTO.
    rig.load.acknowledges = true;
    rig.open_all();
    rig
}

/// Those who come.
pub struct Crowd {
    free: Vec<usize>,
    here: Vec<usize>,
    /// Connections begun, handshakes done, connections refused, and those that came to no end.
    pub came: u64,
    pub done: u64,
    pub refused: u64,
    pub lost: u64,
}

impl Crowd {
    /// Of a load with so many connections that are no strangers'.
    pub fn new(flows: usize, strangers: usize) -> Crowd {
        Crowd {
            free: (flows..flows + strangers).rev().collect(),
            here: Vec::with_capacity(strangers),
            came: 0,
            done: 0,
            refused: 0,
            lost: 0,
        }
    }

    pub fn here(&self) -> usize {
        self.here.len()
    }

    /// So many more, if there is room for them.
    pub fn come(&mut self, load: &mut Load, n: usize) {
        for _ in 0..n {
            if !load.has_room() {
                return;
            }
            let Some(i) = self.free.pop() else { return };
            load.open(i);
            self.here.push(i);
            self.came += 1;
        }
    }

    /// All leave, as the wire has room for them.
    pub fn leave(&mut self, rig: &mut Rig) {
        self.lost += self.here.len() as u64;
        for i in self.here.drain(..) {
            while !rig.load.has_room() {
                rig.core.pass(rig.now);
                rig.load.poll();
            }
            rig.load.leave(i);
            self.free.push(i);
        }
    }

    /// Those who have what they came for leave, and those who were refused.
    pub fn go(&mut self, load: &mut Load) {
        let Crowd { free, here, done, refused, .. } = self;
        here.retain(|i| {
            if load.conns[*i].reset {
                *refused += 1;
            } else if load.is_open(*i) {
                *done += 1;
            } else {
                return true;
            }
            load.leave(*i);
            free.push(*i);
            false
        });
    }
}
