//! What this crate does on the path of a request allocates nothing. malloc and its family are interposed, and counted by
//! thread. One program: each is a link of all the crate.

mod cache;
mod handshakes;
mod http1;
mod malloc;
mod phases;
mod store;
mod tls;
