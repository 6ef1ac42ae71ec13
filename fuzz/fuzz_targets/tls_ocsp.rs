//! The body is in l7, where the property tests share it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| l7::tls::harness::ocsp(input));
