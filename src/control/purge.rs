//! What `millrace purge` asks for: its arguments on the command line, and how they cross the control socket.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{Request, verb};

/// Fields of the request: exactly one of the first five, and perhaps the last.
const FIELDS: [&str; 6] = ["url", "tag", "prefix", "host", "all", "soft"];

/// `millrace purge`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    millrace purge http://example.com/logo.png         one URL, in all its variants\n  \
    millrace purge --tag product-17 --soft             what carries the tag: stale from now on, served while it is fetched anew\n  \
    millrace purge --prefix http://example.com/img/    every URL that begins so\n  \
    millrace purge --host example.com                  every URL of a host\n  \
    millrace purge --all\n\n\
    When it comes back no core answers with what was purged (with --soft: takes it for fresh).\n\n\
    Exit codes: 0 done, also when nothing matched; 1 it could not be done; 2 usage, or several nodes run and --node was \
    not given; 3 no such node.")]
pub struct PurgeArgs {
    #[command(flatten)]
    what: What,
    /// Mark it stale instead of dropping it.
    #[arg(long)]
    soft: bool,
    /// Which node: its name, or the path of its run directory.
    #[arg(long, value_name = "NAME|PATH")]
    node: Option<String>,
    /// Answer as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// A URL: http://HOST[:PORT]/PATH[?QUERY].
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// Everything with this cache tag.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Everything whose URL begins so.
    #[arg(long, value_name = "URL")]
    prefix: Option<String>,
    /// Everything of a host.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Everything.
    #[arg(long)]
    all: bool,
}

/// What is to be purged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// What.
    pub what: Target,
    /// Only marked stale.
    pub soft: bool,
}

/// What is to be purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One URL.
    Url(String),
    /// What has this tag.
    Tag(String),
    /// URLs that begin so.
    Prefix(String),
    /// URLs of a host.
    Host(String),
    /// Everything.
    All,
}

impl PurgeArgs {
    /// Asks the node; prints what it says.
    pub fn run(&self) -> ExitCode {
        verb(self.node.as_deref(), &self.purge().request(), self.json)
    }

    fn purge(&self) -> Purge {
        let w = &self.what;
        let named = [
            w.url.clone().map(Target::Url),
            w.tag.clone().map(Target::Tag),
            w.prefix.clone().map(Target::Prefix),
            w.host.clone().map(Target::Host),
        ];
        // The command line lets exactly one of them through.
        Purge { what: named.into_iter().flatten().next().unwrap_or(Target::All), soft: self.soft }
    }
}

impl Purge {
    /// As a request to a node.
    pub fn request(&self) -> Request {
        let mut r = Request::new("purge");
        let (name, value): (_, Value) = match &self.what {
            Target::Url(s) => ("url", s.as_str().into()),
            Target::Tag(s) => ("tag", s.as_str().into()),
            Target::Prefix(s) => ("prefix", s.as_str().into()),
            Target::Host(s) => ("host", s.as_str().into()),
            Target::All => ("all", true.into()),
        };
        r.args.insert(name.to_owned(), value);
        if self.soft {
            r.args.insert("soft".to_owned(), true.into());
        }
        r
    }

    /// Out of a request, which anybody with access to the socket may have written.
    ///
    /// # Errors
    /// One sentence with the mend.
    pub fn of(request: &Request) -> Result<Purge, String> {
        let a = &request.args;
        if let Some(unknown) = a.keys().find(|k| !FIELDS.contains(&k.as_str())) {
            return Err(format!("purge has no \"{unknown}\"; it has {}", FIELDS.join(", ")));
        }
        let flag = |name: &str| match a.get(name) {
            None => Ok(false),
            Some(Value::Bool(b)) => Ok(*b),
            Some(_) => Err(format!("\"{name}\" is true or false; write one of them")),
        };
        let text = |name: &'static str, make: fn(String) -> Target| match a.get(name) {
            None => Ok(None),
            Some(Value::String(s)) if !s.is_empty() => Ok(Some(make(s.clone()))),
            Some(_) => Err(format!("\"{name}\" is a text; write one that is not empty")),
        };
        let all = flag("all")?.then_some(Target::All);
        let named = [
            text("url", Target::Url)?,
            text("tag", Target::Tag)?,
            text("prefix", Target::Prefix)?,
            text("host", Target::Host)?,
            all,
        ];
        let mut named = named.into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(what), None) => Ok(Purge { what, soft: flag("soft")? }),
            _ => Err("purge wants exactly one of url, tag, prefix, host and all; give one".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: PurgeArgs,
    }

    fn read(words: &[&str]) -> Option<Purge> {
        Cli::try_parse_from([&["purge"], words].concat()).ok().map(|c| c.args.purge())
    }

    #[test]
    fn every_target_crosses_the_socket() {
        for (words, want) in [
            (&["http://a/b"][..], Target::Url("http://a/b".into())),
            (&["--tag", "t"], Target::Tag("t".into())),
            (&["--prefix", "http://a/"], Target::Prefix("http://a/".into())),
            (&["--host", "a"], Target::Host("a".into())),
            (&["--all"], Target::All),
        ] {
            for soft in [false, true] {
                let all: Vec<&str> = words.iter().copied().chain(soft.then_some("--soft")).collect();
                let purge = read(&all).expect("good");
                assert_eq!(purge, Purge { what: want.clone(), soft });
                assert_eq!(Purge::of(&purge.request()), Ok(purge));
            }
        }
    }

    #[test]
    fn one_target_exactly() {
        for words in [&[][..], &["--soft"], &["http://a/", "--all"], &["--tag", "a", "--host", "b"]] {
            assert_eq!(read(words), None, "{words:?}");
        }
        for (text, part) in [
            (r#"{"verb":"purge"}"#, "exactly one"),
            (r#"{"verb":"purge","all":false}"#, "exactly one"),
            (r#"{"verb":"purge","all":true,"tag":"x"}"#, "exactly one"),
            (r#"{"verb":"purge","all":"yes"}"#, "true or false"),
            (r#"{"verb":"purge","tag":""}"#, "not empty"),
            (r#"{"verb":"purge","tags":"x"}"#, "no \"tags\""),
        ] {
            let request: Request = serde_json::from_str(text).expect("JSON");
            let said = Purge::of(&request).expect_err(text);
            assert!(said.contains(part), "{said}");
        }
    }
}
