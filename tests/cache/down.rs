//! An origin that is not there.
