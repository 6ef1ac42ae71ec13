//! What time does to certificates while a node runs: it is told when it happens, as nobody reads the config then.
//!
//! Nothing has to be done: the cores look at the time in each handshake (`l7::tls::front`).

use std::sync::Arc;

use crate::config::{Certificate, day};

/// Lines at a time. Where many run out at once, the first tell what is wrong.
const LINES_MAX: usize = 20;

/// Tells of each event once.
pub struct Watch {
    /// What was before has been told of.
    looked_s: u64,
}

impl Watch {
    /// From now on, in seconds since 1970: what is so already was said when the config was read.
    pub fn new(now_s: u64) -> Watch {
        Watch { looked_s: now_s }
    }

    /// Once a second: lines for the log, about what has come since to those that are `shown`.
    pub fn look<'c>(&mut self, shown: impl Iterator<Item = &'c Arc<Certificate>>, now_s: u64) -> Vec<String> {
        let since_s = std::mem::replace(&mut self.looked_s, now_s);
        let mut lines = Vec::new();
        for line in shown.filter_map(|certificate| news(certificate, since_s, now_s)) {
            if lines.len() == LINES_MAX {
                lines.push("more certificates have run out: see millrace check".to_owned());
                break;
            }
            // One that several sites show is told of once.
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }
}

/// What has become of it since. A clock that is set back tells nothing.
fn news(certificate: &Certificate, since_s: u64, now_s: u64) -> Option<String> {
    let ocsp = certificate.ocsp.as_ref()?;
    let until_s = ocsp.good.until_s.filter(|until_s| (since_s..now_s).contains(until_s))?;
    let (file, date) = (ocsp.file.display(), day(until_s as i64));
    Some(format!(
        "the OCSP response \"{file}\" has expired on {date}: it is not sent to clients any more; get a newer one, and \
         reload"
    ))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use l7::tls::ocsp::Good;

    use super::*;
    use crate::cert::SelfSigned;
    use crate::config::{HostPattern, Ocsp};

    /// 2030-03-17, 17:46:40.
    const END_S: u64 = 1_900_000_000;

    fn certificate(file: &str, edit: impl FnOnce(&mut Certificate)) -> Arc<Certificate> {
        let names = vec![HostPattern::Exact("a.example".to_owned())];
        let mut made = SelfSigned::new(names, 30, false).expect("a certificate").as_in_config();
        let certificate = Arc::get_mut(&mut made).expect("nobody else has it");
        certificate.chain_file = PathBuf::from(file);
        edit(certificate);
        made
    }

    fn with_response(file: &str, until_s: Option<u64>) -> Arc<Certificate> {
        let good = Good { from_s: 0, until_s };
        certificate("a.pem", |c| c.ocsp = Some(Ocsp { file: PathBuf::from(file), der: [][..].into(), good }))
    }

    #[test]
    fn a_response_that_has_run_out_is_told_of_once() {
        let all = [with_response("a", Some(END_S)), with_response("b", None), certificate("c", |_| ())];
        let mut watch = Watch::new(END_S - 2);
        let mut told = Vec::new();
        for now_s in [END_S - 1, END_S, END_S + 1, END_S + 2, END_S - 1, END_S - 1, END_S, END_S] {
            told.push(watch.look(all.iter().chain(&all), now_s));
        }
        let (told, others): (Vec<_>, Vec<_>) = told.into_iter().partition(|lines| !lines.is_empty());
        assert_eq!(
            told,
            [[
                "the OCSP response \"a\" has expired on 2030-03-17: it is not sent to clients any more; get a newer one, \
               and reload"
            ]]
        );
        assert_eq!(others.len(), 7);
        // It had run out when the node was started.
        assert_eq!(Watch::new(END_S + 1).look(all.iter(), END_S + 100), [""; 0]);
    }

    #[test]
    fn what_happens_to_many_at_once_is_told_of_some() {
        let all: Vec<_> = (0..2 * LINES_MAX).map(|n| with_response(&n.to_string(), Some(END_S))).collect();
        let lines = Watch::new(END_S - 1).look(all.iter(), END_S + 3600);
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert!(lines[LINES_MAX].contains("millrace check"));
    }
}
