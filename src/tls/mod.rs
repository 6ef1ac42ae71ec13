//! TLS on the control side: from what a config says to what the cores shake hands by.
//!
//! ```text
//!  Config (certificates, keys: read with it) ─┐
//!  ACME (challenges under way)  ──────────────┼─► FrontSpec ─► Front ─┬─► Program ─► every core swaps
//!  Tickets (keys that outlive reloads) ───────┘                       └─ nothing else is new: alone
//! ```
//!
//! A reload makes a new [`Front`](l7::tls::Front); what a handshake began with, it ends with. The keys of tickets are the node's, not the
//! config's: sessions from before a reload are resumed after it.

mod fronts;
mod side;
mod tickets;
mod watch;

pub use fronts::{Challenge, Fronts, fronts};
pub use side::{Side, sessions_kept};
pub use tickets::{NewKeys, TicketKeys};
pub use watch::{Shown, Watch};
