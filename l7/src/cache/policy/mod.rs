//! What a shared cache may store and serve (RFC 9111, with 5861, 8246, 9211, 9213 and 9110 13 to 15): pure
//! decisions over parsed heads and plain facts. No clock (times are arguments, unix milliseconds), no store, no
//! I/O, no allocation. [`rules::CacheRules`] is the exception: it is built when the config is loaded.
//!
//! The calls of one request, in order:
//!
//! 1. *Request head.* [`request::RequestFacts::of`]; where it has a `pass`, the request goes to the origin as it
//!    is, with that reason in Cache-Status. Else [`key::UrlParts::of`] and [`key::write_key`] give the key text,
//!    [`hash::HashKeys::hash`] its hash.
//! 2. *Lookup.* For each object with this hash: [`blob::Blob::read`]; its `key()` has to be equal and its
//!    `facts().variant` has to be what [`vary::variant`] gives for its `vary()`. Of several,
//!    [`decide::is_better`] chooses. Then [`decide::decide`]; [`decide::decide_miss`] where there is none.
//! 3. *Hit.* [`respond::plan`] settles status and ranges, [`respond::write_cached_head`] writes the head; the
//!    body is what the plan says of it. The request's head has to be at hand until then.
//! 4. *Miss or revalidation.* [`validate::write_fetch_head`] writes the request to the origin: the client's own
//!    conditions and ranges left out, ours put in. A request that is not to be stored, or a range that is not
//!    sliced, goes through unchanged by [`crate::http1::write_request_to_origin`].
//! 5. *Origin response.* [`storable::storable`] gives the facts or says why not; [`storable::store`] writes the
//!    blob. A 304 to our condition: [`validate::freshen`] writes the merged blob, then step 3. A failure:
//!    [`decide::decide_on_failure`].
//! 6. *After an unsafe method:* [`invalidate::invalidated`] gives the key texts that it made invalid.

pub mod blob;
pub mod cache_control;
pub mod decide;
pub mod facts;
pub mod fields;
pub mod freshness;
#[cfg(any(test, feature = "harness"))]
#[doc(hidden)]
pub mod harness;
pub mod hash;
pub mod invalidate;
pub mod key;
pub mod ranges;
pub mod request;
pub mod respond;
pub mod rules;
pub mod slices;
pub mod status;
pub mod storable;
pub mod tags;
pub mod targeted;
#[cfg(test)]
mod tests;
pub mod validate;
pub mod vary;
