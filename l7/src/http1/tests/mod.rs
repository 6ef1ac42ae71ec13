//! Tests of the HTTP/1.1 layer: tables per kind of message, then properties, then the corpora of the fuzzers.

mod chunked;
mod conns;
mod properties;
mod requests;
mod responses;
mod rewriting;
mod views;

use super::harness::{Outcome, outcome};
use super::*;

/// Parses a request given in one piece.
fn request_outcome(bytes: &[u8], limits: &HttpLimits) -> Outcome {
    outcome(&parse_request(bytes, &mut HeadScan::new(), limits, &mut HeaderSlots::new()))
}

/// Calls `f` with the head that `bytes` begin with.
fn with_request<T>(bytes: &[u8], f: impl FnOnce(RequestHead<'_>) -> T) -> T {
    let mut slots = HeaderSlots::new();
    match parse_request(bytes, &mut HeadScan::new(), &HttpLimits::default(), &mut slots) {
        Ok(Parsed::Complete(head, _)) => f(head),
        other => panic!("{other:?} for {}", bytes.escape_ascii()),
    }
}

/// Calls `f` with the response head that `bytes` begin with.
fn with_response<T>(bytes: &[u8], method: Method, f: impl FnOnce(ResponseHead<'_>) -> T) -> T {
    let mut slots = HeaderSlots::new();
    match parse_response(bytes, method, &mut HeadScan::new(), &HttpLimits::default(), &mut slots) {
        Ok(Parsed::Complete(head, _)) => f(head),
        other => panic!("{other:?} for {}", bytes.escape_ascii()),
    }
}

/// What a writer wrote, as text.
fn written(f: impl FnOnce(&mut SliceSink<'_>) -> Result<(), Full>) -> String {
    let mut room = [0; 8192];
    let mut sink = SliceSink::new(&mut room);
    f(&mut sink).expect("it fits");
    String::from_utf8(sink.written().to_vec()).expect("these tests write text")
}
