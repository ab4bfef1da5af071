//! Every operation a client of Railway is known to need, sent to the local Railway over HTTP, each effect read back.
//! (`railway_ops/` holds the documents; those for usage, billing and metrics and the subscriptions are not among them.)

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::local::Railway;
use crate::support::{eventually, execute};

const IMAGE: &str = "ghcr.io/railwayapp-templates/postgres-ssl:17";
const MOUNT: &str = "/var/lib/postgresql/data";

/// A client that knows the documents by name and remembers which were sent.
struct Client<'r> {
    railway: &'r Railway,
    sent: BTreeSet<String>,
    /// A header instead of the account's token.
    token: Option<(&'static str, String)>,
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/railway_ops")
}

impl Client<'_> {
    async fn ask(&mut self, name: &str, variables: Value) -> Value {
        self.sent.insert(name.to_owned());
        let query = std::fs::read_to_string(folder().join(format!("{name}.graphql"))).expect("a document");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client.post(&self.railway.exports["O7S_RAILWAY_URL"]);
        let request = match &self.token {
            Some((header, token)) => request.header(*header, token),
            None => request.bearer_auth(&self.railway.exports["RAILWAY_API_TOKEN"]),
        };
        // No operation name: requests are told apart by their document.
        let request = request.json(&json!({ "query": query, "variables": variables }));
        loop {
            let answer = request.try_clone().expect("no stream").send().await.expect("an answer");
            match answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok()) {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => return answer.json().await.expect("JSON"),
            }
        }
    }

    async fn ok(&mut self, name: &str, variables: Value) -> Value {
        let mut body = self.ask(name, variables).await;
        assert_eq!(body.get("errors"), None, "{name}");
        body["data"].take()
    }

    /// The one field of the answer.
    async fn get(&mut self, name: &str, variables: Value) -> Value {
        let data = self.ok(name, variables).await;
        data.as_object().expect("an object").values().next().expect("a field").clone()
    }

    async fn refused(&mut self, name: &str, variables: Value) -> String {
        text(&self.ask(name, variables).await, "/errors/0/message")
    }
}

fn text(value: &Value, pointer: &str) -> String {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no text at {pointer} in {value}")).to_owned()
}

fn nodes(value: &Value) -> Vec<Value> {
    let edges = value["edges"].as_array().unwrap_or_else(|| panic!("no edges in {value}"));
    edges.iter().map(|edge| edge["node"].clone()).collect()
}

/// What the scenario made, by which the rest is addressed.
struct Place {
    workspace: Value,
    project: String,
    environment: String,
}

impl Place {
    fn e(&self) -> Value {
        json!({ "environmentId": self.environment })
    }

    fn es(&self, service: &str) -> Value {
        json!({ "environmentId": self.environment, "serviceId": service })
    }

    fn pes(&self, service: &str) -> Value {
        json!({ "projectId": self.project, "environmentId": self.environment, "serviceId": service })
    }
}

#[tokio::test]
async fn every_operation_is_answered_and_has_its_effect() {
    let railway = Railway::up(&[]);
    let mut client = Client { railway: &railway, sent: BTreeSet::new(), token: None };
    let place = begin(&mut client).await;
    let services = create(&mut client, &place).await;
    configure(&mut client, &place, &services).await;
    variables(&mut client, &place, &services[1]).await;
    staged(&mut client, &place, &services[1]).await;
    change_sets(&mut client, &place).await;
    addresses(&mut client, &place, &services).await;
    deployments(&mut client, &place, &services[0]).await;
    backups(&mut client, &place, &services[0]).await;
    volumes(&mut client, &place, &services).await;
    tokens(&mut client, &place).await;
    end(&mut client, &place, &services).await;
    let all = std::fs::read_dir(folder()).expect("the documents").flatten();
    let name = |entry: std::fs::DirEntry| entry.path().file_stem().map(|name| name.to_string_lossy().into_owned());
    let all: BTreeSet<String> = all.filter_map(name).collect();
    assert_eq!(all.difference(&client.sent).collect::<Vec<_>>(), Vec::<&String>::new(), "never sent");
}

