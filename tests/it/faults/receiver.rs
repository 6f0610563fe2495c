//! The one who is told of completions over HTTP, and remembers every request.
//!
//! Responsible for: taking requests, and failing them as ordered: with an error, without an
//! answer, or after a long silence.
//! Not responsible for: whether what arrived is right (`audit`).

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a silent receiver is silent.
const SILENCE: Duration = Duration::from_secs(3);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It is refused with 500, and has had no effect.
    Refuses,
    /// It has its effect, and the connection breaks before the answer.
    Breaks,
    /// It has its effect, and the answer comes late.
    IsSlow,
}

/// A request that had its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its `Idempotency-Key`.
    pub key: String,
    /// Its body.
    pub body: String,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    moods: VecDeque<Mood>,
}

/// A web server.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    /// Starts it; it ends with the process.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // A client that is killed in the middle of a request has had no answer, which is
                // all there is to say.
                thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { address, state }
    }

    /// Where requests go.
    pub fn url(&self) -> String {
        format!("http://{}/completed", self.address)
    }

    /// Treats the next `times` requests that way.
    pub fn next(&self, mood: Mood, times: usize) {
        lock(&self.state).moods.extend(std::iter::repeat_n(mood, times));
    }

    /// What had its effect so far.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.state).calls.clone()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let (headers, body) = request(stream)?;
    let mood = lock(state).moods.pop_front();
    if mood == Some(Mood::Refuses) {
        return answer(stream, "500 Internal Server Error");
    }
    let key = headers.get("idempotency-key").cloned().unwrap_or_default();
    lock(state).calls.push(Call { key, body });
    match mood {
        Some(Mood::Breaks) => return None,
        Some(Mood::IsSlow) => thread::park_timeout(SILENCE),
        Some(Mood::Refuses) | None => {}
    }
    answer(stream, "204 No Content")
}

fn request(stream: &TcpStream) -> Option<(BTreeMap<String, String>, String)> {
    let mut reader = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some((headers, String::from_utf8(body).ok()?))
}

fn answer(mut stream: &TcpStream, status: &str) -> Option<()> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
