//! Memory that is reserved once, at start.
//!
//! ```text
//!  Limits ──► Footprint (what each pool costs, and why) ──► Region (1 GiB → 2 MiB → normal pages)
//!                                                              │
//!                                              Arena ◄─────────┘  hands out typed, fixed arrays
//!                                                │
//!                                 FixedVec<T> ───┴──► Slab<I, T>  objects by typed index, O(1), bounded
//! ```
//!
//! Nothing here is called per packet except [`Slab`]'s index, `alloc` and `free`, which touch one array
//! each. A pool that is empty says so with `None`; what that means is decided, and counted, by its owner.

mod arena;
mod footprint;
mod limits;
mod region;
mod slab;
mod turn;

pub use arena::{Arena, FixedVec, prefetch};
pub use footprint::{Footprint, Item, human_bytes};
pub use limits::Limits;
pub use region::{Attempt, PagePolicy, PageSize, Region, ReserveError};
pub use slab::{Slab, SlabIndex};
pub use turn::turn;
