//! Nothing: a package has to have one.
