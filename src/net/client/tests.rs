//! Responsible for: proving against a real socket what is sorted how, and that redirects, sizes and
//! times are held to.
//! Not responsible for: the table of URLs (`net::policy`).

use super::*;
use crate::net::stub::{Answer, Stub};

fn client(stub: &Stub, max_bytes: u64) -> GuardedClient {
    GuardedClient::new(Settings {
        allow: vec![stub.origin()],
        max_bytes,
        timeout: Duration::from_secs(20),
    })
    .unwrap()
}

async fn read(client: &GuardedClient, url: &str) -> Result<Vec<u8>, NetError> {
    let mut download = client.open(client.check(url)?).await?;
    let mut body = Vec::new();
    while let Some(chunk) = download.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The variant, for tables.
fn kind(result: Result<Vec<u8>, NetError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(NetError::Forbidden { .. }) => "forbidden",
        Err(NetError::NotFound { .. }) => "not found",
        Err(NetError::NoSuchHost { .. }) => "no such host",
        Err(NetError::Rejected { .. }) => "rejected",
        Err(NetError::TooLarge { .. }) => "too large",
        Err(NetError::Unavailable { .. }) => "unavailable",
    }
}

#[tokio::test]
async fn a_body_arrives_as_it_was_sent() {
    let stub = Stub::serve(|_| Answer::body(b"\x1f\x8bnot unpacked")).await;
    assert_eq!(read(&client(&stub, 100), &stub.url("/a")).await.unwrap(), b"\x1f\x8bnot unpacked");
}

#[tokio::test]
async fn requests_carry_no_referer_credentials_or_cookies() {
    let stub = Stub::serve(|head| {
        if head.starts_with("GET /first") {
            let headers = "location: /second\r\nset-cookie: a=b\r\ncontent-length: 0\r\n";
            return Answer::status(302, headers, b"");
        }
        Answer::body(head.to_ascii_lowercase().as_bytes())
    })
    .await;
    let head = read(&client(&stub, 10_000), &stub.url("/first?sig=canary")).await.unwrap();
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains("accept-encoding: identity"), "{head}");
    for unwanted in ["referer", "cookie", "authorization", "canary"] {
        assert!(!head.contains(unwanted), "{head}");
    }
}

#[tokio::test]
async fn statuses_are_sorted_by_whose_fault_they_are() {
    let table = [
        (200, "ok"),
        (203, "ok"),
        (204, "rejected"),
        (206, "rejected"),
        (300, "rejected"),
        (302, "rejected"),
        (304, "rejected"),
        (400, "rejected"),
        (401, "rejected"),
        (403, "rejected"),
        (404, "not found"),
        (410, "not found"),
        (408, "unavailable"),
        (425, "unavailable"),
        (429, "unavailable"),
        (451, "rejected"),
        (500, "unavailable"),
        (503, "unavailable"),
        (599, "unavailable"),
    ];
    let stub = Stub::serve(|head| {
        let status = head.split(['/', ' ']).find_map(|word| word.parse().ok()).unwrap_or(500);
        Answer::status(status, "content-length: 0\r\n", b"")
    })
    .await;
    let client = client(&stub, 100);
    for (status, expected) in table {
        let answer = read(&client, &stub.url(&format!("/{status}"))).await;
        assert_eq!(kind(answer), expected, "{status}");
    }
}

#[tokio::test]
async fn five_redirects_are_followed_and_a_sixth_is_not() {
    let stub = Stub::serve(|head| {
        let hop: u32 = head.split(['/', ' ']).find_map(|word| word.parse().ok()).unwrap_or(0);
        if hop == 0 {
            return Answer::body(b"there");
        }
        let headers = format!("location: /{}\r\ncontent-length: 0\r\n", hop - 1);
        Answer::status(307, &headers, b"")
    })
    .await;
    let client = client(&stub, 100);
    assert_eq!(read(&client, &stub.url("/5")).await.unwrap(), b"there");
    let error = read(&client, &stub.url("/6")).await.unwrap_err();
    assert!(error.to_string().contains("more than 5 redirects"), "{error}");
    assert_eq!(stub.requests(), 6 + 6);
}

