//! An ear on loopback: a TCP listener and a UDP socket on one port that answer nothing and count whoever knocks. Used by
//! the tests of input that must not connect.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often it looks. A connection waits in the kernel until then.
const PAUSE: Duration = Duration::from_millis(5);
/// How often a port is tried that must be free for both.
const TRIES: usize = 100;

/// The ear; it stops listening when it is dropped.
#[derive(Debug)]
pub struct Listener {
    port: u16,
    heard: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    connections: AtomicUsize,
    datagrams: AtomicUsize,
}

impl Listener {
    /// Listens on a free port of 127.0.0.1, until it is dropped.
    pub fn start() -> Self {
        let (tcp, udp) = (0..TRIES).find_map(|_| both()).expect("a port that is free for TCP and UDP");
        let port = tcp.local_addr().expect("an address").port();
        let heard = Arc::new(Heard::default());
        let weak = Arc::downgrade(&heard);
        std::thread::spawn(move || {
            let mut datagram = [0; 2048];
            while let Some(heard) = weak.upgrade() {
                let quiet = |e: &std::io::Error| e.kind() == ErrorKind::WouldBlock;
                match tcp.accept() {
                    // closed at once: whoever connects shall not wait for an answer
                    Ok(_) => _ = heard.connections.fetch_add(1, Ordering::SeqCst),
                    Err(error) => assert!(quiet(&error), "the listener hears nothing any more: {error}"),
                }
                if udp.recv_from(&mut datagram).is_ok() {
                    heard.datagrams.fetch_add(1, Ordering::SeqCst);
                }
                drop(heard);
                std::thread::sleep(PAUSE);
            }
        });
        Self { port, heard }
    }

    /// Its port, the same for TCP and UDP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many have connected or sent a datagram until now.
    pub fn heard(&self) -> usize {
        std::thread::sleep(PAUSE * 10); // what was sent just now is counted too
        self.heard.connections.load(Ordering::SeqCst) + self.heard.datagrams.load(Ordering::SeqCst)
    }
}

fn both() -> Option<(TcpListener, UdpSocket)> {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
    tcp.set_nonblocking(true).and_then(|()| udp.set_nonblocking(true)).ok()?;
    Some((tcp, udp))
}
