//! Parts of `millrace demo`.