#[tokio::test]
async fn a_redirect_to_another_place_inside_is_never_followed() {
    let inside = Stub::serve(|_| Answer::body(b"secret")).await;
    let target = inside.url("/latest/meta-data");
    let stub = Stub::serve(move |_| {
        Answer::status(302, &format!("location: {target}\r\ncontent-length: 0\r\n"), b"")
    })
    .await;
    let answer = read(&client(&stub, 100), &stub.url("/a")).await;
    assert_eq!(kind(answer), "forbidden");
    assert_eq!(inside.requests(), 0);
}

#[tokio::test]
async fn a_name_that_resolves_inside_is_never_connected_to() {
    let stub = Stub::serve(|_| Answer::body(b"secret")).await;
    let mut origin = stub.origin();
    origin.host = "localhost".to_owned();
    origin.private = false;
    let settings = Settings { allow: vec![origin], max_bytes: 9, timeout: CONNECT_TIMEOUT };
    let client = GuardedClient::new(settings).unwrap();
    let url = format!("http://localhost:{}/p?sig=canary", stub.port);
    let error = read(&client, &url).await.unwrap_err();
    assert!(matches!(error, NetError::Forbidden { .. }), "{error:?}");
    assert!(error.to_string().contains("loopback"), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
    assert_eq!(stub.requests(), 0);
}

#[tokio::test]
async fn a_body_is_capped_whether_it_announces_its_size_or_not() {
    let stub = Stub::serve(|head| {
        if head.starts_with("GET /chunked") {
            let body = b"6\r\n123456\r\n6\r\n123456\r\n0\r\n\r\n";
            return Answer::status(200, "transfer-encoding: chunked\r\n", body);
        }
        if head.starts_with("GET /until-close") {
            return Answer::status(200, "", &[b'x'; 11]);
        }
        Answer::body(&[b'x'; 11])
    })
    .await;
    for path in ["/announced", "/chunked", "/until-close"] {
        assert_eq!(kind(read(&client(&stub, 10), &stub.url(path)).await), "too large", "{path}");
        assert_eq!(kind(read(&client(&stub, 12), &stub.url(path)).await), "ok", "{path}");
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_body() {
    let stub = Stub::serve(|_| Answer::status(200, "content-length: 10\r\n", b"12345")).await;
    assert_eq!(kind(read(&client(&stub, 100), &stub.url("/a")).await), "unavailable");
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let stub = Stub::serve(|head| {
        if head.starts_with("GET /headers") {
            return Answer::Hang(Vec::new());
        }
        Answer::Hang(b"HTTP/1.1 200 Stub\r\ncontent-length: 10\r\n\r\n12345".to_vec())
    })
    .await;
    let settings = Settings {
        allow: vec![stub.origin()],
        max_bytes: 100,
        timeout: Duration::from_millis(200),
    };
    let client = GuardedClient::new(settings).unwrap();
    for path in ["/headers", "/body"] {
        let error = read(&client, &stub.url(path)).await.unwrap_err();
        assert!(error.to_string().ends_with("it took too long"), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_unavailable_and_the_text_keeps_the_secret() {
    let stub = Stub::serve(|_| Answer::body(b"")).await;
    let (client, url) = (client(&stub, 100), stub.url("/p?sig=canary"));
    let port = stub.port;
    drop(stub);
    // The listener goes with its task; until then a connection may still be accepted and cut.
    let error = read(&client, &url).await.unwrap_err();
    assert!(matches!(error, NetError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}/p")), "{error}");
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[test]
fn look_ups_that_may_pass_are_told_from_names_that_do_not_exist() {
    let glibc = "failed to lookup address information: Temporary failure in name resolution";
    assert!(passing(glibc));
    assert!(passing("failed to lookup address information: Try again"));
    assert!(!passing("failed to lookup address information: Name or service not known"));
}
