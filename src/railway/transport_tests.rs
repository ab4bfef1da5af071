//! The HTTP transport against a real socket: what leaves, and how each way of not being answered is told.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Error, HttpRequest, HttpResponse, HttpTransport, Transport as _, TransportError};

fn request() -> HttpRequest {
    let headers = vec![("project-access-token", "p-token".to_owned()), ("x-source", "o7s".to_owned())];
    HttpRequest { operation: "PollConfigEtag", headers, body: "{\"query\":\"q\"}".into() }
}

/// Sends one request to a server that answers with `answer` and hangs up; also what the server read.
async fn exchange(answer: &[u8]) -> (Result<HttpResponse, TransportError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let transport = HttpTransport::new(&format!("http://127.0.0.1:{port}/graphql/v2")).expect("a good URL");
    let serve = async {
        let (mut socket, _) = listener.accept().await.expect("one connection");
        let mut read = Vec::new();
        while !read.ends_with(b"{\"query\":\"q\"}") {
            assert!(socket.read_buf(&mut read).await.expect("a request") > 0, "the request ended early");
        }
        // A client that has enough hangs up; what it made of it is what the test asks.
        let _ = socket.write_all(answer).await;
        String::from_utf8(read).expect("text")
    };
    tokio::join!(transport.send(request()), serve)
}

#[tokio::test]
async fn a_request_names_itself_and_its_answer_comes_whole() {
    let answer = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\ncontent-length: 2\r\n\r\n{}";
    let (response, read) = exchange(answer).await;
    let response = response.expect("answered");
    assert_eq!((response.status, response.body.as_str(), response.header("retry-after")), (429, "{}", Some("7")));
    assert!(read.starts_with("POST /graphql/v2?source=o7s HTTP/1.1\r\n"), "{read}");
    for header in ["project-access-token: p-token\r\n", "x-source: o7s\r\n", "accept-encoding: gzip"] {
        assert!(read.to_lowercase().contains(header), "{header}: {read}");
    }
    assert!(read.contains(concat!("user-agent: o7s/", env!("CARGO_PKG_VERSION"))), "{read}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_token() {
    let answer = b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(exchange(answer).await.0.expect("answered").status, 307);
}

#[tokio::test]
async fn whatever_breaks_after_the_request_left_may_have_been_carried_out() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"data\":";
    let huge = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffff\r\n{";
    for answer in [&b""[..], &b"SMTP ready\r\n"[..], cut, huge] {
        let (response, _) = exchange(answer).await;
        assert!(matches!(response, Err(TransportError::MaybeSent { .. })), "{response:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_without_end() {
    let mebibytes = 65;
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", mebibytes << 20).into_bytes();
    answer.resize(answer.len() + (mebibytes << 20), b' ');
    let (response, _) = exchange(&answer).await;
    let error = response.expect_err("65 MiB");
    assert!(matches!(&error, TransportError::MaybeSent { reason } if reason.contains("64 MiB")), "{error:?}");
}

#[tokio::test]
async fn a_refused_connection_certainly_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let transport = HttpTransport::new(&format!("http://127.0.0.1:{port}/graphql/v2")).expect("a good URL");
    let error = transport.send(request()).await.expect_err("nobody listens");
    assert!(matches!(&error, TransportError::NotSent { reason } if reason.contains("refused")), "{error:?}");
}

#[test]
fn an_endpoint_must_be_a_web_address_without_a_password() {
    for bad in ["", "backboard.railway.com/graphql/v2", "ftp://x/graphql/v2", "https://me:hunter2@x/graphql/v2"] {
        let error = HttpTransport::new(bad).err().expect("refused");
        assert!(matches!(error, Error::BadEndpoint { .. }) && error.exit_code() == 64, "{error:?}");
        assert!(!error.to_string().contains("hunter2") && error.help().contains("O7S_RAILWAY_URL"));
    }
}

#[test]
fn nothing_secret_is_in_a_debug_text() {
    let response = HttpResponse { status: 200, headers: vec![], body: "hunter2".into() };
    let text = format!("{:?} {response:?}", request());
    assert_eq!(text, "HttpRequest(PollConfigEtag, 13 bytes) HttpResponse(200, 7 bytes)");
}
