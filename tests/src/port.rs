//! Ports on loopback for servers that tests start. Between the choice of a port and the server that takes it, and while that is restarted,
//! nobody else gets it: no other test, and no connection of anybody.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Below those that the kernel gives to connections and to whoever asks for any port (ip(7), `ip_local_port_range`).
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// Names that keep other tests from the same ports, as long as this process lives.
static HELD: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port on loopback that nobody uses, and no other test will.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let from = std::process::id();
    let ports = (0..COUNT).map(|turn| FIRST + (from + turn) % COUNT);
    ports.filter_map(|port| u16::try_from(port).ok()).find(|port| take(*port)).expect("a free port")
}

/// Whether the port is ours now: nobody had it.
fn take(port: u16) -> bool {
    // A name of the kernel's own, which leaves no file behind (unix(7)).
    let name = SocketAddr::from_abstract_name(format!("craton-test-port-{port}")).expect("a short name");
    let Ok(held) = UnixListener::bind_addr(&name) else { return false };
    let is_free = TcpListener::bind(("127.0.0.1", port)).is_ok();
    if is_free {
        HELD.lock().expect("nobody panics while holding it").push(held);
    }
    is_free
}
