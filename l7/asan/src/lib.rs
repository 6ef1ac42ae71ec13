//! l7's own files of the cache's store, under the path that they have there.
#![allow(dead_code)]

pub mod cache;
