//! The body is in stack, where the property tests share it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stack::harness::parse(input));
