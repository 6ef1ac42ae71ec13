//! OCSP responses that a running node staples: from a real server, `openssl ocsp`, to a real client, `openssl s_client`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clients::{echo, free_port};
use crate::running::Node;

fn openssl(folder: &Path, args: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(args.split(' ')).current_dir(folder).stdin(Stdio::null()).stderr(Stdio::null());
    String::from_utf8_lossy(&command.output().expect("openssl is there").stdout).into_owned()
}

/// An issuer, a certificate of its for a.example with the number 0x9a1234, and a response that it is good.
fn fill(folder: &Path) {
    let params = |name: &str| {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let mut ca = params("ca.example");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(ca, rcgen::KeyPair::generate().expect("a key"))
        .expect("an issuer");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut leaf = params("a.example");
    leaf.serial_number = Some(vec![0x9a, 0x12, 0x34].into());
    let leaf = leaf.signed_by(&key, &ca).expect("a certificate");
    let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("written");
    write("ca.pem", ca.pem());
    write("ca.key", ca.key().serialize_pem());
    write("leaf.pem", leaf.pem());
    write("site.pem", leaf.pem() + &ca.pem() + &key.serialize_pem());
    write("index", "V\t360101000000Z\t\t9A1234\tunknown\t/CN=a\n".to_owned());
    respond(folder, "site.ocsp");
}

fn respond(folder: &Path, to: &str) {
    openssl(
        folder,
        &format!(
            "ocsp -index index -rsigner ca.pem -rkey ca.key -CA ca.pem -issuer ca.pem -noverify -cert leaf.pem \
             -ndays 7 -respout {to}"
        ),
    );
}

/// Says in a response that there is another one after so many seconds.
fn ends_in(response: &mut [u8], seconds: u64) {
    let at = response.windows(4).position(|w| w == b"\xa0\x11\x18\x0f").expect("nextUpdate") + 4;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let date =
        Command::new("date").args(["-u", "-d", &format!("@{}", now_s + seconds), "+%Y%m%d%H%M%SZ"]).output();
    let date = date.expect("a date").stdout;
    response[at..at + 15].copy_from_slice(&date[..15]);
}

#[test]
fn a_response_is_stapled_as_long_as_it_is_good() {
    let (https, origin) = (free_port(), echo());
    let config = format!(
        "[node]\nname = \"ocsp\"\nmemory = \"64MiB\"\n[[port]]\nname = \"lo\"\nkind = \"host\"\n\
         [[listener]]\naddress = \"127.0.0.1\"\nhttps = {https}\n\
         [[site]]\nhosts = \"a.example\"\norigin = \"http://{origin}\"\n\
         certificate = {{ chain = \"site.pem\", key = \"site.pem\", ocsp = \"site.ocsp\" }}\n"
    );
    let node = Node::start_with("ocsp", &config, fill);
    let status = || {
        openssl(
            &node.dir,
            &format!("s_client -connect 127.0.0.1:{https} -servername a.example -CAfile ca.pem -status"),
        )
    };
    let is_stapled = |text: &str| {
        assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
        let good = ["OCSP Response Status: successful", "Cert Status: good", "Serial Number: 9A1234"];
        let (there, none) = (good.iter().all(|line| text.contains(line)), text.contains("no response sent"));
        assert!(there != none, "{text}");
        there
    };
    assert!(is_stapled(&status()));

    // Of another certificate, revoked, cut: refused, and what was in force stays.
    let good = fs::read(node.dir.join("site.ocsp")).expect("a response");
    fs::write(node.dir.join("index"), "R\t360101000000Z\t261001120000Z\t9A1234\tunknown\t/CN=a\n")
        .expect("written");
    respond(&node.dir, "revoked");
    let mut other = good.clone();
    let serial = other.windows(3).position(|w| w == [0x9a, 0x12, 0x34]).expect("the number");
    other[serial] = 0x9b;
    for (bytes, cause) in [
        (
            fs::read(node.dir.join("revoked")).expect("a response"),
            "says that the certificate was revoked on 2026-10-01",
        ),
        (other, "is for another certificate"),
        (good[..100].to_vec(), "is not an OCSP response in DER"),
    ] {
        fs::write(node.dir.join("site.ocsp"), bytes).expect("written");
        let (code, said) = node.says(&["reload"]);
        let at = format!("{}:", node.file().display());
        assert!(
            code == 1 && said.starts_with(&at) && said.contains(&format!("\"site.ocsp\" {cause}")),
            "{said}"
        );
        assert!(is_stapled(&status()));
    }

    // One that runs out while the node runs.
    let mut short = good.clone();
    ends_in(&mut short, 3);
    fs::write(node.dir.join("site.ocsp"), &short).expect("written");
    assert_eq!(node.says(&["reload"]).0, 0);
    let line = "has expired on 2";
    node.until("the log says that it has run out", || node.log().contains(line));
    assert!(!is_stapled(&status()));
    assert_eq!(node.log().matches(line).count(), 1);

    // One that had run out before: it is warned of, and left out.
    assert_eq!(node.says(&["reload"]).0, 0, "nothing has changed");
    let (code, said) = node.says(&["check", &node.file().display().to_string()]);
    assert!(
        code == 0 && said.contains("warning: the OCSP response \"site.ocsp\" has expired on 2"),
        "{said}"
    );
    fs::write(node.dir.join("site.ocsp"), &good).expect("written");
    assert_eq!(node.says(&["reload"]).0, 0);
    assert!(is_stapled(&status()));
}
