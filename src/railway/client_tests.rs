//! When a request is repeated, when it is not, and what becomes of each kind of answer.

use std::time::Duration;

use serde_json::json;

use super::scripted::{Reply, Script, data, refusal};
use super::*;
use crate::tenancy::{EnvironmentId, ProjectId, Secret, ServiceId};

const HTML: &str = "<html><title>Attention required</title></html>";

fn environment() -> EnvironmentId {
    EnvironmentId::parse("env-1").expect("valid")
}

fn project() -> ProjectId {
    ProjectId::parse("project-1").expect("valid")
}

fn etag() -> Reply {
    data(json!({ "environment": { "configEtag": "etag-1" } }))
}

fn committed() -> Reply {
    data(json!({ "environmentPatchCommit": "patch-1" }))
}

fn page(status: u16) -> Reply {
    Reply::Http(status, vec![], HTML.into())
}

/// A 429 of the API itself: with its headers and a GraphQL error.
fn rate_limited(retry_after: &'static str) -> Reply {
    let body = json!({ "errors": [{ "message": "Rate limit exceeded" }] }).to_string();
    Reply::Http(429, vec![("Retry-After", retry_after), ("X-RateLimit-Limit", "1000")], body)
}

async fn poll(replies: impl IntoIterator<Item = Reply>) -> (Result<String, Error>, std::sync::Arc<Script>) {
    let script = Script::new(replies);
    (script.client().poll_etag(&environment()).await, script)
}

async fn commit(replies: impl IntoIterator<Item = Reply>) -> (Result<String, Error>, std::sync::Arc<Script>) {
    let script = Script::new(replies);
    (script.client().commit_patch(&environment(), &Patch::default(), "test").await, script)
}