async fn begin(client: &mut Client<'_>) -> Place {
    let me = client.get("ProbeAccountIdentity", json!({})).await;
    let workspace = me["workspaces"][0]["id"].clone();
    let reach = client.get("ProbeTokenReach", json!({})).await;
    assert_eq!(reach["workspaces"][0]["id"], workspace);
    let made = client.get("CreateProject", json!({ "input": { "name": "fleet", "workspaceId": workspace } })).await;
    let (project, environment) = (text(&made, "/id"), text(&made, "/baseEnvironmentId"));
    assert_eq!(nodes(&made["environments"])[0]["id"], made["baseEnvironmentId"]);
    let listed = client.get("ListWorkspaceProjects", json!({ "workspaceId": workspace })).await;
    assert_eq!(nodes(&listed)[0]["name"], "fleet");
    let budget = client.get("ReadApiBudget", json!({ "workspaceId": workspace })).await;
    assert_eq!(budget["plan"], "PRO");
    assert!(budget["apiTokenRateLimit"]["remainingPoints"].as_u64().is_some_and(|left| left < 10_000), "{budget}");
    let regions = client.get("ListRegions", json!({ "projectId": project })).await;
    assert_eq!(regions.as_array().map(Vec::len), Some(4));
    assert_eq!(client.get("ReadPlatformStatus", json!({})).await["isStable"], true);
    let rule = json!({ "workspaceId": workspace, "projectId": project, "eventTypes": ["Deployment.failed"],
        "channelConfigs": [{ "type": "webhook", "url": "https://example.com/hook" }] });
    let rule = client.get("CreateNotificationRule", json!({ "input": rule })).await;
    let rules = client.get("ListNotificationRules", json!({ "workspaceId": workspace, "projectId": project })).await;
    assert_eq!(rules[0]["id"], rule["id"]);
    let input =
        json!({ "projectId": project, "name": "preview", "sourceEnvironmentId": environment, "ephemeral": true });
    let fork = client.get("CreateEnvironment", json!({ "input": input })).await;
    assert_eq!((&fork["name"], &fork["isEphemeral"]), (&json!("preview"), &json!(true)));
    Place { workspace, project, environment }
}

/// `db` (a Postgres), `api` and `spare`, in this order.
async fn create(client: &mut Client<'_>, place: &Place) -> Vec<String> {
    let input = |name: &str| json!({ "projectId": place.project, "environmentId": place.environment, "name": name });
    let db = client.get("CreateEmptyService", json!({ "input": input("db") })).await;
    let two = json!({ "in0": input("api"), "in1": input("spare") });
    let two = client.ok("CreateEmptyServicesOfTwo", two).await;
    let services = vec![text(&db, "/id"), text(&two, "/s0/id"), text(&two, "/s1/id")];
    let volume = |service: &str| {
        json!({ "projectId": place.project, "environmentId": place.environment,
        "serviceId": service, "mountPath": MOUNT })
    };
    let made = client.get("CreateVolume", json!({ "input": volume(&services[0]) })).await;
    assert_eq!(made["name"], "pgdata");
    let two =
        client.ok("CreateVolumesOfTwo", json!({ "in0": volume(&services[1]), "in1": volume(&services[2]) })).await;
    assert_eq!(two["v1"]["name"], "pgdata-3");
    services
}

