//! Two ends of ours.

use hugepages::{Arena, PagePolicy};

use crate::tls::keys::*;
use crate::tls::record::*;

#[test]
fn what_one_end_seals_the_other_opens() {
    let segment = dataplane::counters::Segment::in_memory(1);
    for version in [Version::Tls12, Version::Tls13] {
        for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            let mut arena = Arena::reserve(Sessions::cost(2, 2), PagePolicy::NormalOnly).unwrap();
            let mut s = Sessions::new(2, 2, &mut arena, segment.writer(0)).unwrap();
            let (a, b) = (Half::new(&[1; 48], 0).unwrap(), Half::new(&[2; 48], 0).unwrap());
            let keys = Keys { version, suite, rx: a.clone(), tx: b.clone() };
            let server = s.open(&keys, Side::Server).unwrap();
            let client = s.open(&Keys { rx: b, tx: a, ..keys }, Side::Client).unwrap();
            for n in [0, 1, 1000, PLAIN_MAX] {
                let mut out = vec![0; RECORD_MAX];
                let sealed = s.seal(server, ContentType::ApplicationData, &vec![7; n], &mut out).unwrap();
                assert_eq!(sealed, sealed_bytes(version, suite, n));
                assert_eq!(header(&out), Ok(Some(sealed)));
                match s.receive(client, &mut out[..sealed]) {
                    Ok(Received::Data(range)) => assert_eq!(out[range], vec![7; n]),
                    other => assert_eq!((n, other), (0, Ok(Received::Nothing))),
                }
            }
        }
    }
}
