//! A connection of the load, and a request that was asked on it.
//!
//! ```text
//!            open             CONNECTED (with TLS by way of Shaking)  last answer, or the server's wish
//!   Down ───────────► Opening ─────────► Up ───────────────────────────────► Ending
//!    ▲ ▲                 │ failed         │ closed, reset, no answer            │ server's FIN, or a second
//!    │ └── pause ◄───────┘                │                                     │
//!    └────────────────────────────────────┴─────────────────────────────────────┘
//! ```

use dataplane::Time;
use stack::FlowId;

use super::response::Response;

/// Where a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// There is none.
    #[default]
    Down,
    /// Our SYN is out.
    Opening,
    /// The TLS handshake is under way.
    Shaking,
    /// It can be used.
    Up,
    /// All is answered; the server is expected to close first, so that TIME-WAIT is not ours.
    Ending,
}

/// One of the connections.
#[derive(Default)]
pub struct Slot {
    /// In the engine.
    pub flow: FlowId,
    /// Where it is.
    pub state: State,
    /// Waits in the ring of those that have room.
    pub in_ready: bool,
    /// Waits before it is opened again.
    pub is_paused: bool,
    /// The engine's timer runs for it.
    pub has_timer: bool,
    /// Requests that are not answered; before it is up, the one that it is opened for.
    pub outstanding: u16,
    /// Where the oldest of them is in its ring.
    pub first: u16,
    /// Responses that came by it.
    pub served: u32,
    /// When its SYN went.
    pub since: Time,
    /// Where it is in its answers.
    pub response: Response,
}

/// A request that was begun.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// When it was due (open loop), or sent.
    pub start: Time,
    /// When it was sent; 0: not yet.
    pub sent: Time,
    /// Which.
    pub request: u32,
    /// Counts in the report: it was due after the warm-up.
    pub is_measured: bool,
}

/// A connection that waits before it is opened again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    /// Until then.
    pub until: Time,
    /// Which.
    pub slot: u32,
}

const _: () = assert!(size_of::<Slot>() <= 192 && size_of::<Asked>() <= 24);
