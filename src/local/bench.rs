//! What the tests of this room share: a Railway in memory with a project in it, and a short way to ask.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use super::gateway::{Headers, LocalResponse};
use super::in_process::InProcess;
use super::world::Plan;

pub const MOUNT: &str = "/var/lib/postgresql/data";
pub const IMAGE: &str = "ghcr.io/railwayapp-templates/postgres-ssl:17";

pub struct Bench {
    pub railway: InProcess,
    pub now: DateTime<Utc>,
    pub project: String,
    pub environment: String,
}

impl Bench {
    pub fn new(plan: Plan) -> Bench {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time");
        let railway = InProcess::new(plan, 7, now);
        let mut bench = Bench { railway, now, project: String::new(), environment: String::new() };
        let made = bench.ok(
            "mutation M($in: ProjectCreateInput!) { projectCreate(input: $in) { id baseEnvironmentId } }",
            json!({ "in": { "name": "fleet" } }),
        );
        bench.project = text(&made, "/projectCreate/id");
        bench.environment = text(&made, "/projectCreate/baseEnvironmentId");
        bench
    }

    pub fn wait(&mut self, seconds: i64) {
        self.now += Duration::seconds(seconds);
    }

    pub fn send(&mut self, headers: &Headers, query: &str, variables: &Value) -> LocalResponse {
        let body = json!({ "query": query, "variables": variables }).to_string();
        self.railway.handle(self.now, headers, &body)
    }

    /// The whole body of an answer to the account token.
    pub fn ask(&mut self, query: &str, variables: Value) -> Value {
        let headers = self.railway.headers();
        let response = self.send(&headers, query, &variables);
        serde_json::from_str(&response.body).expect("a JSON body")
    }

    /// The data of an answer that must hold no error.
    pub fn ok(&mut self, query: &str, variables: Value) -> Value {
        let mut body = self.ask(query, variables);
        assert_eq!(body.get("errors"), None, "{query}");
        body["data"].take()
    }

    /// The first error's message.
    pub fn refused(&mut self, query: &str, variables: Value) -> String {
        let body = self.ask(query, variables);
        text(&body, "/errors/0/message")
    }

    pub fn service(&mut self, name: &str) -> String {
        let input = json!({
            "projectId": self.project, "environmentId": self.environment, "name": name,
            "variables": { "O7S_OWNER": "o7s1:x:y" },
        });
        let made = self.ok(CREATE_SERVICE, json!({ "input": input }));
        text(&made, "/serviceCreate/id")
    }

    pub fn volume_input(&self, service: Option<&str>) -> Value {
        json!({ "input": {
            "projectId": self.project, "environmentId": self.environment, "serviceId": service, "mountPath": MOUNT,
        }})
    }

    pub fn volume(&mut self, service: &str) -> String {
        let input = self.volume_input(Some(service));
        let made = self.ok(CREATE_VOLUME, input);
        text(&made, "/volumeCreate/id")
    }

    pub fn commit(&mut self, patch: Value) -> Value {
        let variables = json!({ "e": self.environment, "p": patch });
        self.ask(COMMIT, variables)
    }

    /// A whole database service, configured and on its way.
    pub fn database(&mut self, name: &str) -> (String, String) {
        let service = self.service(name);
        let volume = self.volume(&service);
        let body = self.commit(json!({ "services": { &service: database_config() } }));
        assert_eq!(body.get("errors"), None);
        (service, volume)
    }

    /// Status and instance status of the newest deployment, or `None`.
    pub fn status(&mut self, service: &str) -> Option<(String, Option<String>)> {
        let data = self.ok(
            "query Q($e: String!, $s: String!) { serviceInstance(environmentId: $e, serviceId: $s) {
                latestDeployment { status instances { status } } } }",
            json!({ "e": self.environment, "s": service }),
        );
        let latest = data.pointer("/serviceInstance/latestDeployment").filter(|latest| !latest.is_null())?;
        let instance = latest.pointer("/instances/0/status").and_then(Value::as_str).map(str::to_owned);
        Some((text(latest, "/status"), instance))
    }

    pub fn deployments(&mut self, service: &str) -> usize {
        let at = super::world::At { environment: self.environment.clone(), service: service.to_owned() };
        let now = self.now;
        self.railway.world(now).deployments_of(&at)
    }

    pub fn config(&mut self, decrypt: bool) -> Value {
        let data = self.ok(
            "query Q($e: String!, $d: Boolean!) { environment(id: $e) { config(decryptVariables: $d) } }",
            json!({ "e": self.environment, "d": decrypt }),
        );
        data["environment"]["config"].clone()
    }

    pub fn etag(&mut self) -> String {
        let data =
            self.ok("query Q($e: String!) { environment(id: $e) { configEtag } }", json!({ "e": self.environment }));
        text(&data, "/environment/configEtag")
    }
}

pub fn database_config() -> Value {
    json!({
        "source": { "image": IMAGE },
        "variables": { "POSTGRES_PASSWORD": { "value": "hunter2" } },
        "networking": { "tcpProxies": { "5432": {} } },
        "isCreated": true,
    })
}

pub const CREATE_SERVICE: &str =
    "mutation CreateService($input: ServiceCreateInput!) { serviceCreate(input: $input) { id name } }";
pub const CREATE_VOLUME: &str =
    "mutation CreateVolume($input: VolumeCreateInput!) { volumeCreate(input: $input) { id name } }";
pub const COMMIT: &str = "mutation Commit($e: String!, $p: EnvironmentConfig!) {
    environmentPatchCommit(environmentId: $e, patch: $p) }";

pub fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {pointer} in {value}"))
        .to_owned()
}
