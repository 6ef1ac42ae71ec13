//! Buffers (DESIGN.md D11): one kind of cell for received frames, built headers and payload.
//!
//! ```text
//!  Pool ── alloc ──► Packet ─────────────── into_slice ──► Slice ── clone, split ──► Slice …
//!   ▲                │  one owner, a frame                  │  many owners, read only
//!   │                │  head bytes + tail of Slices         │
//!   │                ▼                                      ▼
//!   └──────────── dropped: the last reference gives the cell back to its pool
//!
//!  cell = Header (3 cache lines, in an array of its own)  ──data──►  buffer (2 KiB …)
//!         line 0  what every cell needs: buffer, pool, link, references, bounds
//!         line 1  what a frame needs: parsed offsets, port, flags, arrival
//!         line 2  what a built segment needs: its tail of payload slices
//! ```
//!
//! A received frame *is* a cell, so its payload goes to L7, to the other side of the proxy and into a
//! segment on its way out without a copy. A segment that is sent is a header cell of its own with a tail of
//! slices, which hold their cells until both TCP (acknowledged) and the port (sent) let go.
//!
//! The header stands apart from the bytes so that the bytes can be anybody's: with DPDK it stands in the private area of
//! an mbuf and `data` points to the mbuf's buffer (`cell/outside.rs`), with AF_XDP into UMEM, and a cached
//! object's bytes get a header whose release drops the object's pin. Handles are not `Send`: a cell belongs
//! to one core, and crosses to another only by copy or by an explicit hand-over.

mod cell;
mod meta;
mod writer;

pub use cell::{
    CellQueue, HEADER_BYTES, Handle, NotInserted, Packet, Place, Pool, PoolStats, REFILL_MAX, Slice, Source,
    Stash,
};
pub use meta::{L4, Meta, NO_VLAN, RxFlags};
pub use writer::CellWriter;

/// Payload slices that one packet can carry behind its head. A segment that would need more is cut short:
/// the rest goes into the next one.
pub const TAIL_MAX: usize = 6;

/// Bytes left free in front of a frame, for headers that are put on later.
pub const HEADROOM: usize = 128;
