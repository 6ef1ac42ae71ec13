//! Which connections are wanted.

use serde_json::{Map, Value};
use stack::tcp::Algorithm;
use stack::{Addr, FlowInfo, State};

use super::{Listeners, role};
use crate::config::{Cidr, names};

/// Fields of a request.
const FIELDS: [&str; 6] = ["state", "listener", "algorithm", "role", "peer", "local"];

/// What is wanted; what is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    states: Option<Vec<State>>,
    listener: Option<u16>,
    algorithm: Option<Algorithm>,
    role: Option<&'static str>,
    peer: Option<End>,
    local: Option<End>,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    network: Option<Cidr>,
    port: Option<u16>,
}

impl Filter {
    /// Out of a request, which anybody with access to the socket may have written.
    ///
    /// # Errors
    /// One sentence with the mend.
    pub fn of(args: &Map<String, Value>) -> Result<Filter, String> {
        if let Some(unknown) = args.keys().find(|k| !FIELDS.contains(&k.as_str())) {
            return Err(format!("flows has no \"{unknown}\"; it has {}", FIELDS.join(", ")));
        }
        let text = |name: &str| match args.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(s)) => Ok(Some(s.as_str())),
            Some(_) => Err(format!("\"{name}\" is a text; write one")),
        };
        Ok(Filter {
            states: text("state")?.map(states).transpose()?,
            listener: text("listener")?.map(listener).transpose()?,
            algorithm: text("algorithm")?.map(algorithm).transpose()?,
            role: text("role")?.map(role_of).transpose()?,
            peer: text("peer")?.map(End::of).transpose()?,
            local: text("local")?.map(End::of).transpose()?,
        })
    }

    /// Whether it wants this one.
    pub fn wants(&self, flow: &FlowInfo, listeners: &Listeners) -> bool {
        let t = &flow.tuple;
        self.states.as_ref().is_none_or(|s| s.contains(&flow.state))
            && self.listener.is_none_or(|l| listeners.number(flow) == Some(l))
            && self.role.is_none_or(|r| role(flow) == r)
            && self.algorithm.is_none_or(|a| flow.algorithm == a)
            && self.peer.is_none_or(|e| e.is(&t.remote, t.remote_port))
            && self.local.is_none_or(|e| e.is(&t.local, t.local_port))
    }
}

fn states(text: &str) -> Result<Vec<State>, String> {
    text.split(',').map(|s| state(s.trim())).collect()
}

/// As `ss` prints them, in any case; some have longer names besides.
fn state(text: &str) -> Result<State, String> {
    let upper = text.to_ascii_uppercase().replace('_', "-");
    let name = match upper.as_str() {
        "ESTABLISHED" => "ESTAB",
        "SYN-RECEIVED" => "SYN-RECV",
        other => other,
    };
    State::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| {
        let names: Vec<&str> = State::ALL.iter().map(|s| s.name()).collect();
        format!("\"{text}\" is no state of a connection; choose from {}", names.join(", "))
    })
}

fn listener(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| {
        format!(
            "\"{text}\" is no listener's number; count the [[listener]] of the config from 0, or use --local"
        )
    })
}

fn role_of(text: &str) -> Result<&'static str, String> {
    ["client", "origin"]
        .into_iter()
        .find(|r| *r == text)
        .ok_or_else(|| format!("\"{text}\" is nobody's role; choose from client, origin"))
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::from_name(&text.to_ascii_lowercase()).ok_or_else(|| {
        let names = Algorithm::ALL.map(Algorithm::name).join(", ");
        format!("\"{text}\" is no congestion control; choose from {names}")
    })
}

impl End {
    /// `192.0.2.1`, `10.0.0.0/8:80`, `[2001:db8::]/32:443`, `2001:db8::1`, `:80`.
    fn of(text: &str) -> Result<End, String> {
        let (network, port) = split(text).ok_or_else(|| {
            format!(
                "\"{text}\" is no end of a connection; write it as in 10.0.0.0/8:80, [2001:db8::1]:443 or :80"
            )
        })?;
        let network = match network.as_str() {
            "" => None,
            network => Some(names::network(network).map_err(|w| format!("{}; {}", w.cause, w.mend))?),
        };
        Ok(End { network, port })
    }

    fn is(&self, addr: &Addr, port: u16) -> bool {
        self.port.is_none_or(|p| p == port) && self.network.is_none_or(|n| n.contains(addr.ip()))
    }
}

/// The network and the port, of which one may be missing.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    let (network, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let (prefix, port) = rest.split_once(':').map_or((rest, None), |(p, n)| (p, Some(n)));
            if !(prefix.is_empty() || prefix.starts_with('/')) {
                return None;
            }
            (format!("{address}{prefix}"), port)
        }
        // More colons than one are IPv6's own.
        None if text.matches(':').count() == 1 => {
            let (network, port) = text.split_once(':')?;
            (network.to_owned(), Some(port))
        }
        None => (text.to_owned(), None),
    };
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    (!network.is_empty() || port.is_some()).then_some((network, port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(args: Value) -> Result<Filter, String> {
        Filter::of(args.as_object().expect("an object"))
    }

    #[test]
    fn ends() {
        let end = |text: &str| End::of(text).map(|e| (e.network.map(|n| n.to_string()), e.port));
        let is = |text: &str, network: &str, port: Option<u16>| {
            let network = (!network.is_empty()).then(|| network.to_owned());
            assert_eq!(end(text), Ok((network, port)), "{text}");
        };
        is("192.0.2.1", "192.0.2.1/32", None);
        is("192.0.2.1:80", "192.0.2.1/32", Some(80));
        is("10.0.0.0/8:443", "10.0.0.0/8", Some(443));
        is(":80", "", Some(80));
        is("2001:db8::1", "2001:db8::1/128", None);
        is("2001:db8::/32", "2001:db8::/32", None);
        is("[2001:db8::1]", "2001:db8::1/128", None);
        is("[2001:db8::]/32:443", "2001:db8::/32", Some(443));
        is("[2001:db8::/32]:443", "2001:db8::/32", Some(443));
        for bad in ["", ":", ":x", ":65536", "10.0.0.0/8:", "10.0.0.1/8", "[::1", "example.com:80", "[::1]80"]
        {
            assert!(end(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn requests() {
        let f =
            read(json!({"state": "established, Fin-Wait-1,syn_received", "role": "origin"})).expect("good");
        assert_eq!(f.states, Some(vec![State::Established, State::FinWait1, State::SynReceived]));
        assert_eq!((f.role, f.listener), (Some("origin"), None));
        assert_eq!(read(json!({"listener": "3", "algorithm": "BBR"})).expect("good").listener, Some(3));
        for (args, part) in [
            (json!({"state": "OPEN"}), "choose from"),
            (json!({"state": ""}), "no state"),
            (json!({"listener": "web"}), "no listener's number"),
            (json!({"algorithm": "vegas"}), "cubic, bbr, reno"),
            (json!({"role": "both"}), "client, origin"),
            (json!({"peer": 7}), "is a text"),
            (json!({"peers": "x"}), "no \"peers\""),
        ] {
            let said = read(args.clone()).expect_err(part);
            assert!(said.contains(part), "{args}: {said}");
        }
    }
}
