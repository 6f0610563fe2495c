//! A web server for tests.
//!
//! Responsible for: answering requests on a loopback port with given bytes, and counting them and
//! the connections that they came over.
//! Not responsible for: HTTP beyond the request line.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::net::Allow;

/// What the server does with a request.
pub(crate) enum Answer {
    /// Sends these bytes and closes.
    Bytes(Vec<u8>),
    /// Sends these bytes and keeps the connection open without a word.
    Hang(Vec<u8>),
}

impl Answer {
    /// 200 with a body.
    pub(crate) fn body(body: &[u8]) -> Self {
        Self::status(200, &format!("content-length: {}\r\n", body.len()), body)
    }

    /// A status with header lines, each with its line end, and a body.
    pub(crate) fn status(status: u16, headers: &str, body: &[u8]) -> Self {
        let mut bytes =
            format!("HTTP/1.1 {status} Stub\r\nconnection: close\r\n{headers}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        Self::Bytes(bytes)
    }
}

/// A running server; it ends when this is dropped.
pub(crate) struct Stub {
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Stub {
    /// Serves what `answer` says to each request head.
    pub(crate) async fn serve(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (accepted, counter, answer) = (connections.clone(), requests.clone(), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (counter, answer) = (counter.clone(), answer.clone());
                tokio::spawn(async move { talk(stream, &counter, &*answer).await });
            }
        });
        Self { port, connections, requests, task }
    }

    /// Connections so far, with or without a request.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// A URL of this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The allow-list entry for it.
    pub(crate) fn origin(&self) -> Allow {
        Allow {
            scheme: "http".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: Some(self.port),
            private: true,
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn talk(mut stream: TcpStream, requests: &AtomicUsize, answer: &impl Fn(&str) -> Answer) {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => head.extend_from_slice(&piece[..count]),
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let (bytes, hang) = match answer(&String::from_utf8_lossy(&head)) {
        Answer::Bytes(bytes) => (bytes, false),
        Answer::Hang(bytes) => (bytes, true),
    };
    // The client may hang up first: that is what some tests are about.
    if stream.write_all(&bytes).await.is_ok() && hang {
        while matches!(stream.read(&mut piece).await, Ok(count) if count > 0) {}
    }
}
