//! Requests that want more than they may: without the token, by other paths, too large, too slow.

use super::*;

/// Asks under a token, with these header lines, and expects this status.
type Case = (&'static str, &'static str, &'static str, u16);

/// Everything but the right token in the right place.
const STRANGERS: &[Case] = &[
    ("GET", "/api/v1/manifests", "", 401),
    ("GET", "/api/v1/manifests", "Authorization:\r\n", 401),
    ("GET", "/api/v1/manifests", "Authorization: correct-horse-battery\r\n", 401),
    ("GET", "/api/v1/manifests", "Authorization: Basic Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5\r\n", 401),
    ("GET", "/api/v1/manifests", "Authorization: Bearer\r\n", 401),
    ("GET", "/api/v1/manifests", "Authorization: Bearer \r\n", 401),
    ("GET", "/api/v1/manifests", "Authorization: Bearer c\r\n", 403),
    ("GET", "/api/v1/manifests", "Authorization: Bearer correct-horse-batter\r\n", 403),
    ("GET", "/api/v1/manifests", "Authorization: Bearer correct-horse-battery2\r\n", 403),
    ("GET", "/api/v1/manifests", "Authorization: Bearer CORRECT-HORSE-BATTERY\r\n", 403),
    ("GET", "/api/v1/manifests", "Authorization: Bearer correct-horse-battery, x\r\n", 403),
    ("GET", "/api/v1/manifests", "X-Api-Key: correct-horse-battery\r\n", 401),
    ("GET", "/api/v1/manifests", "Cookie: token=correct-horse-battery\r\n", 401),
    ("GET", "/api/v1/manifests?token=correct-horse-battery", "", 401),
    ("GET", "/api/v1/manifests", "X-Forwarded-For: 127.0.0.1\r\n", 401),
    ("GET", "/api/v1/manifests", "Forwarded: for=127.0.0.1\r\n", 401),
    ("GET", "/api/v1/manifests", "X-Original-URL: /livez\r\n", 401),
    ("GET", "/api/v1/manifests", "X-Http-Method-Override: HEAD\r\n", 401),
    // Everything is asked for the token before anybody looks at what it is.
    ("HEAD", "/api/v1/manifests", "", 401),
    ("OPTIONS", "/api/v1/manifests", "Origin: https://evil.example\r\n", 401),
    ("TRACE", "/api/v1/manifests", "", 401),
    ("PURGE", "/api/v1/manifests", "", 401),
    ("POST", "/api/v1/manifests/m/force", "Content-Type: application/json\r\n", 401),
    ("POST", "/api/v1/dead-letters/discard", "Content-Type: text/plain\r\n", 401),
    ("GET", "/", "", 401),
    ("GET", "/nothing", "", 401),
    // Paths that are open only look like these.
    ("GET", "/livez/", "", 401),
    ("GET", "//livez", "", 401),
    ("GET", "/LIVEZ", "", 401),
    ("GET", "/%6civez", "", 401),
    ("GET", "/livez%00", "", 401),
    ("GET", "/livez;/api/v1/manifests", "", 401),
    ("GET", "/livez/../api/v1/manifests", "", 401),
    ("GET", "/livez%2f..%2fapi%2fv1%2fmanifests", "", 401),
    ("GET", "/./livez", "", 401),
    ("GET", "/api/v1/manifests/..%2f..%2f..%2flivez", "", 401),
    ("GET", "/metrics/../api/v1/tables", "", 401),
    ("GET", "http://localhost/api/v1/manifests", "", 401),
    ("GET", "http://evil.example/livez/x", "", 401),
];

#[actix_web::test]
async fn nobody_gets_in_without_the_token_whatever_is_asked_and_how() {
    let server = start(Some(TOKEN));
    for (method, path, headers, wanted) in STRANGERS {
        // A HEAD is answered without the body that it announces.
        let asked = if *method == "HEAD" {
            head(&server, path).await
        } else {
            let (status, answer) = ask(&server, method, path, headers).await;
            assert!(answer["error"].is_string(), "{method} {path} {headers}: {answer}");
            assert!(!answer.to_string().contains(TOKEN), "{answer}");
            status
        };
        assert_eq!(asked, *wanted, "{method} {path} {headers}");
    }
    server.stop().await;
}

async fn head(server: &ApiServer, path: &str) -> u16 {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[actix_web::test]
async fn a_page_in_a_browser_reaches_nothing_and_changes_nothing() {
    let server = start(None);
    let from = |host: &str, rest: &str| format!("{rest}Host: {host}\r\nConnection: close\r\n\r\n");
    let get = "GET /api/v1/manifests HTTP/1.1\r\n";
    let table = [
        // Its own name, pointed at this machine.
        (from("evil.example:7410", get), 403),
        (from("localhost.evil.example", get), 403),
        (from("127.0.0.1.evil.example", get), 403),
        (from("localhost:7410@evil.example", get), 403),
        (from("", get), 403),
        // What a form or a script may send without asking first.
        (from("localhost", "POST /api/v1/manifests/m/force HTTP/1.1\r\n"), 415),
        (
            from(
                "localhost",
                "POST /api/v1/manifests/m/force HTTP/1.1\r\nContent-Type: text/plain\r\n",
            ),
            415,
        ),
        // The asking itself.
        (
            from(
                "localhost",
                "OPTIONS /api/v1/manifests/m/force HTTP/1.1\r\nOrigin: https://evil.example\r\n\
                 Access-Control-Request-Method: POST\r\n",
            ),
            405,
        ),
    ];
    for (request, wanted) in table {
        let (status, answer) = talk(&server, &request).await;
        assert_eq!(status, wanted, "{request}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control"), "{answer}");
    }
    server.stop().await;
}

#[actix_web::test]
async fn what_is_too_large_is_refused_while_it_comes() {
    let server = start(None);
    let json = "Content-Type: application/json\r\n";
    let force = "/api/v1/manifests/m/force";
    let announced = format!("{json}Content-Length: 99999999999999\r\n");
    assert_eq!(ask(&server, "POST", force, &announced).await.0, 413);

    // In pieces whose sum nobody has announced.
    let piece = format!("3400\r\n{}\r\n", "x".repeat(0x3400));
    let body = format!("{}0\r\n\r\n", piece.repeat(5));
    let request = format!(
        "POST {force} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{json}\
         Transfer-Encoding: chunked\r\n\r\n{body}"
    );
    assert_eq!(talk(&server, &request).await.0, 413);

    let many = "X-Header: x\r\n".repeat(200);
    assert_eq!(ask(&server, "GET", "/livez", &many).await.0, 431);
    let deep = format!("{json}Content-Length: 20000\r\n");
    let request = format!(
        "POST {force} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{deep}\r\n{}",
        "[".repeat(20_000)
    );
    assert_eq!(talk(&server, &request).await.0, 400);
    server.stop().await;
}

#[actix_web::test]
async fn requests_that_two_servers_read_in_two_ways_are_refused() {
    let server = start(None);
    let table = [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Host: evil.example\r\n",
        "X-Header : x\r\n",
    ];
    for headers in table {
        let json = "Content-Type: application/json\r\n";
        let (status, answer) =
            ask(&server, "POST", "/api/v1/manifests/m/force", &format!("{json}{headers}")).await;
        assert_eq!(status, 400, "{headers}: {answer}");
    }
    server.stop().await;
}

#[actix_web::test]
async fn whoever_is_too_slow_is_told_so_and_holds_nobody_up() {
    // The server looks at its clock every half second only.
    let soon = Duration::from_secs(1);
    let patience = Patience { head: soon, body: soon };
    let pipeline = PipelineName::from("sales");
    let server = ApiServer::start_with(&settings(None), &pipeline, patience).unwrap();
    let json = "Content-Type: application/json\r\nContent-Length: 10\r\n";
    let post =
        format!("POST /api/v1/manifests/m/force HTTP/1.1\r\nHost: localhost\r\n{json}\r\n{{");
    // The head never ends, the body never ends.
    for slow in ["GET /api/v1/mani", &post] {
        let (status, _) = talk(&server, slow).await;
        assert_eq!(status, 408, "{slow}");
    }
    let idle = TcpStream::connect(server.local_addr()).await.unwrap();
    assert_eq!(ask(&server, "GET", "/livez", "").await.0, 200);
    drop(idle);
    server.stop().await;
}