async fn configure(client: &mut Client<'_>, place: &Place, services: &[String]) {
    let etag = client.get("PollConfigEtag", place.e()).await["configEtag"].clone();
    let patch = json!({ "services": { &services[0]: {
        "source": { "image": IMAGE },
        "variables": { "POSTGRES_PASSWORD": { "value": "first" } },
        "networking": { "tcpProxies": { "5432": {} } },
        "isCreated": true,
    } } });
    let variables = json!({ "environmentId": place.environment, "patch": patch, "commitMessage": "make db" });
    let patch = client.get("CommitOwnPatch", variables).await;
    let outcome = client.get("ReadPatchOutcome", json!({ "patchId": patch })).await;
    assert_eq!((&outcome["status"], &outcome["message"]), (&json!("COMMITTED"), &json!("make db")));
    let patches = nodes(&client.get("ListEnvironmentPatches", place.e()).await);
    assert_eq!(patches[0]["id"], patch);
    assert_ne!(client.get("PollConfigEtag", place.e()).await["configEtag"], etag);
    let live = json!({ "projectId": place.project, "environmentId": place.environment });
    let running = eventually("the database runs", async || {
        let live = client.ok("ReadLiveState", live.clone()).await;
        let instances = nodes(&live["environment"]["serviceInstances"]);
        let db = instances.into_iter().find(|instance| instance["serviceId"] == json!(services[0]))?;
        (db["latestDeployment"]["status"] == "SUCCESS").then_some(live)
    });
    let live = running.await;
    assert_eq!(nodes(&live["project"]["services"]).len(), 3);
    assert_eq!(nodes(&live["environment"]["volumeInstances"]).len(), 3);
    let input = json!({ "sleepApplication": false, "restartPolicyType": "ALWAYS", "region": "us-west2" });
    let update = json!({ "environmentId": place.environment, "serviceId": services[2], "input": input });
    client.get("UpdateServiceInstance", update).await;
    let instance = client.get("ReadServiceInstance", place.es(&services[2])).await;
    assert_eq!((&instance["restartPolicyType"], &instance["numReplicas"]), (&json!("ALWAYS"), &json!(1)));
    assert_eq!(instance["latestDeployment"], Value::Null);
    let limits = json!({ "environmentId": place.environment, "serviceId": services[0], "vCPUs": 2, "memoryGB": 1 });
    client.get("SetServiceLimits", json!({ "input": limits })).await;
    let limits = client.ok("ReadServiceLimits", place.es(&services[0])).await;
    assert_eq!(limits["serviceInstanceLimits"]["containers"]["cpu"], 2.0);
    let renamed = json!({ "serviceId": services[2], "input": { "name": "idle" } });
    assert_eq!(client.get("RenameService", renamed).await["name"], "idle");
}

async fn variables(client: &mut Client<'_>, place: &Place, service: &str) {
    let one = |name: &str, value: &str| {
        let mut input = place.pes(service);
        input["name"] = json!(name);
        input["value"] = json!(value);
        json!({ "input": input })
    };
    client.get("SetOneVariable", one("GREETING", "hello ${{db.POSTGRES_PASSWORD}}")).await;
    let mut several = place.pes(service);
    several["variables"] = json!({ "A": "1", "B": "2" });
    several["skipDeploys"] = json!(true);
    client.get("SetVariables", json!({ "input": several })).await;
    let mut gone = place.pes(service);
    gone["name"] = json!("A");
    client.get("DeleteVariable", json!({ "input": gone })).await;
    let raw = client.get("ReadRawVariables", place.pes(service)).await;
    assert_eq!(raw, json!({ "GREETING": "hello ${{db.POSTGRES_PASSWORD}}", "B": "2" }));
    for name in ["ReadRenderedVariables", "ReadDeployVariables"] {
        let rendered = client.get(name, place.pes(service)).await;
        assert_eq!(
            (&rendered["GREETING"], &rendered["RAILWAY_SERVICE_NAME"]),
            (&json!("hello first"), &json!("api"))
        );
    }
    let masked = client.get("ReadEnvironmentConfig", place.e()).await;
    assert_eq!(masked["config"]["services"][service]["variables"]["B"]["value"], "*****");
}

