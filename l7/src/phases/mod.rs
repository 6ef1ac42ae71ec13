//! Request phases: what happens to a request besides being carried, as modules that are compiled per route.
//!
//! ```text
//!  connection ► request ► cache key ► (cache) ► origin request ► origin response ► response ► log
//!     refuse?    answer?    key parts             edits            edits (stored)    edits      lines
//! ```
//!
//! A [`Module`] does no I/O. It declares its [`Phase`], the [`Fields`] that it reads and writes, and a [`Filter`];
//! touching a field that it did not declare, or that its phase does not have, does not compile. When a config is
//! loaded, the modules of each route become a [`Program`]: one boxed slice for each phase. A phase without modules
//! costs one length test, and a module that a route does not use is not there at all.
//!
//! **What runs.** The proxy runs the modules of the request, origin request, origin response and response phases. The other
//! three have one piece of work each, which is the same for all routes and needs no list: who may announce a client
//! (`listener.proxy_protocol_from`) at the connection; the cache key, made by `cache::policy::key` of the rules that
//! `[site.cache] key` gives, as purges and invalidation have to make the same one without a request; and the log's
//! line, by `proxy::log`. A route with a module in one of them is refused when it is put together, so that none
//! is silently left out.
//!
//! Nothing here allocates once a config is compiled, and nothing reads a clock.
//!
//! Around the modules: [`route`] finds the site and the route of a request, [`edit`] is what header modules are
//! made of, [`error_pages`] holds a site's own error pages, [`proxy_protocol`] says who a client is behind a
//! load balancer, [`access_log`] and [`timings`] say what became of a request.

pub mod access_log;
pub mod answer;
pub mod ctx;
pub mod edit;
pub mod error_pages;
pub mod fields;
pub mod filter;
#[cfg(any(test, feature = "harness"))]
#[doc(hidden)]
pub mod harness;
pub mod modules;
pub mod program;
pub mod proxy_protocol;
mod quoting;
pub mod route;
mod table;
mod template;
#[cfg(test)]
mod tests;
pub mod timings;
mod trie;
pub mod view;

pub use access_log::{AccessLog, LogFormat, LogRecord};
pub use answer::{Answer, write_answer};
pub use ctx::{Ctx, Flow};
pub use edit::{EditError, EditList, EditSpec, Edits, HeadEdit, Message, Vars, apply_edits};
pub use error_pages::{ErrorPage, ErrorPages};
pub use fields::{Fields, Phase};
pub use filter::{Filter, Methods};
pub use modules::{Redirect, RedirectTo, RequestHeaders, ResponseHeaders, StripInternal};
pub use program::{Module, Program, ProgramBuilder, ProgramError};
pub use route::{CleanPath, Hosts, Router, Routes};
pub use timings::{Mark, Timings};
pub use view::{RequestView, ResponseView};
