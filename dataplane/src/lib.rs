//! Packets from and to the wire, and the loop that runs a core.
//!
//! ```text
//!        ┌────────────────────────── core_loop ──────────────────────────┐
//! Port ──► rx_burst ──► Burst of Packets ──► Pipeline::burst ──► TxQueue ──► tx_burst ──► Port
//!        │                                   Pipeline::timers ──┘        │
//!        └── Clock: one `Time` per pass, passed down as a value ─────────┘
//!                    every stage ──► Counters (shared memory, read by others at no cost)
//! ```
//!
//! This crate knows frames and bursts, not what is in them: the pipeline is the caller's. `buf` holds the
//! buffers of D11, `port` the kinds of port, `mail` and `bell` what joins cores, `counters` the one schema of
//! everything that is counted. `epoch` and `pins` say when memory that cores share may be used again, and wake who
//! waits for it to grow. `sip` is the keyed hash of all tables whose keys others choose.

pub mod bell;
pub mod buf;
pub mod core_loop;
pub mod counters;
pub mod epoch;
pub mod lines;
pub mod mail;
pub mod pcapng;
pub mod pins;
pub mod port;
pub mod rng;
pub mod rss;
pub mod sip;
mod sync;
pub mod time;

pub use bell::Bells;
pub use buf::{CellQueue, CellWriter, L4, Meta, Packet, Pool, Slice, Stash};
pub use counters::{Counters, Ctr, Hist, Stage};
pub use port::{BURST_MAX, Burst, LinkFacts, Port, TxQueue};
pub use time::{Clock, Time};
