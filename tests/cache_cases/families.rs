//! Conversations that many cases have in common.

use super::{Reply, Step, Table, get, ok};

impl Table {
    /// A response is kept: the next request is answered from it.
    pub fn kept(&mut self, section: &'static str, name: impl Into<String>, reply: Reply) {
        self.kept_for(section, name, get(), reply);
    }

    /// The same for a request of this kind.
    pub fn kept_for(&mut self, section: &'static str, name: impl Into<String>, ask: Step, reply: Reply) {
        let (status, body) = (reply.status, text(&reply));
        let second = get().asked(0).status(status).body(&body);
        self.add(section, name, [ask.origin(reply), second]);
    }

    /// A response is not kept: the next request goes to the origin as well.
    pub fn not_kept(&mut self, section: &'static str, name: impl Into<String>, reply: Reply) {
        self.not_kept_for(section, name, get(), reply);
    }

    /// The same for a request of this kind.
    pub fn not_kept_for(&mut self, section: &'static str, name: impl Into<String>, ask: Step, reply: Reply) {
        let status = reply.status;
        let first =
            Step { want: super::Want { status: Some(status), ..Default::default() }, ..ask.if_asked(reply) };
        self.add(section, name, [first.asked(1), get().origin(ok("").body("anew"))]);
    }

    /// A response is fresh for so long, and no longer; `age` is what it has on arrival.
    pub fn fresh_for(
        &mut self,
        section: &'static str,
        name: impl Into<String>,
        reply: Reply,
        seconds: u64,
        age: u64,
    ) {
        let (status, body) = (reply.status, text(&reply));
        let before = seconds - 1;
        self.add(
            section,
            name,
            [
                get().origin(reply),
                get().after(before as f64).asked(0).status(status).body(&body).age(before + age),
                get().after(2.0).origin(ok("max-age=1").body("anew")),
            ],
        );
    }

    /// A response is stale when it comes: the next request asks the origin.
    pub fn stale_at_once(&mut self, section: &'static str, name: impl Into<String>, reply: Reply) {
        self.add(section, name, [get().origin(reply), get().after(1.2).origin(ok("max-age=1").body("anew"))]);
    }
}

fn text(reply: &Reply) -> String {
    let bare = matches!(reply.status, 204 | 304);
    if bare { String::new() } else { String::from_utf8_lossy(&reply.body).into_owned() }
}