async fn staged(client: &mut Client<'_>, place: &Place, service: &str) {
    let stage = |value: &str| {
        let patch = json!({ "services": { service: { "variables": { "STAGED": { "value": value } } } } });
        json!({ "environmentId": place.environment, "patch": patch })
    };
    let first = client.get("StagePatch", stage("one")).await;
    assert_eq!(first["status"], "STAGED");
    let read = client.get("ReadStagedPatch", place.e()).await;
    assert_eq!(read["id"], first["id"]);
    assert_eq!(client.get("PollConfigEtag", place.e()).await["unmergedChangesCount"], 1);
    let patch = json!({ "services": { service: { "variables": { "OWN": { "value": "1" } } } } });
    client.get("CommitOwnPatch", json!({ "environmentId": place.environment, "patch": patch })).await;
    assert_eq!(client.get("PollConfigEtag", place.e()).await["unmergedChangesCount"], 1, "left alone");
    client.get("CommitStagedPatch", json!({ "environmentId": place.environment, "skipDeploys": true })).await;
    assert_eq!(client.get("PollConfigEtag", place.e()).await["unmergedChangesCount"], 0);
    assert_eq!(client.get("ReadRawVariables", place.pes(service)).await["STAGED"], "one");
}

async fn change_sets(client: &mut Client<'_>, place: &Place) {
    let change = json!({ "kind": "variable.set", "address": "service.api", "path": "resources.service.api.variables.C",
        "summary": "Set C", "variable": "C", "after": { "type": "literal", "value": "3" } });
    let input = json!({ "version": 1, "diagnostics": [], "changes": [change] });
    let preview = client.get("PreviewChangeSet", json!({ "environmentId": place.environment, "input": input })).await;
    assert_eq!(preview["effects"][0]["severity"], "safe");
    let etag = client.get("PollConfigEtag", place.e()).await["configEtag"].clone();
    let apply = |base: &Value| json!({ "environmentId": place.environment, "input": preview["changeSet"], "baseConfigEtag": base });
    let stale = client.ask("ApplyChangeSetIfUnchanged", apply(&json!("an older one"))).await;
    assert_eq!(text(&stale, "/errors/0/extensions/code"), "STALE_ENVIRONMENT_BASE");
    let applying = client.get("ApplyChangeSetIfUnchanged", apply(&etag)).await;
    assert_eq!(applying["status"], "applying");
    let poll = json!({ "environmentId": place.environment, "changeSetId": applying["id"] });
    eventually("the change set is applied", async || {
        (client.get("ReadChangeSetApply", poll.clone()).await["status"] == "applied").then_some(())
    })
    .await;
    assert_ne!(client.get("PollConfigEtag", place.e()).await["configEtag"], etag);
}

async fn addresses(client: &mut Client<'_>, place: &Place, services: &[String]) {
    let input = json!({ "environmentId": place.environment, "serviceId": services[1], "applicationPort": 80 });
    let proxy = client.get("CreateTcpProxy", json!({ "input": input })).await;
    assert_eq!(proxy["syncStatus"], "CREATING");
    let three =
        json!({ "environmentId": place.environment, "s0": services[0], "s1": services[1], "s2": services[2] });
    let three = client.ok("ReadTcpProxiesOfThree", three).await;
    assert_eq!((&three["p0"][0]["applicationPort"], &three["p1"][0]["id"]), (&json!(5432), &proxy["id"]));
    assert_eq!(three["p2"], json!([]));
    let delete = json!({ "tcpProxyId": proxy["id"] });
    assert!(client.refused("DeleteTcpProxy", delete.clone()).await.contains("already in progress"));
    eventually("the proxy goes away", async || {
        client.ask("DeleteTcpProxy", delete.clone()).await;
        let left = client.get("ReadTcpProxy", place.es(&services[1])).await;
        (left == json!([])).then_some(())
    })
    .await;
    let network = client.get("ListPrivateNetworks", place.e()).await[0]["publicId"].clone();
    let endpoint =
        json!({ "environmentId": place.environment, "privateNetworkId": network, "serviceId": services[0] });
    let endpoint = client.get("ReadPrivateEndpoint", endpoint).await;
    assert_eq!((&endpoint["dnsName"], &endpoint["syncStatus"]), (&json!("db"), &json!("ACTIVE")));
}

async fn database(client: &mut Client<'_>, place: &Place, service: &str) -> PgConnection {
    eventually("the database answers", async || {
        let proxy = client.get("ReadTcpProxy", place.es(service)).await[0].clone();
        let url = format!("postgresql://postgres:first@{}:{}/postgres", text(&proxy, "/domain"), proxy["proxyPort"]);
        PgConnection::connect(&url).await.ok()
    })
    .await
}

