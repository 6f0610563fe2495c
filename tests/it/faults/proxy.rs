//! A door between the replicas and Postgres that can be slammed.
//!
//! Responsible for: passing bytes on, and cutting connections at a commit: before the server has
//! seen it, or before its answer is seen.
//! Not responsible for: choosing when (`run`).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never sees the commit.
    Before,
    /// It does, and nobody sees its answer.
    After,
}

#[derive(Default)]
struct Orders {
    cut: Mutex<Option<Cut>>,
    left: AtomicUsize,
}

impl Orders {
    /// Whether this commit is to be cut, and where.
    fn take(&self) -> Option<Cut> {
        let cut = (*self.cut.lock().unwrap_or_else(PoisonError::into_inner))?;
        let less = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).ok()?;
        Some(cut)
    }
}

/// The door.
pub struct Proxy {
    port: u16,
    orders: Arc<Orders>,
}

impl Proxy {
    /// A door to the server at a port of this machine.
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let orders = Arc::new(Orders::default());
        let shared = orders.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Without a server the client finds a closed connection, as it would there.
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                connect(client, server, &shared);
            }
        });
        Self { port, orders }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts connections at their next commits, so many of them.
    pub fn cut(&self, cut: Cut, times: usize) {
        *self.orders.cut.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut);
        self.orders.left.store(times, Ordering::Release);
    }

    /// Cuts that were ordered and did not happen yet.
    pub fn cuts_left(&self) -> usize {
        self.orders.left.load(Ordering::Acquire)
    }
}

fn connect(client: TcpStream, server: TcpStream, orders: &Arc<Orders>) {
    let (Ok(client_reads), Ok(server_reads)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let swallows = Arc::new(AtomicBool::new(false));
    let (orders, swallow) = (orders.clone(), swallows.clone());
    thread::spawn(move || {
        pass(client_reads, server, |bytes| {
            if !ends(bytes, b"COMMIT\0") {
                return Fate::Passed;
            }
            match orders.take() {
                Some(Cut::Before) => Fate::Cut,
                Some(Cut::After) => {
                    swallow.store(true, Ordering::Release);
                    Fate::Passed
                }
                None => Fate::Passed,
            }
        });
    });
    thread::spawn(move || {
        pass(server_reads, client, |bytes| match swallows.load(Ordering::Acquire) {
            false => Fate::Passed,
            // The server has done it, or undone it.
            true if ends(bytes, b"COMMIT\0") || ends(bytes, b"ROLLBACK\0") => Fate::Cut,
            true => Fate::Swallowed,
        });
    });
}

/// What becomes of bytes.
enum Fate {
    Passed,
    Swallowed,
    /// And of the connection.
    Cut,
}

/// Passes bytes on until one end is closed or they are cut; then both ends are closed.
fn pass(mut from: TcpStream, mut to: TcpStream, fate: impl Fn(&[u8]) -> Fate) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..count];
        match fate(bytes) {
            Fate::Passed if to.write_all(bytes).is_ok() => {}
            Fate::Swallowed => {}
            Fate::Passed | Fate::Cut => break,
        }
    }
    for end in [&from, &to] {
        // The other direction may have closed it already.
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// Whether a transaction ends within these bytes. Both sides send the word as a text of its own.
fn ends(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}
