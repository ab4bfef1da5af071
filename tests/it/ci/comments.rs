//! A stand-in on 127.0.0.1 for what the examples use of GitHub's and GitLab's APIs: one list of comments, and the
//! artifact that GitLab keeps of the scheduled job.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, patch, put};
use axum::{Json, Router};
use serde_json::{Value, json};

#[derive(Clone, Default)]
struct Kept {
    comments: Arc<Mutex<Vec<String>>>,
    artifact: Arc<Mutex<String>>,
}

pub struct Comments {
    kept: Kept,
    port: u16,
    _server: tokio::task::JoinSet<()>,
}

impl Comments {
    pub async fn serve() -> Comments {
        let kept = Kept::default();
        let list = get(list).post(add);
        let routes = Router::new()
            .route("/repos/shop/fleet/issues/3/comments", list.clone())
            .route("/repos/shop/fleet/issues/comments/{id}", patch(edit))
            .route("/projects/5/merge_requests/7/notes", list)
            .route("/projects/5/merge_requests/7/notes/{id}", put(edit))
            .route("/projects/5/jobs/artifacts/main/raw/live.json", get(artifact))
            .with_state(kept.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, routes).await.expect("serves") });
        Comments { kept, port, _server: server }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn all(&self) -> Vec<String> {
        self.kept.comments.lock().expect("whole").clone()
    }

    pub fn keep_artifact(&self, text: String) {
        *self.kept.artifact.lock().expect("whole") = text;
    }
}

fn is_allowed(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|have| have == value);
    is("authorization", "Bearer ghs") || is("private-token", "glpat")
}

async fn list(State(kept): State<Kept>, headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    if !is_allowed(&headers) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let all = kept.comments.lock().expect("whole");
    Ok(Json(all.iter().enumerate().map(|(id, body)| json!({ "id": id, "body": body })).collect()))
}

/// The body's own type is not told to curl by the GitHub example, as GitHub does not ask for it.
fn text_of(body: &str) -> Result<String, StatusCode> {
    let body: Value = serde_json::from_str(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    body["body"].as_str().map(str::to_owned).ok_or(StatusCode::UNPROCESSABLE_ENTITY)
}

async fn add(State(kept): State<Kept>, headers: HeaderMap, body: String) -> Result<StatusCode, StatusCode> {
    if !is_allowed(&headers) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    kept.comments.lock().expect("whole").push(text_of(&body)?);
    Ok(StatusCode::CREATED)
}

async fn edit(
    State(kept): State<Kept>,
    Path(id): Path<usize>,
    headers: HeaderMap,
    body: String,
) -> Result<StatusCode, StatusCode> {
    if !is_allowed(&headers) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    *kept.comments.lock().expect("whole").get_mut(id).ok_or(StatusCode::NOT_FOUND)? = text_of(&body)?;
    Ok(StatusCode::OK)
}

async fn artifact(State(kept): State<Kept>) -> String {
    kept.artifact.lock().expect("whole").clone()
}
