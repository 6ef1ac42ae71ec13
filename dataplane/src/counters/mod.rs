//! Counters of every core, in a segment that another process reads at no cost to the cores.
//!
//! ```text
//!  segment:  header (magic, schema, pid, state, facts as text)  │ core 0 │ core 1 │ …
//!  core:     counters (Ctr) │ stages: calls, packets, cycles (Stage) │ histograms (Hist)
//! ```
//!
//! A core writes with plain stores of its own words; a reader sums. The file outlives a crash and says what
//! the node was doing. `schema` is the one table of what there is.

mod hist;
mod schema;
mod segment;

pub use hist::{BUCKETS, Histogram, bucket_of, highest_of};
pub use schema::{Ctr, Hist, Stage, Unit};
pub use segment::{Counters, FACTS_BYTES_MAX, NodeState, Segment, SegmentError, Snapshot, StageCounts};
