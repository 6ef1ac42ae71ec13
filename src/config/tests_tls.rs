//! TLS in the config: certificates that are made here, good and bad ones.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;

/// A folder that goes with its test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("millrace-config-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Folder(folder)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), text).expect("writable");
    }

    pub fn judge(&self, source: &str) -> Result<(Config, Vec<String>), String> {
        let file = self.0.join("t.toml");
        let machine = Machine { cores: vec![0], memory_bytes: 4 << 30 };
        let (config, warnings) = judged(&file, source, &machine).map_err(|r| r.to_string())?;
        Ok((config, Warnings::new(Path::new("t.toml"), warnings).lines().collect()))
    }

    /// The one certificate that the site of these hosts has.
    fn site(&self, hosts: &str, chain: &str, key: &str) -> Result<(Config, Vec<String>), String> {
        self.judge(&format!(
            "{LISTENER}[[site]]\nhosts = {hosts}\norigin = \"http://192.0.2.80\"\n\
             certificate = {{ chain = \"{chain}\", key = \"{key}\" }}\n"
        ))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub const LISTENER: &str =
    "[[port]]\nname = \"h\"\nkind = \"host\"\n[[listener]]\naddress = \"127.0.0.1\"\nhttps = 8443\n";

pub fn names(all: &[&str]) -> CertificateParams {
    let names: Vec<String> = all.iter().map(ToString::to_string).collect();
    CertificateParams::new(names).expect("good names")
}

pub fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an issuer")
}

#[test]
fn a_certificate_is_read_with_all_that_matters() {
    let folder = Folder::new("good");
    let ca = issuer("CA");
    let key = KeyPair::generate().expect("a key");
    let leaf = names(&["a.example", "*.b.example", "192.0.2.1", "2001:db8::1"]);
    let leaf = leaf.signed_by(&key, &ca).expect("a certificate");
    folder.write("a.pem", format!("{}{}", leaf.pem(), ca.pem()));
    folder.write("a.key", key.serialize_pem());
    let hosts = "[\"a.example\", \"x.b.example\", \"*.b.example\", \"192.0.2.1\", \"[2001:db8::1]\", \"*\"]";
    let (config, warnings) = folder.site(hosts, "a.pem", "a.key").expect("good");
    assert_eq!(warnings, [""; 0]);
    assert_eq!((config.listeners[0].http, config.listeners[0].https), (None, Some(8443)));
    let [certificate] = &config.sites[0].tls.certificates[..] else { panic!("one certificate") };
    assert_eq!(certificate.key_type, KeyType::Ecdsa);
    assert_eq!(certificate.chain, [leaf.der().clone(), ca.der().clone()]);
    assert_eq!(certificate.names.len(), 4);
    assert_eq!(certificate.chain_file, folder.0.join("a.pem"));
    assert!(!format!("{config:?}").contains("-----"), "no key is shown");
    for (host, covered) in
        [("y.b.example", true), ("b.example", false), ("x.y.b.example", false), ("192.0.2.2", false)]
    {
        assert_eq!(certificate.covers(&HostPattern::Exact(host.into())), covered, "{host}");
    }

    // The same file with another certificate is another config.
    let renewed = names(&["a.example"]).signed_by(&key, &ca).expect("a certificate");
    folder.write("a.pem", renewed.pem());
    let (other, _) = folder.site("\"a.example\"", "a.pem", "a.key").expect("good");
    let (same, _) = folder.site("\"a.example\"", "a.pem", "a.key").expect("good");
    assert!(other == same && other.sites[0].tls != config.sites[0].tls);
}

