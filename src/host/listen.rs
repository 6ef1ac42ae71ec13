//! Kernel listeners, and what to say when there can be none.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps for us: a burst of clients must not meet a full queue.
const BACKLOG: i32 = 1024;

/// Listens on `at`.
pub(super) fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    listen(at).map_err(|e| {
        let port = at.port();
        let mend = match e.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another program has it: find it with `ss -ltnp 'sport = :{port}'`, or choose another port"
            ),
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need root: choose one from 1024 on".to_owned()
            }
            io::ErrorKind::AddrNotAvailable => {
                "no interface of this machine has that address: `ip address` lists them".to_owned()
            }
            _ => "see listen(2)".to_owned(),
        };
        io::Error::new(e.kind(), format!("cannot listen on {at}: {e}; {mend}"))
    })
}

/// Another handle on the same listener, for another thread.
pub(super) fn share(listener: &TcpListener) -> io::Result<TcpListener> {
    let fd = listener.as_fd().try_clone_to_owned()?;
    Ok(TcpListener::from_std(fd.into()))
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let s = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        s.set_only_v6(true)?;
    }
    // Connections in TIME-WAIT from the run before do not count as "in use".
    s.set_reuse_address(true)?;
    s.set_nonblocking(true)?;
    s.bind(&at.into())?;
    s.listen(BACKLOG)?;
    Ok(TcpListener::from_std(s.into()))
}
