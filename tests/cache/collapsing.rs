//! Many clients that want one object.
