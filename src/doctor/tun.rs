//! What a port of kind `tap` needs: the kernel's tun, and the right to a device of it.

use super::asker::Cap;
use super::{Finding, Host, Kind};

const DEVICE: &str = "/dev/net/tun";
/// IFF_TAP of `tun_flags`.
const TAP: u32 = 2;

pub fn findings(host: &Host) -> Vec<Finding> {
    vec![tun(host).matters_to(&[Kind::Tap])]
}

fn tun(host: &Host) -> Finding {
    const CHECK: &str = "tap.device";
    let bad = |found: String, mend: &str| Finding::warn(CHECK, found).mend(mend).blocks(&[Kind::Tap]);
    let Some(facts) = host.files.facts(DEVICE) else {
        return bad(
            format!("there is no {DEVICE}"),
            "modprobe tun; in a container: --device /dev/net/tun --cap-add NET_ADMIN",
        );
    };
    if !host.asker.may_use(&facts) {
        return bad(format!("this user may not open {DEVICE}"), "chmod 0666 /dev/net/tun");
    }
    if host.asker.can(Cap::NetAdmin) {
        return Finding::ok(CHECK, format!("{DEVICE} is there, and this user may make devices of it"));
    }
    let mine = |name: &String| {
        let folder = format!("/sys/class/net/{name}");
        let flags = host.files.hex(&format!("{folder}/tun_flags"));
        let owner = host.files.number(&format!("{folder}/owner"));
        flags.is_some_and(|f| f & TAP != 0) && owner == Some(host.asker.uid.into())
    };
    let taps: Vec<String> = host.files.names("/sys/class/net").into_iter().filter(mine).collect();
    if !taps.is_empty() {
        return Finding::ok(
            CHECK,
            format!("this user may not make TAP devices, but owns {}", taps.join(", ")),
        );
    }
    bad(
        "this user may not make TAP devices (CAP_NET_ADMIN), and owns none".to_owned(),
        &format!(
            "ip tuntap add dev mr0 mode tap user {} && ip link set mr0 up; or run it in: unshare -Urn",
            host.asker.uid
        ),
    )
}
