//! Ports for nodes, which are chosen long before anybody listens at them.
//!
//! A name in the kernel stands for each port that was chosen: it is taken once, at this machine, and goes away with the process that took it,
//! however that ends. So tests that run beside each other never choose the same.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

/// Ports that no connection of this machine takes by itself, as far as systems are set up as usual: a node that starts again finds its
/// port free.
const QUIET_PORTS: std::ops::Range<u16> = 10_000..32_000;

/// What this process chose. It is given back with the process alone: the port of a node that does not run now is still that node's.
static CHOSEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// The first of so many ports in a row that nobody uses now, and that no other test is given while this process runs.
pub fn free_ports(count: u16) -> u16 {
    for _ in 0..1000 {
        let first = rand::random_range(QUIET_PORTS.start..QUIET_PORTS.end - count);
        // All of them or none.
        let names: Option<Vec<_>> = (first..first + count).map(|port| Some(take(port)?.0)).collect();
        if let Some(names) = names {
            keep(names);
            return first;
        }
    }
    panic!("no {count} free ports in a row");
}

/// A listener at such a port.
pub(super) fn quiet_listener() -> TcpListener {
    let mut ports = (0..1000).map(|_| rand::random_range(QUIET_PORTS));
    let (name, listener) = ports.find_map(take).expect("no free port");
    keep([name]);
    listener
}

/// The name of a port and a listener at it, if nobody has either. The port is looked at by whoever has the name: the look itself must not be
/// in the way of a node that is about to listen.
fn take(port: u16) -> Option<(UnixListener, TcpListener)> {
    let name = name(port)?;
    let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
    Some((name, listener))
}

/// The name of a port, if nobody has it.
fn name(port: u16) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("blockhouse-test-port-{port}")).unwrap();
    UnixListener::bind_addr(&name).ok()
}

fn keep(names: impl IntoIterator<Item = UnixListener>) {
    CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_chosen_is_not_chosen_again() {
        let first = free_ports(3);
        for port in first..first + 3 {
            assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "nobody listens there yet");
            assert!(take(port).is_none(), "{port}");
        }
        let listener = quiet_listener();
        assert!(name(listener.local_addr().unwrap().port()).is_none());
    }

    #[test]
    fn a_port_that_somebody_uses_is_not_chosen_and_keeps_no_name() {
        let used = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = used.local_addr().unwrap().port();
        assert!(take(port).is_none());
        assert!(name(port).is_some());
    }
}
