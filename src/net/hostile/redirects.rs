//! Responsible for: proving that a server on the allow-list cannot send the client anywhere that
//! the topology did not name.
//! Not responsible for: first requests (`hostile`), or what names answer (`names`).

use super::{HERE, client, trap};
use crate::net::stub::{Answer, Stub};
use crate::net::{Allow, GuardedClient, NetError};

/// Statuses that redirect.
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// A server that answers `GET /n` with the n-th of these header blocks and a body.
async fn redirecting(status: u16, headers: Vec<Vec<u8>>) -> Stub {
    Stub::serve(move |head| {
        let number = head.split(['/', ' ', '?']).find_map(|word| word.parse::<usize>().ok());
        let Some(headers) = number.and_then(|number| headers.get(number)) else {
            return Answer::body(b"first page");
        };
        let mut bytes = format!("HTTP/1.1 {status} Stub\r\nconnection: close\r\n").into_bytes();
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(b"content-length: 18\r\n\r\nbody of a redirect");
        Answer::Bytes(bytes)
    })
    .await
}

async fn open(client: &GuardedClient, stub: &Stub, number: usize) -> Result<(), NetError> {
    let url = stub.url(&format!("/{number}"));
    client.open(client.check(&url).unwrap()).await.map(|_download| ())
}

/// Where a hostile server sends its clients, and why they do not go; `PORT` is that of the trap.
fn targets() -> Vec<(String, &'static str)> {
    // Headers are ASCII; what is not is no place at all (below).
    let here = HERE.iter().filter(|host| host.is_ascii());
    let mut targets: Vec<(String, &str)> =
        here.map(|host| (format!("http://{host}:PORT/secret"), "is not allowed")).collect();
    let others = [
        ("http://169.254.169.254/latest/meta-data/", "allow-list"),
        ("http://metadata.google.internal/", "allow-list"),
        ("http://localhost:PORT/", "allow-list"),
        ("http://[::1]:PORT/", "allow-list"),
        ("//127.0.0.1:PORT/secret", "loopback"),
        ("http:///127.0.0.1:PORT/secret", "loopback"),
        ("http://user:password@127.0.0.1:PORT/", "user name"),
        ("file:///etc/passwd", "neither https nor http"),
        ("gopher://127.0.0.1:PORT/_x", "neither https nor http"),
        ("data:text/plain,secret", "neither https nor http"),
        ("javascript:alert(1)", "neither https nor http"),
        ("\\\\127.0.0.1:PORT\\secret", "malformed"),
        ("http://127.0.0.1:PORT\\@example.com/", "malformed"),
        ("http://[::1", "malformed"),
        ("http://", "malformed"),
        ("http://127.0.0.1:99999/", "malformed"),
    ];
    targets.extend(others.map(|(target, why)| (target.to_owned(), why)));
    targets
}

#[tokio::test]
async fn a_redirect_leads_nowhere_that_a_first_request_may_not_go() {
    let trap = trap().await;
    let targets = targets();
    let lines = targets.iter().map(|(target, _)| {
        let target = target.replace("PORT", &trap.port.to_string());
        format!("location: {target}\r\n").into_bytes()
    });
    let lines: Vec<Vec<u8>> = lines.collect();
    for status in STATUSES {
        let stub = redirecting(status, lines.clone()).await;
        // The trap is listed, too: as an origin on the internet, which it is not.
        let listed = Allow { port: Some(trap.port), private: false, ..stub.origin() };
        let client = client(vec![stub.origin(), listed]);
        for (number, (target, why)) in targets.iter().enumerate() {
            let error = open(&client, &stub, number).await.unwrap_err();
            assert!(matches!(error, NetError::Forbidden { .. }), "{status} {target}: {error:?}");
            let text = error.to_string();
            assert!(text.contains(why), "{status} {target}: {text}, expected {why}");
        }
    }
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn a_redirect_that_names_no_place_is_no_body() {
    let headers: [&[u8]; 4] =
        [b"", b"x-location: /a\r\n", b"location: /\xff\xfe\r\n", b"location: \xc3\xa4\r\n"];
    let count = headers.len();
    let stub = redirecting(302, headers.map(<[u8]>::to_vec).to_vec()).await;
    let client = client(vec![stub.origin()]);
    for number in 0..count {
        let error = open(&client, &stub, number).await.unwrap_err();
        assert!(matches!(error, NetError::Rejected { status: 302, .. }), "{number}: {error:?}");
    }
    assert_eq!(stub.requests(), count);
}

#[tokio::test]
async fn a_circle_ends_after_five_hops_however_it_is_written() {
    let headers: [&[u8]; 4] = [
        b"location: /0\r\n",
        b"location: \r\n",
        b"location: ?again=1\r\n",
        // Two of them: the first is judged, and the first is followed.
        b"location: /3\r\nlocation: http://127.0.0.1:1/\r\n",
    ];
    for (number, header) in headers.into_iter().enumerate() {
        let mut all = vec![Vec::new(); number];
        all.push(header.to_vec());
        let stub = redirecting(308, all).await;
        let error = open(&client(vec![stub.origin()]), &stub, number).await.unwrap_err();
        assert!(error.to_string().contains("more than 5 redirects"), "{number}: {error}");
        assert_eq!(stub.requests(), 6, "{number}");
    }
}

#[tokio::test]
async fn what_a_redirect_carries_as_a_body_is_not_what_was_asked_for() {
    for status in STATUSES {
        // The second page is no redirect.
        let stub = redirecting(status, vec![b"location: /page\r\n".to_vec()]).await;
        let client = client(vec![stub.origin()]);
        let mut download = client.open(client.check(&stub.url("/0")).unwrap()).await.unwrap();
        let chunk = download.chunk().await.unwrap().unwrap();
        assert_eq!(&chunk[..], b"first page", "{status}");
        assert_eq!(stub.requests(), 2, "{status}");
    }
}