async fn newest(client: &mut Client<'_>, place: &Place, service: &str) -> Value {
    let input = json!({ "input": { "environmentId": place.environment, "serviceId": service } });
    nodes(&client.get("ListDeployments", input).await).remove(0)
}

async fn is(client: &mut Client<'_>, deployment: &Value, status: &str, instance: &str) {
    let id = json!({ "deploymentId": deployment });
    eventually(&format!("{status} {instance}"), async || {
        let read = client.get("ReadDeployment", id.clone()).await;
        (read["status"] == status && read["instances"][0]["status"] == instance).then_some(())
    })
    .await;
}

async fn deployments(client: &mut Client<'_>, place: &Place, service: &str) {
    let deployment = client.get("DeployService", place.es(service)).await;
    is(client, &deployment, "SUCCESS", "RUNNING").await;
    assert_eq!(newest(client, place, service).await["id"], deployment);
    drop(database(client, place, service).await);
    let events = client.get("ListDeploymentEvents", json!({ "deploymentId": deployment })).await;
    let steps: Vec<Value> = nodes(&events).iter().map(|event| event["step"].clone()).collect();
    assert_eq!(steps, ["CREATE_CONTAINER", "CONFIGURE_NETWORK"]);
    client.get("RestartDeployment", json!({ "deploymentId": deployment })).await;
    is(client, &deployment, "SUCCESS", "RUNNING").await;
    client.get("StopDeployment", json!({ "deploymentId": deployment })).await;
    is(client, &deployment, "SUCCESS", "STOPPED").await;
    client.get("RedeployService", place.es(service)).await;
    let again = newest(client, place, service).await["id"].clone();
    assert_ne!(again, deployment);
    is(client, &again, "SUCCESS", "RUNNING").await;
    let mut connection = database(client, place, service).await;
    sqlx::query("SELECT no_such_column").execute(&mut connection).await.expect_err("an error for the log");
    let logs = json!({ "deploymentId": again, "filter": "no_such_column @level:error", "limit": 1 });
    let lines = eventually("the error is in the log", async || {
        let lines = client.get("ReadDeploymentLogs", logs.clone()).await;
        // One more than asked for: the error and the statement that caused it.
        (lines.as_array().map(Vec::len) == Some(2)).then_some(lines)
    })
    .await;
    assert!(text(&lines, "/0/message").contains("does not exist"), "{lines}");
    let logs = json!({ "environmentId": place.environment, "filter": format!("@service:{service} no_such_column") });
    let lines = client.get("ReadEnvironmentLogs", logs).await;
    assert_eq!((&lines[0]["severity"], &lines[0]["tags"]["deploymentId"]), (&json!("error"), &again));
}

async fn complete(client: &mut Client<'_>, started: &Value) {
    let workflow = json!({ "workflowId": started["workflowId"] });
    let outcome = eventually("the workflow ends", async || {
        let outcome = client.get("ReadWorkflow", workflow.clone()).await;
        (outcome["status"] != "Running").then_some(outcome)
    })
    .await;
    assert_eq!(outcome, json!({ "status": "Complete", "error": null }));
}

async fn mounted(client: &mut Client<'_>, place: &Place, service: &str) -> Value {
    let live = json!({ "projectId": place.project, "environmentId": place.environment });
    let live = client.ok("ReadLiveState", live).await;
    let instances = nodes(&live["environment"]["volumeInstances"]);
    instances.into_iter().find(|instance| instance["serviceId"] == json!(service)).expect("mounted")
}

