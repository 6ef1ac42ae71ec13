//! Keys that take long to sign: they do not where a core's thread asks them. The handshake fails, and is done again from
//! its start on a helper thread; nothing of it was sent yet.
//!
//! Mostly it is known before ([`Choice::slow`](super::front::Choice::slow)). It is not where a client resumes a session:
//! most of those sign nothing, but whether the ticket is good is known only in the middle of the handshake, and whoever
//! sends bad ones must not make a core sign. So every step that a core takes beside helpers is taken in this way, and what
//! was foreseen need not be right.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Signs) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Signs,
    Refuses,
    Refused,
}

/// Does `work` without slow signatures. Gives whether one was refused.
pub(super) fn without<T>(work: impl FnOnce() -> T) -> (T, bool) {
    MODE.set(Mode::Refuses);
    let result = work();
    (result, MODE.replace(Mode::Signs) == Mode::Refused)
}

/// Makes such a key of any.
pub(super) fn slow_key(key: Arc<dyn SigningKey>) -> Arc<dyn SigningKey> {
    Arc::new(SlowKey(key))
}

struct SlowKey(Arc<dyn SigningKey>);

impl SigningKey for SlowKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.0.choose_scheme(offered).map(|signer| Box::new(SlowSigner(signer)) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.0.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

struct SlowSigner(Box<dyn Signer>);

impl Signer for SlowSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        if MODE.get() == Mode::Signs {
            return self.0.sign(message);
        }
        MODE.set(Mode::Refused);
        Err(Error::General("no slow signatures here".into()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}

impl fmt::Debug for SlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SlowKey").field(&self.0.algorithm()).finish()
    }
}

impl fmt::Debug for SlowSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SlowSigner").field(&self.0.scheme()).finish()
    }
}
