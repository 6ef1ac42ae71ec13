//! Hosts, a link and virtual time: the harness of the stack's tests and of the simulator.
//!
//! ```text
//!  OwnHost ── wire ── Link (faults, by seed) ── wire ── OwnHost or PeerHost (smoltcp)
//!     └───────────── World: steps virtual time to whoever is due next ─────────────┘
//! ```
//!
//! What a connection does is a [`Plan`]: how much it sends, what it expects, how it reads, how it ends.
//! Streams are numbers, not memory: byte `i` of a stream is a function of the stream's seed.
#![allow(dead_code, unused_imports)] // Each test binary uses a part of it.

pub mod cutter;
pub mod frames;
pub mod own;
pub mod peer;
pub mod script;
pub mod world;

use dataplane::Time;

pub use world::{Stalls, pair, pair_on, pair_with, with_peer};

/// Byte `i` of the stream `seed`.
#[inline]
pub fn byte_at(seed: u64, i: u64) -> u8 {
    ((i ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 56) as u8
}

/// How a connection ends, seen from one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// FIN behind the last byte; reading goes on to the peer's end.
    AfterSending,
    /// FIN when the peer's end has been read and all is queued.
    AfterPeer,
    /// All is queued, the expected bytes are read; then the owner walks away.
    Orphan,
    /// RST when so many bytes have been received.
    Abort(u64),
    /// Never: the test ends it.
    Never,
}

/// How a connection reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// At once.
    Eager,
    /// Nothing before this time.
    After(Time),
    /// Bytes in a millisecond, at most.
    Rate(u64),
}

/// What one side of a connection does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Stream that it sends.
    pub seed: u64,
    /// Bytes that it sends.
    pub send: u64,
    /// Bytes in one write.
    pub chunk: usize,
    /// Stream that it expects.
    pub peer_seed: u64,
    /// Bytes that it expects.
    pub expect: u64,
    /// How it reads.
    pub reading: Reading,
    /// How it ends.
    pub finish: Finish,
}

impl Plan {
    /// A plan, and the peer's that fits it.
    pub fn both(seed: u64, send: u64, expect: u64) -> (Plan, Plan) {
        let a = Plan {
            seed: seed * 2 + 1,
            send,
            chunk: 1000,
            peer_seed: seed * 2 + 2,
            expect,
            reading: Reading::Eager,
            finish: Finish::AfterSending,
        };
        let b = Plan { seed: a.peer_seed, send: expect, peer_seed: a.seed, expect: send, ..a.clone() };
        (a, b)
    }

    /// The same, ending as `finish` says.
    pub fn ending(mut self, finish: Finish) -> Plan {
        self.finish = finish;
        self
    }

    /// The same, reading as `reading` says.
    pub fn reading(mut self, reading: Reading) -> Plan {
        self.reading = reading;
        self
    }

    /// The same, writing `chunk` bytes at a time.
    pub fn chunks(mut self, chunk: usize) -> Plan {
        self.chunk = chunk;
        self
    }
}

/// What became of one side of a connection.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The handshake was done.
    pub opened: bool,
    /// Bytes handed to TCP.
    pub sent: u64,
    /// Bytes received.
    pub got: u64,
    /// Where the first wrong byte stood.
    pub wrong: Option<u64>,
    /// The peer's end was read.
    pub fin: bool,
    /// It is over; why (`None` for a peer that cannot say).
    pub closed: Option<Option<stack::CloseReason>>,
}

impl Outcome {
    /// Takes received bytes and compares them.
    pub fn take(&mut self, plan: &Plan, bytes: &[u8]) {
        for (i, b) in (self.got..).zip(bytes) {
            if *b != byte_at(plan.peer_seed, i) && self.wrong.is_none() {
                self.wrong = Some(i);
            }
        }
        self.got += bytes.len() as u64;
    }

    /// Whether everything came, intact, to its end.
    ///
    /// # Errors
    /// What is wrong.
    pub fn verify(&self, plan: &Plan) -> Result<(), String> {
        if let Some(at) = self.wrong {
            return Err(format!("byte {at} is wrong: {self:?}"));
        }
        let whole = self.got == plan.expect && self.sent == plan.send && self.opened;
        let ended = self.fin || plan.finish == Finish::Orphan;
        if whole && ended { Ok(()) } else { Err(format!("{self:?} of {plan:?}")) }
    }
}

/// One machine on the link.
pub trait Host {
    /// Does what there is to do. Gives whether there was anything.
    fn pass(&mut self, now: Time) -> bool;
    /// When it must be called next, if nothing arrives.
    fn next_deadline(&mut self, now: Time) -> Option<Time>;
    /// Whether every connection is over.
    fn is_done(&self) -> bool;
    /// Sides of connections, for the verdict.
    fn results(&self) -> Vec<(Plan, Outcome)>;
}

/// Seeds to run: `default`, or what MILLRACE_SIM_SEEDS says, from MILLRACE_SIM_FROM on; MILLRACE_SIM_SEED runs one.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let var = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(one) = var("MILLRACE_SIM_SEED") {
        return one..one + 1;
    }
    let from = var("MILLRACE_SIM_FROM").unwrap_or(0);
    from..from + var("MILLRACE_SIM_SEEDS").unwrap_or(default)
}
