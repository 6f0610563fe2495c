//! Tests of the server before a pipeline runs behind it: everything but the answers.

mod hostile;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::routes::{ROUTES, Verb};
use super::*;
use crate::config::secret::Secret;

const TOKEN: &str = "correct-horse-battery";

fn settings(token: Option<&str>) -> Settings {
    let token = token.map(|token| Secret::from(token.to_owned()));
    Settings { listen: SocketAddr::from(([127, 0, 0, 1], 0)), token, ..Settings::default() }
}

fn start(token: Option<&str>) -> ApiServer {
    ApiServer::start(&settings(token), &PipelineName::from("sales")).unwrap()
}

/// Sends a request as it is, and returns the status and the body. Does not wait for the end of
/// the connection: a server need not read what it has refused.
async fn talk(server: &ApiServer, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>())
            });
            if body.len() >= length.unwrap().unwrap() {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return (status, body.to_owned());
            }
        }
        let count = stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "the answer broke off: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..count]);
    }
}

async fn ask(server: &ApiServer, method: &str, path: &str, headers: &str) -> (u16, Value) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
    );
    let (status, body) = talk(server, &request).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

#[actix_web::test]
async fn a_pipeline_that_is_starting_lives_and_is_not_ready() {
    let server = start(None);
    assert_eq!(ask(&server, "GET", "/livez", "").await, (200, json!({"alive": true})));
    let (status, ready) = ask(&server, "GET", "/readyz", "").await;
    assert_eq!(status, 503);
    assert_eq!(ready["started"], false);
    assert_eq!(ready["pipeline"], "sales");
    for path in ["/metrics", "/api/v1/manifests", "/api/v1/tables/x", "/api/v1/dead-letters"] {
        let (status, answer) = ask(&server, "GET", path, "").await;
        assert_eq!(status, 503, "{path}");
        assert_eq!(answer, json!({"error": "pipeline sales is being started"}), "{path}");
    }
    server.stop().await;
}

#[actix_web::test]
async fn errors_are_json_with_their_status() {
    let server = start(None);
    let json = "Content-Type: application/json\r\n";
    let large = format!("{json}Content-Length: 70000\r\n");
    let table = [
        ("GET", "/nothing", "", 404),
        ("GET", "/api/v1/manifests/a/b/c", "", 404),
        ("POST", "/api/v1/manifests", "", 405),
        ("GET", "/api/v1/dead-letters/replay", "", 405),
        ("GET", "/api/v1/manifests?phase=shut", "", 400),
        ("GET", "/api/v1/manifests?fase=open", "", 400),
        ("GET", "/api/v1/tables/x?limit=-1", "", 400),
        ("POST", "/api/v1/manifests/m/force", "", 415),
        ("POST", "/api/v1/manifests/m/force", json, 400),
        ("POST", "/api/v1/dead-letters/discard", large.as_str(), 413),
    ];
    for (method, path, headers, wanted) in table {
        let (status, answer) = ask(&server, method, path, headers).await;
        assert_eq!(status, wanted, "{method} {path}: {answer}");
        assert!(answer["error"].is_string(), "{method} {path}: {answer}");
    }
    server.stop().await;
}

#[actix_web::test]
async fn a_token_is_asked_for_and_never_shown() {
    let server = start(Some(TOKEN));
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let wrong = "Authorization: Bearer incorrect-horse-battery\r\n";
    for (headers, wanted) in [("", 401), (wrong, 403), (right.as_str(), 200)] {
        let (status, answer) = ask(&server, "GET", "/api/v1/openapi.json", headers).await;
        assert_eq!(status, wanted, "{headers}");
        assert!(!answer.to_string().contains(TOKEN));
    }
    assert_eq!(ask(&server, "GET", "/livez", "").await.0, 200);
    server.stop().await;
}

#[actix_web::test]
async fn the_description_has_every_route_and_refers_to_nothing_that_is_not_in_it() {
    let server = start(None);
    let (status, described) = ask(&server, "GET", "/api/v1/openapi.json", "").await;
    assert_eq!(status, 200);
    assert!(described["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    for route in ROUTES {
        let method = if route.verb == Verb::Ask { "get" } else { "post" };
        let operation = &described["paths"][route.path][method];
        assert_eq!(operation["summary"], route.summary, "{}", route.path);
        assert_eq!(operation["security"].is_array(), !route.open, "{}", route.path);
    }
    let mut wanted = BTreeSet::new();
    references(&described, &mut wanted);
    assert!(wanted.len() > 10, "{wanted:?}");
    for name in wanted {
        assert!(described["components"]["schemas"][&name].is_object(), "{name} is not described");
    }
    server.stop().await;
}

/// Names of forms that are referred to anywhere below.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            let name = object.get("$ref").and_then(Value::as_str);
            found.extend(name.and_then(|name| name.rsplit('/').next()).map(str::to_owned));
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[actix_web::test]
async fn a_taken_port_is_named() {
    let first = start(None);
    let taken = Settings { listen: first.local_addr(), ..settings(None) };
    let refused = ApiServer::start(&taken, &PipelineName::from("sales"));
    let why = refused.err().unwrap().to_string();
    let address = first.local_addr().to_string();
    assert!(why.contains(&address) && why.contains("api.listen"), "{why}");
    first.stop().await;
}

#[test]
fn no_listing_is_without_a_limit() {
    let table = [(None, 50), (Some(0), MOST_LINES), (Some(7), 7), (Some(u32::MAX), MOST_LINES)];
    for (wanted, lines) in table {
        assert_eq!(most(wanted, 50), lines, "{wanted:?}");
    }
}