/// A backup of a database under way, and the way back to it.
async fn backups(client: &mut Client<'_>, place: &Place, service: &str) {
    let mut connection = database(client, place, service).await;
    execute(&mut connection, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n").await;
    let instance = mounted(client, place, service).await["id"].clone();
    let started = client.get("CreateVolumeBackup", json!({ "volumeInstanceId": instance, "name": "before" })).await;
    complete(client, &started).await;
    execute(&mut connection, "DELETE FROM kept").await;
    client.get("ScheduleVolumeBackups", json!({ "volumeInstanceId": instance, "kinds": ["DAILY"] })).await;
    let listed = client.ok("ListVolumeBackups", json!({ "volumeInstanceId": instance })).await;
    let backup = listed["volumeInstanceBackupList"][0].clone();
    assert_eq!(backup["name"], "before");
    assert!(backup["usedMB"].as_u64().is_some_and(|mb| mb > 5), "{backup}");
    assert_eq!(listed["volumeInstanceBackupScheduleList"][0]["kind"], "DAILY");
    let restore = json!({ "volumeInstanceId": instance, "backupId": backup["id"] });
    let started = client.get("RestoreVolumeBackup", restore).await;
    complete(client, &started).await;
    let before = newest(client, place, service).await["id"].clone();
    client.get("CommitStagedPatch", place.e()).await;
    let after = newest(client, place, service).await["id"].clone();
    assert_ne!(before, after);
    is(client, &after, "SUCCESS", "RUNNING").await;
    assert_ne!(mounted(client, place, service).await["id"], instance);
    let mut connection = database(client, place, service).await;
    let kept: i64 = sqlx::query("SELECT count(*) FROM kept").fetch_one(&mut connection).await.expect("a row").get(0);
    assert_eq!(kept, 1000);
}

async fn volumes(client: &mut Client<'_>, place: &Place, services: &[String]) {
    let spare = mounted(client, place, &services[2]).await;
    let attach = |service: &Value| json!({ "volumeId": spare["volumeId"], "environmentId": place.environment, "input": { "serviceId": service } });
    client.get("AttachVolume", attach(&Value::Null)).await;
    let read = json!({ "volumeInstanceId": spare["id"] });
    assert_eq!(client.get("ReadVolumeInstance", read.clone()).await["serviceId"], Value::Null);
    client.get("AttachVolume", attach(&json!(services[2]))).await;
    let grow = json!({ "volumes": { text(&spare, "/volumeId"): { "sizeMB": 60_000 } } });
    client.get("CommitOwnPatch", json!({ "environmentId": place.environment, "patch": grow })).await;
    let named = json!({ "volumeId": spare["volumeId"], "input": { "name": "attic" } });
    client.get("RenameVolume", named).await;
    let instance = client.get("ReadVolumeInstance", read.clone()).await;
    assert_eq!((&instance["sizeMB"], &instance["volume"]["name"]), (&json!(60_000), &json!("attic")));
    client.get("DeleteVolume", json!({ "volumeId": spare["volumeId"] })).await;
    let instance = client.get("ReadVolumeInstance", read).await;
    assert_eq!((&instance["state"], &instance["isPendingDeletion"]), (&json!("DELETING"), &json!(true)));
}

async fn tokens(client: &mut Client<'_>, place: &Place) {
    let input = json!({ "projectId": place.project, "environmentId": place.environment, "name": "operator" });
    let secret = client.get("CreateProjectToken", json!({ "input": input })).await;
    client.token = Some(("project-access-token", secret.as_str().expect("a secret").to_owned()));
    let token = client.get("ProbeProjectToken", json!({})).await;
    assert_eq!((&token["name"], &token["environment"]["id"]), (&json!("operator"), &json!(place.environment)));
    assert_eq!(client.refused("ProbeAccountIdentity", json!({})).await, "Not Authorized");
    assert_eq!(
        client.refused("ListWorkspaceProjects", json!({ "workspaceId": place.workspace })).await,
        "Not Authorized"
    );
    client.token = None;
}

async fn end(client: &mut Client<'_>, place: &Place, services: &[String]) {
    let delete = json!({ "serviceId": services[2], "environmentId": place.environment });
    client.get("DeleteService", delete).await;
    let message = client.refused("ReadServiceInstance", place.es(&services[2])).await;
    assert_eq!(message, "ServiceInstance not found");
    let live = json!({ "projectId": place.project, "environmentId": place.environment });
    let left = client.ok("ReadLiveState", live).await;
    assert_eq!(nodes(&left["project"]["services"]).len(), 2);
}