#[test]
fn what_is_wrong_with_chains_and_keys() {
    let folder = Folder::new("bad");
    let (ca, other_ca) = (issuer("CA"), issuer("Other CA"));
    let key = KeyPair::generate().expect("a key");
    let leaf = names(&["a.example"]).signed_by(&key, &ca).expect("a certificate");
    folder.write("key", key.serialize_pem());
    folder.write("other.key", KeyPair::generate().expect("a key").serialize_pem());
    folder.write("leaf", leaf.pem());
    folder.write("turned", format!("{}{}", ca.pem(), leaf.pem()));
    folder.write("gap", format!("{}{}", leaf.pem(), other_ca.pem()));
    folder.write("long", leaf.pem().repeat(11));
    folder.write("cut", leaf.pem().replace("-----END", "----END"));
    folder.write("odd", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    folder.write("unknown.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    for (chain, key, cause) in [
        ("leaf", "other.key", "the key \"other.key\" is not the certificate's; name the key"),
        ("turned", "key", "the chain is out of order: the key \"key\" is that of certificate 2; put"),
        ("gap", "key", "the chain is out of order: certificate 2 did not issue certificate 1; put"),
        ("long", "key", "\"long\" has 11 certificates; name a file"),
        ("odd", "key", "certificate 1 of \"odd\" is damaged; get"),
        ("cut", "key", "\"cut\" is damaged; get"),
        ("key", "key", "\"key\" has no certificate in it; name"),
        ("leaf", "leaf", "\"leaf\" has no private key in it; name"),
        ("leaf", "unknown.key", "the key in \"unknown.key\" is of no known type or size; use"),
        (".", "key", "\".\" can't be read (it is not a file); check"),
        ("none", "key", "\"none\" can't be read (No such file or directory (os error 2)); check"),
    ] {
        let report = folder.site("\"a.example\"", chain, key).expect_err("bad");
        let lines: Vec<&str> = report.lines().collect();
        assert_eq!(lines.len(), 1, "{report}");
        assert!(lines[0].contains(&format!("t.toml:10: {cause}")), "{chain}, {key}: {report}");
    }
}

#[test]
fn what_keeps_nothing_from_running_is_warned_of() {
    let folder = Folder::new("warn");
    let key = KeyPair::generate().expect("a key");
    folder.write("key", key.serialize_pem());
    let mut old = names(&["a.example"]);
    old.not_after = rcgen::date_time_ymd(2001, 2, 3);
    folder.write("old", old.self_signed(&key).expect("a certificate").pem());
    let mut early = names(&["a.example"]);
    early.not_before = rcgen::date_time_ymd(4000, 2, 3);
    folder.write("early", early.self_signed(&key).expect("a certificate").pem());
    folder.write("nameless", names(&[]).self_signed(&key).expect("a certificate").pem());

    let warned = |hosts: &str, chain: &str| folder.site(hosts, chain, "key").expect("good").1;
    assert_eq!(
        warned("\"a.example\"", "old"),
        ["t.toml:10: warning: the certificate has expired on 2001-02-03; renew it: clients refuse it"]
    );
    let to_origins = format!(
        "{LISTENER}http = 8080\n[[site]]\nhosts = \"*\"\norigin = \"https://192.0.2.80\"\n\
         certificate = {{ chain = \"old\", key = \"key\" }}\n\
         origin_tls = {{ ca = \"old\", certificate = {{ chain = \"old\", key = \"key\" }} }}\n"
    );
    let (_, warnings) = folder.judge(&to_origins).expect("good");
    let expired = |line, who| {
        format!(
            "t.toml:{line}: warning: the certificate has expired on 2001-02-03; renew it: {who} refuse it"
        )
    };
    assert_eq!(warnings, [expired(11, "clients"), expired(12, "origins")]);
    assert!(warned("\"a.example\"", "early")[0].contains("not good before 4000-02-03"));
    let now_s = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    for (left_days, expected) in
        [(13, Some("expires in 13 days, on 2")), (0, Some("expires within a day, on 2")), (15, None)]
    {
        let mut short = names(&["a.example"]);
        short.not_after = epoch + std::time::Duration::from_secs(now_s + left_days * 86_400 + 3600);
        folder.write("short", short.self_signed(&key).expect("a certificate").pem());
        let lines = warned("\"a.example\"", "short");
        assert_eq!(lines.len(), usize::from(expected.is_some()), "{lines:?}");
        assert!(
            expected.is_none_or(|text| lines[0].contains(text) && lines[0].ends_with("; renew it")),
            "{lines:?}"
        );
    }
    let both = warned("[\"a.example\", \"b.example\"]", "early");
    assert!(both.len() == 2 && both.iter().any(|w| w.contains("it is for a.example")), "{both:?}");
    assert!(warned("\"a.example\"", "nameless")[0].contains("have one made with it"));

    // A site for clients with certificates, by http.
    let by_http = |site: &str| {
        let source = format!(
            "{LISTENER}http = 8080\n[[site]]\nhosts = \"x.example\"\norigin = \"http://192.0.2.80\"\n{site}\n\
             [[site]]\nhosts = \"*\"\norigin = \"http://192.0.2.80\"\ncertificate = {{ chain = \"old\", key = \"key\" }}\n"
        );
        let (_, warnings) = folder.judge(&source).expect("good");
        warnings.iter().filter(|w| w.contains("t.toml:9: warning: \"x.example\" is only for")).count()
    };
    assert_eq!(by_http("client_auth = { ca = \"old\" }"), 1);
    assert_eq!(by_http("client_auth = { ca = \"old\", mode = \"optional\" }"), 0);
    assert_eq!(by_http("client_auth = { ca = \"old\" }\nredirect = { https = true }"), 0);

    // Sites without a certificate: of no use by https, unless another's will do.
    let second = |hosts: &str| {
        let source = format!(
            "{LISTENER}[[site]]\nhosts = \"{hosts}\"\norigin = \"http://192.0.2.80\"\n\
             certificate = {{ chain = \"old\", key = \"key\" }}\n\
             [[site]]\nhosts = [\"x.example\"]\norigin = \"http://192.0.2.80\"\n"
        );
        folder
            .judge(&source)
            .expect("good")
            .1
            .iter()
            .any(|w| w.contains("12: warning: no site has a certificate for \"x.example\""))
    };
    assert!(second("a.example"));
    assert!(!second("*"), "the default site's is for all");
}

#[test]
fn keys_of_several_types() {
    let folder = Folder::new("types");
    for (name, algorithm) in [
        ("p256", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("p384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("ed", &rcgen::PKCS_ED25519),
        ("rsa", &rcgen::PKCS_RSA_SHA256),
    ] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        folder.write(name, names(&["a.example"]).self_signed(&key).expect("a certificate").pem());
        folder.write(&format!("{name}.key"), key.serialize_pem());
    }
    let source = |certificates: &str| {
        format!("{LISTENER}[[site]]\nhosts = \"a.example\"\norigin = \"http://192.0.2.80\"\n{certificates}")
    };
    let table = |name: &str| format!("[[site.certificate]]\nchain = \"{name}\"\nkey = \"{name}.key\"\n");
    let all = table("rsa") + &table("ed") + &table("p256");
    let (config, _) = folder.judge(&source(&all)).expect("good");
    let types: Vec<KeyType> = config.sites[0].tls.certificates.iter().map(|c| c.key_type).collect();
    assert_eq!(types, [KeyType::Ecdsa, KeyType::Ed25519, KeyType::Rsa]);
    let report = folder.judge(&source(&(table("p256") + &table("p384")))).expect_err("twice");
    assert!(
        report.contains(":13: the site has two certificates with ECDSA keys, here and in line 10; keep"),
        "{report}"
    );
}

#[test]
fn what_is_said_of_tls_to_origins_is_inherited_key_by_key() {
    let folder = Folder::new("origins");
    let ca = issuer("CA");
    folder.write("ca", ca.pem());
    folder.write("key", ca.key().serialize_pem());
    let source = "[[port]]\nname = \"h\"\nkind = \"host\"\n[[listener]]\naddress = \"127.0.0.1\"\nhttp = 80\n\
        [[site]]\nhosts = \"*\"\norigin = \"https://192.0.2.80\"\norigin_tls = { ca = \"ca\", name = \"In.Example\", verify = false }\n\
        [[site.route]]\npath = \"/a\"\n\
        [[site.route]]\npath = \"/b\"\norigin_tls = { ca = \"system\", verify = true, certificate = { chain = \"ca\", key = \"key\" } }\n\
        [[site.route]]\npath = \"/c\"\norigin = [\"https://192.0.2.80:8443\", \"https://192.0.2.80\"]\n";
    let (config, warnings) = folder.judge(source).expect("good");
    assert!(matches!(&warnings[..], [w] if w.contains("verify = false")), "{warnings:?}");
    let tls = |n: usize| {
        let route = &config.sites[0].routes[n];
        &config.upstreams[route.upstream.expect("an upstream")].tls
    };
    assert_eq!(config.sites[0].routes[0].upstream, config.sites[0].routes[3].upstream);
    assert_eq!(tls(0).roots.as_ref().map(|r| r.certificates.to_vec()), Some(vec![ca.der().clone()]));
    assert_eq!((tls(0).name.as_deref(), tls(0).verify), (Some("in.example"), false));
    let b = tls(1);
    assert_eq!((&b.roots, b.name.as_deref(), b.verify), (&None, Some("in.example"), true));
    assert_eq!(b.certificate.as_ref().map(|c| c.names.len()), Some(0));
    assert_eq!(OriginTls::default(), OriginTls { roots: None, name: None, verify: true, certificate: None });
}

/// What is stored is used where it can be; otherwise it is said why not, and ordered anew.
#[test]
fn what_acme_has_stored() {
    let folder = Folder::new("acme");
    std::fs::create_dir(folder.0.join("acme")).expect("a folder");
    let (ca, key) = (issuer("CA"), KeyPair::generate().expect("a key"));
    folder.write("ca", ca.pem());
    let chain = names(&["a.example", "b.example"]).signed_by(&key, &ca).expect("a certificate").pem();
    let source = format!(
        "{LISTENER}http = 8080\n[[site]]\nhosts = [\"a.example\", \"b.example\"]\norigin = \"http://192.0.2.80\"\n\
         certificate = \"acme\"\n[acme]\naccept_terms = true\nstorage = \"acme\"\nca = \"ca\"\n"
    );
    let judged = || {
        let (config, warnings) = folder.judge(&source).expect("good");
        assert!(config.sites[0].tls.acme);
        (config.sites[0].tls.certificates.len(), warnings)
    };
    assert_eq!(judged(), (0, Vec::new()), "nothing so far");
    folder.write("acme/a.example.pem", format!("{}{chain}", key.serialize_pem()));
    assert_eq!(judged(), (1, Vec::new()));
    let stranger = KeyPair::generate().expect("a key").serialize_pem();
    for (stored, why) in [
        (String::new(), "the key is damaged ("),
        (key.serialize_pem(), "there is no certificate in it"),
        (format!("{}{}", key.serialize_pem(), &chain[..200]), "the chain is damaged ("),
        (chain.clone(), "the key is damaged ("),
        (format!("{stranger}{chain}"), "the key is not the certificate's ("),
    ] {
        folder.write("acme/a.example.pem", &stored);
        let (certificates, warnings) = judged();
        let start = format!("t.toml:11: warning: the stored certificate can't be used: {why}");
        let good = |w: &String| w.starts_with(&start) && w.ends_with("; it is ordered anew");
        assert!(certificates == 0 && warnings.len() == 1 && good(&warnings[0]), "{stored}: {warnings:?}");
    }
}

#[test]
fn the_keys_of_tls() {
    let folder = Folder::new("tls");
    folder.write("ticket.key", [7; 48]);
    let source = |tls: &str| {
        format!(
            "[[port]]\nname = \"h\"\nkind = \"host\"\n[[listener]]\naddress = \"127.0.0.1\"\nhttp = 80\n\
             [[site]]\nhosts = \"*\"\norigin = \"http://192.0.2.80\"\n[tls]\n{tls}"
        )
    };
    let tls = |text: &str| folder.judge(&source(text)).map(|(config, _)| config.tls);
    assert_eq!(tls(""), Ok(Tls::default()));
    assert_eq!(tls("tickets = true"), Ok(Tls::default()));
    assert_eq!(tls("tickets = false").expect("good").tickets, None);
    let said = tls(
        "min_version = \"1.3\"\nearly_data = true\nhandshakes_max = 9\nhandshakes_per_source_max = 8\nconnections_per_source_max = 90\n\
         threads = 7\n\
         tickets = { rotate = \"1h\", keep = \"2h\", key_file = \"ticket.key\" }",
    )
    .expect("good");
    let hour = std::time::Duration::from_secs(3600);
    let secret = TicketSecret { file: folder.0.join("ticket.key"), bytes: [7; 48].into() };
    let expected = Tls {
        min_version: TlsVersion::V1_3,
        tickets: Some(Tickets { rotate: hour, keep: 2 * hour, shared: Some(secret) }),
        early_data: true,
        handshakes_max: Some(9),
        handshakes_per_source_max: Some(8),
        connections_per_source_max: Some(90),
        threads: Some(7),
    };
    assert_eq!(said, expected);
    assert!(!format!("{said:?}").contains("7, 7"), "no secret is shown");

    let warned = |text: &str| folder.judge(&source(text)).expect("good").1;
    assert_eq!(warned("early_data = true"), [""; 0]);
    assert_eq!(warned("early_data = false\ntickets = { key_file = \"ticket.key\" }"), [""; 0]);
    let both = warned("early_data = true\ntickets = { key_file = \"ticket.key\" }");
    assert!(both.len() == 1 && both[0].contains("t.toml:11: warning: with early_data = true"), "{both:?}");
    let report = folder.judge(&source("tickets = false\nearly_data = true")).expect_err("bad");
    assert!(report.contains("t.toml:12: early_data = true means nothing with tickets = false"), "{report}");
}
