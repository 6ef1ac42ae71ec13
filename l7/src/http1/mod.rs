//! HTTP/1.1 (RFC 9112) for a gateway: strict parsing in, clean messages out.
//!
//! ```text
//!  client ──bytes──► ServerConn ─► RequestHead ─► write_request_to_origin ──bytes──► origin
//!                        │  BodyDecoder ─► ranges of the same bytes
//!  client ◄─bytes── write_response_to_client ◄─ ResponseHead ◄─ ClientConn ◄──bytes── origin
//! ```
//!
//! The caller owns every byte. A parser borrows one contiguous slice and answers with views or ranges into it;
//! a writer puts pieces into a [`HeadSink`]. Two messages never share a decision: framing is decided once, in
//! [`framing`], when the head is parsed, and each message that leaves is framed anew from that decision, so
//! that what the next hop sees cannot be read in two ways.
//!
//! Anything doubtful is refused (RFC 9112 section 11.2), with one [`RejectReason`] for each cause.

pub mod body;
pub(crate) mod bytes;
pub mod chunked;
pub mod client;
pub mod error_page;
pub mod field;
pub mod framing;
#[cfg(any(test, feature = "harness"))]
#[doc(hidden)]
pub mod harness;
pub mod head;
pub mod http_date;
pub mod limits;
pub mod method;
pub mod reject;
pub mod rewrite;
pub mod scan;
pub mod server;
mod simd;
pub mod sink;
pub mod target;
#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, BodyStep, Truncated};
pub use chunked::{ChunkStep, ChunkedDecoder, LAST_CHUNK, write_chunk_header};
pub use client::{ClientConn, ClientEof, ClientState};
pub use error_page::{ErrorContext, write_100_continue, write_error, write_error_head};
pub use field::{EARLY_DATA, FieldName, HeaderSlots, Headers, MAX_HEADERS};
pub use framing::{BodyLength, Upgrade};
pub use head::{Parsed, RequestHead, ResponseHead, parse_request, parse_response};
pub use limits::HttpLimits;
pub use method::{Method, Version};
pub use reject::{Reject, RejectReason};
pub use rewrite::{
    ToClient, ToOrigin, outgoing_body, put_head_end, write_interim_to_client, write_request_to_origin,
    write_response_to_client,
};
pub use scan::HeadScan;
pub use server::{AfterResponse, Discarded, ServerConn, ServerEof, ServerState};
pub use sink::{Full, HeadSink, SliceSink};
pub use target::{Scheme, TargetForm};