#[tokio::test(start_paused = true)]
async fn a_read_survives_what_passes_by_itself() {
    let (answer, script) = poll([Reply::NotSent, Reply::Reset, page(502), Reply::Silence, etag()]).await;
    assert_eq!(answer, Ok("etag-1".to_owned()));
    assert_eq!(script.sent().len(), 5);
    // The silent one was given its 30 seconds, and none of the pauses was over ten.
    assert!((30..50).contains(&script.seconds()[4]), "{:?}", script.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_read_gives_up_after_five_tries() {
    let (answer, script) = poll((0..5).map(|_| Reply::Reset)).await;
    let reason = "connection reset".to_owned();
    assert_eq!(answer, Err(Error::Unreachable { operation: "PollConfigEtag", reason }));
    assert_eq!(script.sent().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_read_begins_no_try_after_its_deadline() {
    let script = Script::new((0..4).map(|_| Reply::Silence));
    let client = script.client();
    let start = tokio::time::Instant::now();
    assert!(matches!(client.poll_etag(&environment()).await, Err(Error::Unreachable { .. })));
    assert_eq!(script.sent().len(), 4);
    assert!(start.elapsed() < Duration::from_secs(120 + 30));
}

#[tokio::test(start_paused = true)]
async fn a_mutation_whose_answer_was_lost_is_not_sent_again() {
    for lost in [Reply::Reset, Reply::Silence, page(504), page(200)] {
        let (answer, script) = commit([lost]).await;
        assert!(matches!(answer, Err(Error::Lost { operation: "CommitPatch", .. })), "{answer:?}");
        assert_eq!(script.sent().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_mutation_that_certainly_did_not_run_is_sent_again() {
    for (unsent, seconds) in [(Reply::NotSent, 0..1), (rate_limited("20"), 20..22), (page(403), 60..61)] {
        let (answer, script) = commit([unsent, committed()]).await;
        assert_eq!(answer, Ok("patch-1".to_owned()));
        assert!(seconds.contains(&script.seconds()[1]), "{:?}", script.seconds());
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_pauses_the_whole_client_and_never_shorter_than_told() {
    let script = Script::new([rate_limited("20"), etag(), etag()]);
    let client = script.client();
    let (first, second) = (environment(), environment());
    let late = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.poll_etag(&second).await
    };
    let (one, other) = tokio::join!(client.poll_etag(&first), late);
    assert_eq!((one, other), (Ok("etag-1".to_owned()), Ok("etag-1".to_owned())));
    assert!(script.seconds()[1..].iter().all(|after| (20..22).contains(after)), "{:?}", script.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_past_the_deadline_is_told_at_once() {
    let (answer, script) = poll([rate_limited("1800")]).await;
    let error = answer.expect_err("half an hour is too long");
    let Error::RateLimited { again_in, .. } = &error else { panic!("{error:?}") };
    assert!((1800..1802).contains(&again_in.as_secs()));
    assert_eq!((error.exit_code(), script.sent().len()), (7, 1));
}

#[tokio::test(start_paused = true)]
async fn a_spent_allowance_lets_nothing_leave() {
    let headers = vec![("x-ratelimit-limit", "1000"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "600")];
    let Reply::Http(status, _, body) = etag() else { unreachable!("it is HTTP") };
    let script = Script::new([Reply::Http(status, headers, body)]);
    let client = script.client();
    assert!(client.poll_etag(&environment()).await.is_ok());
    assert!(matches!(client.poll_etag(&environment()).await, Err(Error::RateLimited { .. })));
    assert_eq!(client.requests().total(), 1);
}

#[tokio::test(start_paused = true)]
async fn times_in_headers_are_read_in_every_form_in_use() {
    let date = "Tue, 24 Nov 2026 10:00:00 GMT";
    // 2026-11-24T10:00:30Z, told in four ways.
    for at in ["30", "Tue, 24 Nov 2026 10:00:30 GMT", "1795514430", "1795514430000"] {
        let body = json!({ "errors": [{ "message": "slow down" }] }).to_string();
        let told = Reply::Http(429, vec![("date", date), ("retry-after", at)], body);
        let (answer, script) = poll([told, etag()]).await;
        assert!(answer.is_ok(), "{at}: {answer:?}");
        assert!((30..32).contains(&script.seconds()[1]), "{at}: {:?}", script.seconds());
    }
}

#[tokio::test(start_paused = true)]
async fn an_edge_that_stays_closed_is_an_error_of_its_own() {
    let (answer, script) = poll([page(403), page(403)]).await;
    let error = answer.expect_err("blocked");
    assert!(matches!(error, Error::EdgeBlock { status: 403, .. }), "{error:?}");
    assert_eq!(script.seconds(), [0, 60]);
    let (answer, _) = poll([Reply::Http(429, vec![], "{\"errors\":[{\"message\":\"x\"}]}".into()), etag()]).await;
    assert!(answer.is_ok(), "a 429 without rate headers is the edge's as well");
}

#[tokio::test(start_paused = true)]
async fn each_refusal_is_told_apart_by_its_text() {
    for (message, is) in [
        ("Not Authorized", 77),
        ("Project Token not found", 77),
        ("Two Factor Authentication Required", 77),
        ("You are creating volumes too quickly. Try again in a second", 7),
        ("Service deployment rate limit exceeded", 7),
        ("Volume limit reached for this plan. Upgrade to add more", 5),
        ("A service named \"x\" already exists in this project", 1),
        ("ServiceInstance not found", 1),
        ("Invalid input", 1),
    ] {
        let (answer, script) = commit([refusal(message, None)]).await;
        let error = answer.expect_err("refused");
        assert_eq!((error.exit_code(), script.sent().len()), (is, 1), "{error:?}");
        assert!(error.to_string().contains(message) && !error.help().is_empty());
    }
    let (answer, _) = commit([refusal("A service named \"x\" already exists in this project", None)]).await;
    assert!(matches!(answer, Err(Error::NameTaken { .. })));
    let (answer, _) = commit([refusal("ServiceInstance not found", None)]).await;
    assert!(matches!(answer, Err(Error::NotFound { .. })));
    let (answer, _) = commit([refusal("Invalid input", None)]).await;
    assert_eq!(
        answer.err().map(|e| e.to_string()),
        Some("Railway refused CommitPatch: Invalid input (trace t-1)".into())
    );
}

#[tokio::test(start_paused = true)]
async fn railways_shrug_is_no_refusal() {
    let shrug = || refusal("Problem processing request", None);
    let (answer, script) = poll([shrug(), etag()]).await;
    assert_eq!((answer.is_ok(), script.sent().len()), (true, 2));
    let (answer, _) = commit([shrug()]).await;
    assert!(matches!(answer, Err(Error::Lost { .. })), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_endpoint_and_a_changed_schema_are_told_without_repeating_the_answer() {
    for nonsense in [page(404), data(json!({ "environment": { "configEtag": 7, "secret": "hunter2" } }))] {
        let (answer, script) = poll([nonsense]).await;
        let error = answer.expect_err("no etag in it");
        assert!(matches!(error, Error::BadAnswer { .. }), "{error:?}");
        assert!(!format!("{error:?}{error}").contains("hunter2"));
        assert_eq!(script.sent().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn each_token_travels_in_its_own_header() {
    for (token, name, value) in [
        (Token::Project(Secret::new("p-token")), "project-access-token", "p-token"),
        (Token::Api(Secret::new("a-token")), "authorization", "Bearer a-token"),
    ] {
        let script = Script::new([etag()]);
        let config = ClientConfig::new(token, 1);
        assert!(!format!("{config:?}").contains("-token\""), "{config:?}");
        let answer = script.client_with(config).poll_etag(&environment()).await;
        assert!(answer.is_ok());
        let sent = script.sent();
        let of = |name: &str| sent[0].headers.iter().filter(|h| h.0 == name).map(|h| h.1.clone()).collect::<Vec<_>>();
        assert_eq!(of(name), [value]);
        assert_eq!(of("x-source"), ["o7s"]);
        assert_eq!(of("user-agent"), [concat!("o7s/", env!("CARGO_PKG_VERSION"))]);
        assert_eq!(of("authorization").len() + of("project-access-token").len(), 1);
        assert_eq!(sent[0].body["operationName"], "PollConfigEtag");
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_that_cannot_be_a_token_is_not_sent() {
    for text in ["", "two words", "line\n"] {
        let script = Script::new([]);
        let client = script.client_with(ClientConfig::new(Token::Project(Secret::new(text)), 1));
        let error = client.poll_etag(&environment()).await.expect_err("no token");
        assert!(matches!(error, Error::Unauthorized { .. }) && error.help().contains("RAILWAY_TOKEN"), "{error:?}");
        assert_eq!(client.requests(), Requests::default());
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_with_their_repeats() {
    let script = Script::new([Reply::Reset, etag(), committed()]);
    let client = script.client();
    let _ = client.poll_etag(&environment()).await;
    let _ = client.commit_patch(&environment(), &Patch::default(), "").await;
    let by_operation = [("CommitPatch", 1), ("PollConfigEtag", 2)].into();
    assert_eq!(client.requests(), Requests { reads: 2, mutations: 1, by_operation });
}

fn new_services(count: usize) -> Vec<NewService> {
    (1..=count).map(|n| NewService { name: format!("shared-{n}"), marker: format!("o7s1:00:shared-{n}") }).collect()
}

async fn create(count: usize, reply: Reply) -> Result<Vec<ServiceId>, BatchFailure> {
    let script = Script::new([reply]);
    script.client().create_services(&project(), &environment(), &new_services(count)).await
}

#[tokio::test(start_paused = true)]
async fn created_ids_come_in_the_order_asked_whatever_the_order_answered() {
    let made = create(3, data(json!({ "a2": { "id": "c" }, "a0": { "id": "a" }, "a1": { "id": "b" } }))).await;
    let ids = made.expect("made").iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(ids, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_alias_tells_how_many_ran_before_it() {
    let failure = create(3, refusal("A service named x already exists in this project", Some("a1"))).await;
    let failure = failure.expect_err("taken");
    assert!(matches!(failure.error, Error::NameTaken { operation: "CreateServices", .. }), "{failure:?}");
    assert_eq!((failure.ran, failure.failed), (1, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn with_an_unknown_outcome_nothing_is_said_to_have_run() {
    let shrug = json!({ "message": "Problem processing request" });
    let blamed = json!({ "message": "Problem processing request", "path": ["a1"] });
    let both = json!({ "data": null, "errors": [shrug, blamed] }).to_string();
    let unknown = [
        Reply::Http(200, vec![], both),
        Reply::Reset,
        page(502),
        refusal("Problem processing request", None),
        data(json!({ "a0": { "id": "a" } })),
        data(json!({ "a0": { "id": "a" }, "a1": { "id": "" }, "a2": { "id": "c" } })),
    ];
    for reply in unknown {
        let failure = create(3, reply).await.expect_err("not three ids");
        assert!(matches!(failure.error, Error::Lost { .. }), "{failure:?}");
        assert_eq!((failure.ran, failure.failed), (0, None));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_to_create_needs_no_request() {
    let script = Script::new([]);
    let made = script.client().create_volumes(&project(), &environment(), &[]).await;
    assert_eq!((made, script.sent().len()), (Ok(vec![]), 0));
}
