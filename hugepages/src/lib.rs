//! hugepages
