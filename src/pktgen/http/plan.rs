//! What a run is to do, and the memory that it needs for that.

use std::net::SocketAddr;

use dataplane::Pool;
use hugepages::{Arena, FixedVec, Limits};
use l7::tls::record::{PLAIN_MAX, RECORD_MAX};
use sha2::Sha256;
use stack::{OwnPorts, Tcp};

use super::arrivals::Kind;
use super::request::Request;
use super::ring::Ring;
use super::slot::{Asked, Pause, Slot};
use super::sources::Sources;
use super::tls::{self, Secured};

/// Connections of one run.
pub const CONNECTIONS_MAX: u32 = 1_000_000;
/// Requests that may be under way on one connection.
pub const PIPELINE_MAX: u16 = 64;
/// The ports that we connect from: all that no server of ours has.
pub const PORTS: OwnPorts = OwnPorts { first: 1024, last: u16::MAX };
/// Closed connections whose ports are remembered.
const TIME_WAIT_MAX: u64 = 1 << 20;
/// Header cells: one for each segment that is built and not yet sent.
pub const HEADER_CELLS: u32 = 4096;
/// Bytes of one.
pub const HEADER_CELL_BYTES: u32 = 256;
/// Cells for heads that come in pieces: one for each connection, of at most so many.
const HEAD_CELLS_MAX: u32 = 1024;
/// Bytes of one: the longest head that is read, and a segment.
pub const HEAD_CELL_BYTES: u32 = 26 << 10;

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who is asked.
    pub server: SocketAddr,
    /// What is asked for.
    pub requests: Vec<Request>,
    /// How many connections.
    pub connections: u32,
    /// Requests under way on each of them at most.
    pub pipeline: u16,
    /// A connection for each request.
    pub close: bool,
    /// Requests a second: an open loop; `None`: a closed one.
    pub rate: Option<f64>,
    /// How they arrive in an open loop.
    pub arrival: Kind,
    /// Arrivals that may wait for a connection.
    pub waiting_max: u32,
    /// How long requests are begun; `None`: until `count`.
    pub duration_ns: Option<u64>,
    /// How many are begun at most.
    pub count: Option<u64>,
    /// How long requests go before they are measured.
    pub warmup_ns: u64,
    /// How long late answers are waited for.
    pub linger_ns: u64,
    /// How long a connection may take to open, and a request to be answered.
    pub timeout_ns: u64,
    /// Connections that are opened in a second at most.
    pub ramp: Option<f64>,
    /// Where connections come from; none: the port's own address.
    pub sources: Vec<Sources>,
    /// All bodies of a request must be equal.
    pub verify: bool,
    /// Everything random follows from this.
    pub seed: u64,
    /// Unix time at the start, in milliseconds: sequence numbers and timestamps of a run go on where the last one's
    /// ended, so that a server in TIME-WAIT takes its connections for new ones.
    pub epoch_ms: u64,
    /// TLS, if it is spoken.
    pub tls: Option<Secured>,
}

impl Plan {
    /// The engine's pools.
    pub fn limits(&self) -> Limits {
        let n = self.connections;
        // Those that are closed and not gone yet.
        let flows = n + if self.close { n } else { n / 8 } + 1024;
        let sources: u64 = self.sources.iter().map(|s| u64::from(s.count())).sum();
        let ports = u64::from(PORTS.last - PORTS.first) + 1;
        let mut l = Limits::for_core_memory(64 << 20);
        l.flows = flows;
        l.half_open = 16;
        l.time_wait = (sources.max(1) * ports).min(TIME_WAIT_MAX) as u32;
        l.send_records = n * u32::from(self.pipeline) + 1024;
        if self.tls.is_some() {
            // A request may be several records; and there are flights of handshakes, and ends.
            let records = self.request_bytes() / PLAIN_MAX as u32;
            l.send_records += n * (3 + u32::from(self.pipeline) * records);
        }
        l
    }

    /// Whether bodies are hashed.
    pub fn hashes(&self) -> bool {
        self.verify || self.requests.iter().any(|r| r.sha256.is_some())
    }

    fn asked_max(&self) -> usize {
        self.connections as usize * usize::from(self.pipeline)
    }

    /// Bytes of the arena that everything is cut from.
    pub fn arena_bytes(&self) -> usize {
        let n = self.connections as usize;
        Tcp::cost(&self.limits())
            + Arena::cost::<Slot>(n)
            + Arena::cost::<Asked>(self.asked_max())
            + Ring::<u32>::cost(n) * 2
            + Ring::<Pause>::cost(n)
            + Ring::<Asked>::cost(self.asked_max())
            + Ring::<u64>::cost(self.waiting_max as usize)
            + if self.hashes() { Arena::cost::<Sha256>(n) } else { 0 }
            + if self.tls.is_some() { tls::arena_bytes(self) } else { 0 }
    }

    /// Bytes of all that is reserved beside the port's own.
    pub fn memory_bytes(&self, rx_cells: u32, rx_cell_bytes: u32) -> u64 {
        let pool = |cells: u32, bytes| u64::from(cells) * u64::from(Pool::true_size(bytes));
        self.arena_bytes() as u64
            + pool(rx_cells, rx_cell_bytes)
            + pool(HEADER_CELLS, HEADER_CELL_BYTES)
            + pool(self.head_cells(), HEAD_CELL_BYTES)
            + pool(self.requests.len() as u32, self.request_bytes())
            + match self.tls {
                Some(_) => pool(tls::sealed_cells(self) + tls::record_cells(self), RECORD_MAX as u32),
                None => 0,
            }
    }

    /// Cells for heads that come in pieces.
    pub fn head_cells(&self) -> u32 {
        self.connections.min(HEAD_CELLS_MAX)
    }

    /// The longest request.
    pub fn request_bytes(&self) -> u32 {
        self.requests.iter().map(|r| r.bytes.len()).max().unwrap_or(0) as u32
            + dataplane::buf::HEADROOM as u32
    }
}

/// What is cut from the arena for the client itself.
pub struct Tables {
    /// The connections.
    pub slots: FixedVec<Slot>,
    /// Their requests.
    pub asked: FixedVec<Asked>,
    /// Those that have room for a request.
    pub ready: Ring<u32>,
    /// Those that are to be opened.
    pub to_open: Ring<u32>,
    /// Those that wait before they are opened again.
    pub paused: Ring<Pause>,
    /// Requests that are to be sent again.
    pub again: Ring<Asked>,
    /// Arrivals that wait for a connection.
    pub waiting: Ring<u64>,
    /// Hashes of bodies that are being received.
    pub hashes: Option<FixedVec<Sha256>>,
}

impl Tables {
    /// `None` when the arena is too small.
    pub fn new(plan: &Plan, arena: &mut Arena) -> Option<Tables> {
        let n = plan.connections as usize;
        Some(Tables {
            slots: arena.array(n, |_| Slot::default())?,
            asked: arena.array(plan.asked_max(), |_| Asked::default())?,
            ready: Ring::new(arena, n)?,
            to_open: Ring::new(arena, n)?,
            paused: Ring::new(arena, n)?,
            again: Ring::new(arena, plan.asked_max())?,
            waiting: Ring::new(arena, plan.waiting_max as usize)?,
            hashes: match plan.hashes() {
                true => Some(arena.array(n, |_| Sha256::default())?),
                false => None,
            },
        })
    }
}
