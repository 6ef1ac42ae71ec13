//! OCSP responses in the config: those of a real server, `openssl ocsp`, for certificates that are made here.

use std::process::{Command, Stdio};

use rcgen::KeyPair;

use super::tests_tls::{Folder, LISTENER, issuer, names};
use super::*;

/// What the server is told of the certificate with the number 0x9a1234.
const KNOWN: &str = "V\t360101000000Z\t\t9A1234\tunknown\t/CN=a\n";
const REVOKED: &str = "R\t360101000000Z\t261001120000Z,keyCompromise\t9A1234\tunknown\t/CN=a\n";

/// A folder with an issuer, `ca.pem`, and a certificate of its with the number 0x9a1234, `leaf.pem`, and their keys.
fn folder(name: &str) -> Folder {
    let folder = Folder::new(name);
    let ca = issuer("CA");
    folder.write("ca.pem", ca.pem());
    folder.write("ca.key", ca.key().serialize_pem());
    for (name, serial) in [("leaf", 0x9a_1234u32), ("other", 7)] {
        let key = KeyPair::generate().expect("a key");
        let mut params = names(&["a.example"]);
        params.serial_number =
            Some(serial.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect::<Vec<_>>().into());
        let leaf = params.signed_by(&key, &ca).expect("a certificate");
        folder.write(&format!("{name}.pem"), leaf.pem());
        folder.write(&format!("{name}.key"), key.serialize_pem());
        folder.write(&format!("{name}.chain"), leaf.pem() + &ca.pem());
    }
    folder
}

impl Folder {
    /// What a server that knows of `index` answers about `leaf`, with more arguments.
    fn ocsp(&self, index: &str, leaf: &str, more: &[&str]) -> Vec<u8> {
        self.write("index", index);
        let status = Command::new("openssl")
            .args("ocsp -index index -rsigner ca.pem -rkey ca.key -CA ca.pem -issuer ca.pem".split(' '))
            .args(["-noverify", "-respout", "out", "-cert", leaf])
            .args(more)
            .current_dir(&self.0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.expect("openssl is there").success());
        std::fs::read(self.0.join("out")).expect("a response")
    }

    /// What is said of `response` for the site's certificate.
    fn stapled(&self, response: &[u8], chain: &str) -> Result<(Config, Vec<String>), String> {
        self.write("response", response);
        let key = chain.split_once('.').map_or("", |(name, _)| name);
        self.judge(&format!(
            "{LISTENER}[[site]]\nhosts = \"a.example\"\norigin = \"http://192.0.2.80\"\n\
             certificate = {{ chain = \"{chain}\", key = \"{key}.key\", ocsp = \"response\" }}\n"
        ))
    }
}

#[test]
fn a_good_response_is_taken_for_its_certificate_alone() {
    let folder = folder("ocsp-good");
    let good = folder.ocsp(KNOWN, "leaf.pem", &["-ndays", "7"]);
    for chain in ["leaf.pem", "leaf.chain"] {
        for response in [
            &good,
            &folder.ocsp(KNOWN, "leaf.pem", &[]),
            &folder.ocsp(KNOWN, "leaf.pem", &["-nmin", "60", "-resp_key_id", "-resp_no_certs", "-no_nonce"]),
        ] {
            let (config, warnings) = folder.stapled(response, chain).expect("good");
            assert_eq!(warnings, [""; 0]);
            let ocsp = config.sites[0].tls.certificates[0].ocsp.as_ref().expect("it is there");
            assert_eq!((&ocsp.der[..], &ocsp.file), (&response[..], &folder.0.join("response")));
        }
    }
    let report = folder.stapled(&good, "other.pem").expect_err("another's");
    assert_eq!(
        report.trim_end().rsplit_once("t.toml:10: ").expect("a line").1,
        "\"response\" is for another certificate; name the response for the one with the serial number 07"
    );
    // The same number, of another issuer.
    let elsewhere = super::tests_ocsp::folder("ocsp-elsewhere");
    elsewhere.write("ca2.pem", issuer("Other CA").pem());
    for (response, chain, is_good) in [
        (elsewhere.ocsp(KNOWN, "leaf.pem", &["-ndays", "7"]), "leaf.chain", false),
        // Their issuers have one name: without the issuer's certificate nobody can tell.
        (elsewhere.ocsp(KNOWN, "leaf.pem", &["-ndays", "7"]), "leaf.pem", true),
    ] {
        match folder.stapled(&response, chain) {
            Ok(_) => assert!(is_good),
            Err(report) => assert!(
                !is_good
                    && report.contains("t.toml:10: \"response\" is for a certificate of another issuer; ask"),
                "{report}"
            ),
        }
    }
}

#[test]
fn what_would_keep_clients_away_is_an_error() {
    let folder = folder("ocsp-bad");
    for (response, cause) in [
        (
            folder.ocsp(REVOKED, "leaf.pem", &["-ndays", "7"]),
            "\"response\" says that the certificate was revoked on 2026-10-01; have another one issued",
        ),
        (
            folder.ocsp("", "leaf.pem", &["-ndays", "7"]),
            "\"response\" says that the server does not know the certificate; ask the OCSP server of its issuer",
        ),
        (b"\x30\x03\x0a\x01\x06".to_vec(), "\"response\" is an answer without a state (status 6); ask again"),
        (b"-----BEGIN".to_vec(), "\"response\" is not an OCSP response in DER; write it by openssl ocsp"),
        (b"\x30\x05\x0a\x01\x00\x04\x00".to_vec(), "\"response\" is not an OCSP response in DER; write"),
    ] {
        let report = folder.stapled(&response, "leaf.chain").expect_err("bad");
        assert!(report.contains(&format!("t.toml:10: {cause}")) && report.lines().count() == 1, "{report}");
    }
    // Cut anywhere, and with something behind it.
    let mut whole = folder.ocsp(KNOWN, "leaf.pem", &[]);
    whole.push(0);
    for end in (0..whole.len() - 1).step_by(7).chain([whole.len()]) {
        let report = folder.stapled(&whole[..end], "leaf.pem").expect_err("cut");
        assert!(report.contains("t.toml:10: \"response\" is not an OCSP response in DER"), "{end}: {report}");
    }
}

#[test]
fn one_whose_time_it_is_not_is_warned_of() {
    let folder = folder("ocsp-time");
    let response = folder.ocsp(KNOWN, "leaf.pem", &["-ndays", "7"]);
    // Nobody looks at the signature: what is said of time is changed.
    let at = response.windows(4).position(|w| w == b"\xa0\x11\x18\x0f").expect("nextUpdate") + 4;
    let this = at - 4 - 15;
    let with = |at: usize, time: &[u8; 15]| {
        let mut changed = response.clone();
        changed[at..at + 15].copy_from_slice(time);
        changed
    };
    for (response, warning) in [
        (
            with(at, b"20260203040506Z"),
            "t.toml:10: warning: the OCSP response \"response\" has expired on 2026-02-03; get a newer one, and reload: \
             as it is it is not sent to clients",
        ),
        (
            with(this, b"29990203040506Z"),
            "t.toml:10: warning: the OCSP response \"response\" is not good before 2999-02-03; check this machine's \
             clock: until then it is not sent to clients",
        ),
    ] {
        let (config, warnings) = folder.stapled(&response, "leaf.chain").expect("good");
        assert_eq!(warnings, [warning]);
        assert!(config.sites[0].tls.certificates[0].ocsp.is_some(), "its time may come");
    }
}
