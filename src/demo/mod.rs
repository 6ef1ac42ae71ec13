//! Parts of `millrace demo`: the built-in origin and its page.

mod body;
pub mod origin;
