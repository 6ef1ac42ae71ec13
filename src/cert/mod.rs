//! Certificates that are made here: for trying things out, and for a demo.
//!
//! One that nobody has signed but itself proves nothing to a client that does not know it already: browsers warn,
//! `curl` wants `--cacert cert.pem`. For the public there is ACME.

mod files;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::cli::SelfSignedArgs;
use crate::config::{self, Certificate, HostPattern, KeyType, PrivateKey};
use crate::exit;

/// A clock that is a little behind should not refuse what was made just now.
const BEFORE: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const RSA: rcgen::RsaKeySize = rcgen::RsaKeySize::_2048;

/// A certificate, signed by its own key.
pub struct SelfSigned {
    names: Vec<HostPattern>,
    key: KeyPair,
    key_type: KeyType,
    certificate: rcgen::Certificate,
    valid_unix_s: (i64, i64),
    /// `2026-11-22`
    last_day: String,
}

impl SelfSigned {
    /// For these names, the first of which is the subject's, from now on.
    ///
    /// # Errors
    /// One sentence.
    pub fn new(names: Vec<HostPattern>, days: u32, rsa: bool) -> Result<SelfSigned, String> {
        let texts: Vec<String> = names.iter().map(text).collect();
        let failed = |e: rcgen::Error| format!("cannot make a certificate: {e}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let first = now.saturating_sub(BEFORE);
        let last = now + days * DAY;
        let mut params = CertificateParams::new(texts.clone()).map_err(failed)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        // A common name is 64 characters at most (RFC 5280, A.1), and nobody looks at it.
        params.distinguished_name.push(DnType::CommonName, texts[0].chars().take(64).collect::<String>());
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(first.as_secs());
        params.not_after = epoch + Duration::from_secs(last.as_secs());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if rsa {
            // The old key exchange of TLS 1.2, which we do not have, but whoever checks usages may expect.
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let last_day = params.not_after.date().to_string();
        let (key, key_type) = if rsa {
            (KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RSA), KeyType::Rsa)
        } else {
            (KeyPair::generate(), KeyType::Ecdsa)
        };
        let key = key.map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let valid_unix_s = (first.as_secs() as i64, last.as_secs() as i64);
        Ok(SelfSigned { names, key, key_type, certificate, valid_unix_s, last_day })
    }

    /// As a config has it, without files.
    pub fn as_in_config(&self) -> Arc<Certificate> {
        let nowhere = PathBuf::from("(made by the node)");
        Arc::new(Certificate {
            chain_file: nowhere.clone(),
            key_file: nowhere,
            chain: vec![self.certificate.der().clone()],
            key: PrivateKey(
                self.key.serialized_der().to_vec().try_into().expect("rcgen writes keys that it reads"),
            ),
            key_type: self.key_type,
            ocsp: None,
            names: self.names.clone(),
            valid_unix_s: self.valid_unix_s,
        })
    }

    /// What a person compares: the SHA-256 of the certificate, as browsers and `openssl x509 -fingerprint` show it.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.certificate.der())
    }
}

/// SHA-256 in pairs of hexadecimal digits.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::new();
    for (n, byte) in Sha256::digest(certificate).iter().enumerate() {
        let colon = if n > 0 { ":" } else { "" };
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

/// `millrace cert self-signed`
pub fn self_signed(args: &SelfSignedArgs) -> ExitCode {
    let made = SelfSigned::new(args.names.clone(), args.days, args.rsa).and_then(|made| {
        let files =
            [("cert.pem", made.certificate.pem(), 0o644), ("key.pem", made.key.serialize_pem(), 0o600)];
        files::write(&args.out, &files, args.force).map(|()| made)
    });
    match made {
        Ok(made) => {
            tell(args, &made);
            exit::DONE
        }
        Err(sentence) => {
            eprintln!("{sentence}");
            exit::bad()
        }
    }
}

fn tell(args: &SelfSignedArgs, made: &SelfSigned) {
    #[derive(Serialize)]
    struct Json<'a> {
        ok: bool,
        certificate: String,
        key: String,
        names: &'a [String],
        not_after: &'a str,
        fingerprint_sha256: String,
    }
    let path = |name| args.out.join(name).display().to_string();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    let names: Vec<String> = made.names.iter().map(text).collect();
    let fingerprint_sha256 = made.fingerprint();
    let not_after = &made.last_day;
    if args.json {
        let json = Json { ok: true, certificate, key, names: &names, not_after, fingerprint_sha256 };
        println!("{}", serde_json::to_string(&json).expect("strings always serialise"));
        return;
    }
    println!("{certificate} is for {}, until {not_after}", names.join(", "));
    println!("its key is {key}; SHA-256 {fingerprint_sha256}");
    println!("in a [[site]]: certificate = {{ chain = \"{certificate}\", key = \"{key}\" }}");
}

/// A name of the command line.
///
/// # Errors
/// The cause and the mend.
pub fn name(given: &str) -> Result<HostPattern, String> {
    // Here nothing else can be meant by an IPv6 address.
    let bracketed = match given.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => given.to_owned(),
    };
    match config::names::host_pattern(&bracketed) {
        Ok(HostPattern::Default) => {
            Err("a certificate is for names; write them, as in example.com".to_owned())
        }
        Ok(host) => Ok(host),
        Err(wrong) => Err(format!("{}; {}", wrong.cause, wrong.mend)),
    }
}

/// As certificates have it: addresses without brackets.
fn text(host: &HostPattern) -> String {
    host.to_string().trim_matches(['[', ']']).to_owned()
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    /// What rustls, as a client that trusts the certificate, makes of it.
    #[test]
    fn clients_that_know_it_take_it_for_its_names_alone() {
        for rsa in [false, true] {
            let given = ["example.com", "*.Example.com", "192.0.2.1", "2001:db8::1", "[2001:db8::2]"];
            let names = given.map(|n| name(n).expect("a good name"));
            let made = SelfSigned::new(names.to_vec(), 30, rsa).expect("a certificate");
            let in_config = made.as_in_config();
            assert!(names.iter().all(|n| in_config.covers(n)));
            let mut roots = RootCertStore::empty();
            roots.add(in_config.chain[0].clone()).expect("a good certificate");
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let verifier = verifier.expect("a verifier");
            for (name, good) in [
                ("example.com", true),
                ("www.example.com", true),
                ("192.0.2.1", true),
                ("2001:db8::2", true),
                ("example.net", false),
                ("192.0.2.2", false),
            ] {
                let server = ServerName::try_from(name).expect("a name");
                let judged =
                    verifier.verify_server_cert(&in_config.chain[0], &[], &server, &[], UnixTime::now());
                assert_eq!(judged.is_ok(), good, "{name}: {judged:?}");
            }
        }
    }

    #[test]
    fn names_of_the_command_line() {
        for (given, shown) in
            [("a.Example", "a.example"), ("::1", "[::1]"), ("*.a", "*.a"), ("10.0.0.1", "10.0.0.1")]
        {
            assert_eq!(name(given).map(|n| n.to_string()), Ok(shown.to_owned()));
        }
        for given in ["*", "", "https://a.example", "a b", "a.example:443"] {
            assert!(name(given).is_err(), "{given}");
        }
    }
}
