//! The behaviours of Railway a client can trip over that need more than one rule to show, each by its number in
//! `docs/local-railway.md`.

use serde_json::{Value, json};

use crate::local::bench::{Bench, CREATE_VOLUME, text};
use crate::local::gateway::Headers;
use crate::local::world::{At, Fault, Late, LogLine, Plan, Rule};

const PROXIES: &str = "query Q($e: String!, $s: String!) { tcpProxies(environmentId: $e, serviceId: $s) {
    id domain proxyPort applicationPort syncStatus deletedAt } }";
const CREATE_PROXY: &str = "mutation M($in: TCPProxyCreateInput!) { tcpProxyCreate(input: $in) { id syncStatus } }";
const DELETE_PROXY: &str = "mutation M($id: String!) { tcpProxyDelete(id: $id) }";
const DEPLOY: &str =
    "mutation M($e: String!, $s: String!) { serviceInstanceDeployV2(environmentId: $e, serviceId: $s) }";

fn proxies(bench: &mut Bench, service: &str) -> Vec<Value> {
    let data = bench.ok(PROXIES, json!({ "e": bench.environment, "s": service }));
    data["tcpProxies"].as_array().expect("a list").clone()
}

fn at(bench: &Bench, service: &str) -> At {
    At { environment: bench.environment.clone(), service: service.to_owned() }
}

fn listens(bench: &mut Bench, service: &str) -> bool {
    let (at, now) = (at(bench, service), bench.now);
    bench.railway.world(now);
    bench.railway.world_mut().connect(&at, now)
}

fn status(bench: &mut Bench, service: &str) -> String {
    bench.status(service).map_or_else(|| "none".into(), |(status, _)| status)
}

#[test]
fn behaviour_12_a_proxy_is_made_in_a_moment_and_cannot_be_deleted_meanwhile() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let proxy = proxies(&mut bench, &service).remove(0);
    assert_eq!(text(&proxy, "/syncStatus"), "CREATING");
    let refused = bench.refused(DELETE_PROXY, json!({ "id": proxy["id"] }));
    assert!(refused.contains("operation is already in progress"), "{refused}");
    bench.wait(1);
    assert_eq!(text(&proxies(&mut bench, &service)[0], "/syncStatus"), "ACTIVE");
    bench.ok(DELETE_PROXY, json!({ "id": proxy["id"] }));
    let going = proxies(&mut bench, &service);
    assert_eq!((text(&going[0], "/syncStatus"), going[0]["deletedAt"].is_string()), ("DELETING".into(), true));
    assert!(bench.refused(DELETE_PROXY, json!({ "id": proxy["id"] })).contains("already in progress"));
    bench.wait(1);
    assert_eq!(proxies(&mut bench, &service), Vec::<Value>::new());
    let tcp = bench.config(true)["services"][&service]["networking"]["tcpProxies"].clone();
    assert_eq!(tcp, json!({}));
    bench.commit(json!({ "services": { &service: { "networking": { "tcpProxies": { "5432": {} } } } } }));
    let new = proxies(&mut bench, &service).remove(0);
    assert_ne!((&new["id"], &new["proxyPort"]), (&proxy["id"], &proxy["proxyPort"]), "another proxy, another port");
}

#[test]
fn behaviour_12_a_proxy_made_outside_a_patch_waits_for_a_deployment() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    bench.commit(json!({ "services": { &service: { "networking": { "tcpProxies": { "5432": null } } } } }));
    bench.wait(20);
    let etag = bench.etag();
    let input = |bench: &Bench, port: i64| json!({ "in": { "environmentId": bench.environment, "serviceId": service, "applicationPort": port } });
    let asked = input(&bench, 5432);
    bench.ok(CREATE_PROXY, asked.clone());
    assert_ne!(bench.etag(), etag);
    assert!(bench.refused(CREATE_PROXY, asked).contains("one TCP proxy only"));
    let wrong = input(&bench, 70_000);
    assert!(bench.refused(CREATE_PROXY, wrong).contains("from 1 to 65535"));
    bench.wait(60);
    assert_eq!(text(&proxies(&mut bench, &service)[0], "/syncStatus"), "CREATING");
    bench.ok(DEPLOY, json!({ "e": bench.environment, "s": service }));
    bench.wait(10);
    assert_eq!(text(&proxies(&mut bench, &service)[0], "/syncStatus"), "ACTIVE");
}

#[test]
fn behaviour_12_a_domain_comes_with_a_trailing_dot_now_and_then() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    bench.railway.order(Rule::once(Fault::TrailingDot));
    let domains: Vec<String> = (0..2).map(|_| text(&proxies(&mut bench, &service)[0], "/domain")).collect();
    assert_eq!(domains[0], format!("{}.", domains[1]));
}

#[test]
fn behaviour_13_private_addresses_change_with_every_deployment_and_the_name_stays() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let networks = "query Q($e: String!) { privateNetworks(environmentId: $e) { publicId name dnsName networkId tags deletedAt } }";
    let endpoint = "query Q($e: String!, $n: String!, $s: String!) {
        privateNetworkEndpoint(environmentId: $e, privateNetworkId: $n, serviceId: $s) { publicId dnsName privateIps syncStatus } }";
    let data = bench.ok(networks, json!({ "e": bench.environment }));
    let network = text(&data, "/privateNetworks/0/publicId");
    assert!(data["privateNetworks"][0]["networkId"].is_u64(), "a BigInt is a number");
    let variables = json!({ "e": bench.environment, "n": network, "s": service });
    let read = |bench: &mut Bench| bench.ok(endpoint, variables.clone())["privateNetworkEndpoint"].clone();
    assert_eq!(read(&mut bench), Value::Null, "nothing has run yet");
    bench.wait(10);
    let first = read(&mut bench);
    bench.ok(DEPLOY, json!({ "e": bench.environment, "s": service }));
    bench.wait(10);
    let second = read(&mut bench);
    assert_eq!((&first["publicId"], text(&first, "/dnsName")), (&second["publicId"], "db".into()));
    assert_ne!(first["privateIps"], second["privateIps"]);
    let addresses = second["privateIps"].as_array().expect("a list").clone();
    assert!(
        addresses.iter().all(|ip| ip.as_str().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok())),
        "{addresses:?}"
    );
}

#[test]
fn behaviour_14_a_service_that_may_sleep_does_after_ten_silent_minutes_and_a_connection_wakes_it() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let (awake, _) = bench.database("always");
    bench.commit(json!({ "services": { &service: { "deploy": { "sleepApplication": true } } } }));
    bench.wait(20);
    assert!(listens(&mut bench, &service));
    bench.wait(9 * 60);
    assert!(listens(&mut bench, &service), "it answered, so it stays awake");
    bench.wait(10 * 60);
    assert_eq!(status(&mut bench, &service), "SUCCESS");
    bench.wait(1);
    assert_eq!((status(&mut bench, &service), status(&mut bench, &awake)), ("SLEEPING".into(), "SUCCESS".into()));
    assert!(!listens(&mut bench, &service), "the one that wakes it is refused");
    assert_eq!(bench.status(&service), Some(("DEPLOYING".into(), Some("RESTARTING".into()))));
    assert!(!listens(&mut bench, &service), "it takes a moment");
    bench.wait(4);
    assert!(listens(&mut bench, &service));
    assert_eq!(bench.deployments(&service), 2, "the same deployment");
    bench.railway.order(Rule { service: Some("db".into()), ..Rule::once(Fault::Sleep) });
    bench.railway.order(Rule { service: Some("always".into()), ..Rule::once(Fault::Sleep) });
    assert_eq!((status(&mut bench, &service), status(&mut bench, &awake)), ("SLEEPING".into(), "SUCCESS".into()));
}

#[test]
fn behaviour_8_a_health_check_nobody_answers_fails_the_deployment_and_the_timeline_says_so() {
    let mut bench = Bench::new(Plan::Pro);
    let (db, _) = bench.database("db");
    let input = json!({ "projectId": bench.project, "environmentId": bench.environment, "name": "api",
        "source": { "image": "ghcr.io/acme/api:1" } });
    let made =
        bench.ok("mutation M($in: ServiceCreateInput!) { serviceCreate(input: $in) { id } }", json!({ "in": input }));
    let api = text(&made, "/serviceCreate/id");
    bench.wait(10);
    let check = json!({ "deploy": { "healthcheckPath": "/healthz", "healthcheckTimeout": 60 } });
    bench.railway.order(Rule { service: Some("api".into()), ..Rule::once(Fault::Unhealthy) });
    bench.commit(json!({ "services": { &api: check, &db: check } }));
    bench.wait(30);
    assert_eq!((status(&mut bench, &api), status(&mut bench, &db)), ("DEPLOYING".into(), "DEPLOYING".into()));
    let all = |bench: &mut Bench, service: &str| {
        let query = "query Q($in: DeploymentListInput!) { deployments(input: $in) { edges { node { id status } } } }";
        let data = bench.ok(query, json!({ "in": { "environmentId": bench.environment, "serviceId": service } }));
        let edges = data["deployments"]["edges"].as_array().expect("edges").clone();
        edges.iter().map(|edge| (text(edge, "/node/status"), text(edge, "/node/id"))).collect::<Vec<_>>()
    };
    let states = |list: &[(String, String)]| list.iter().map(|(status, _)| status.clone()).collect::<Vec<_>>();
    assert_eq!(states(&all(&mut bench, &api)), ["DEPLOYING", "SUCCESS"], "the old one serves meanwhile");
    assert_eq!(states(&all(&mut bench, &db)), ["DEPLOYING", "REMOVING"], "a volume is never mounted twice");
    bench.wait(60);
    let (api, db) = (all(&mut bench, &api), all(&mut bench, &db));
    assert_eq!(
        (states(&api), states(&db)),
        (vec!["FAILED".into(), "SUCCESS".into()], vec!["FAILED".into(), "REMOVED".into()])
    );
    let query = "query Q($id: String!) { deploymentEvents(id: $id, first: 100) { edges { node { step completedAt payload { error durationMs } } } } }";
    let data = bench.ok(query, json!({ "id": api[0].1 }));
    let edges = data.pointer("/deploymentEvents/edges").and_then(Value::as_array).expect("edges");
    let events: Vec<String> =
        edges.iter().map(|edge| format!("{} {}", text(edge, "/node/step"), edge["node"]["payload"])).collect();
    insta::assert_snapshot!(events.join("\n"), @r#"
    CREATE_CONTAINER {"durationMs":1000,"error":null}
    CONFIGURE_NETWORK {"durationMs":null,"error":null}
    HEALTHCHECK {"durationMs":60000,"error":"no healthy answer from /healthz in time"}
    "#);
}

#[test]
fn behaviour_17_a_workspace_token_reaches_the_workspace_and_is_nobody() {
    let mut bench = Bench::new(Plan::Pro);
    let workspace = bench.ok("{ me { workspaces { id } } }", json!({})).pointer("/me/workspaces/0/id").cloned();
    let create = "mutation M($in: ApiTokenCreateInput!) { apiTokenCreate(input: $in) }";
    let made = bench.ok(create, json!({ "in": { "name": "ci", "workspaceId": workspace } }));
    let secret = text(&made, "/apiTokenCreate");
    let headers = Headers::from([("authorization".to_owned(), format!("Bearer {secret}"))]);
    let mut ask = |query: &str, variables: Value| -> Value {
        serde_json::from_str(&bench.send(&headers, query, &variables).body).expect("JSON")
    };
    assert_eq!(text(&ask("{ me { id } }", json!({})), "/errors/0/message"), "Not Authorized");
    assert_eq!(text(&ask(create, json!({ "in": { "name": "more" } })), "/errors/0/message"), "Not Authorized");
    let seen = ask(
        "query Q($w: String!) { projects(workspaceId: $w) { edges { node { name } } } }",
        json!({ "w": workspace }),
    );
    assert_eq!(text(&seen, "/data/projects/edges/0/node/name"), "fleet");
    let other = ask("query Q { workspace(workspaceId: \"another\") { id } }", json!({}));
    assert_eq!(text(&other, "/errors/0/message"), "Not Authorized");
}

#[test]
fn behaviour_19_railway_deploys_a_running_service_anew_by_itself() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let (other, _) = bench.database("other");
    bench.wait(10);
    bench.railway.order(Rule { service: Some("db".into()), ..Rule::once(Fault::Redeploy) });
    assert_eq!((status(&mut bench, &service), status(&mut bench, &other)), ("INITIALIZING".into(), "SUCCESS".into()));
    bench.wait(10);
    assert_eq!((bench.deployments(&service), bench.deployments(&other)), (2, 1));
    assert!(listens(&mut bench, &service));
}

#[test]
fn limits_of_an_instance_are_the_plans_until_it_has_its_own() {
    let mut bench = Bench::new(Plan::Hobby);
    let service = bench.service("db");
    let query = "query Q($e: String!, $s: String!) { serviceInstanceLimits(environmentId: $e, serviceId: $s)
        serviceInstanceLimitOverride(environmentId: $e, serviceId: $s) }";
    let variables = json!({ "e": bench.environment, "s": service });
    let data = bench.ok(query, variables.clone());
    assert_eq!(data["serviceInstanceLimits"], json!({ "containers": { "cpu": 48.0, "memoryBytes": 48e9 } }));
    assert_eq!(data["serviceInstanceLimitOverride"], Value::Null);
    let set = "mutation M($in: ServiceInstanceLimitsUpdateInput!) { serviceInstanceLimitsUpdate(input: $in) }";
    bench.ok(set, json!({ "in": { "environmentId": bench.environment, "serviceId": service, "memoryGB": 1 } }));
    let data = bench.ok(query, variables);
    assert_eq!(data["serviceInstanceLimits"], json!({ "containers": { "cpu": 48.0, "memoryBytes": 1e9 } }));
    assert_eq!(data["serviceInstanceLimitOverride"], json!({ "containers": { "memoryBytes": 1e9 } }));
}

#[test]
fn notification_rules_are_kept_listed_by_project_and_deleted() {
    let mut bench = Bench::new(Plan::Pro);
    let workspace = bench.ok("{ me { workspaces { id } } }", json!({})).pointer("/me/workspaces/0/id").cloned();
    let create = "mutation M($in: CreateNotificationRuleInput!) { notificationRuleCreate(input: $in) {
        id eventTypes severities projectId channels { id config } } }";
    let input = json!({ "workspaceId": workspace, "projectId": bench.project, "eventTypes": ["Deployment.failed"],
        "severities": ["CRITICAL"], "channelConfigs": [{ "type": "webhook", "url": "https://example.com/hook" }] });
    let made = bench.ok(create, json!({ "in": input }))["notificationRuleCreate"].clone();
    let list = "query Q($w: String!, $p: String) { notificationRules(workspaceId: $w, projectId: $p) {
        id eventTypes severities projectId channels { id config } } }";
    let read = |bench: &mut Bench, project: &str| {
        bench.ok(list, json!({ "w": workspace, "p": project }))["notificationRules"].clone()
    };
    let project = bench.project.clone();
    assert_eq!(read(&mut bench, &project), json!([made]));
    assert_eq!(read(&mut bench, "another"), json!([]));
    bench.ok("mutation M($id: String!) { notificationRuleDelete(id: $id) }", json!({ "id": made["id"] }));
    assert_eq!(read(&mut bench, &project), json!([]));
}

#[test]
fn behaviour_4_volumes_come_one_after_another_where_that_is_asked_for() {
    let mut bench = Bench::new(Plan::Pro);
    let service = bench.service("db");
    bench.railway.order(Rule::once(Fault::TooQuickly));
    let input = bench.volume_input(Some(&service));
    assert!(bench.refused(CREATE_VOLUME, input.clone()).contains("creating volumes too quickly"));
    bench.ok(CREATE_VOLUME, input);
}

#[test]
fn behaviour_1_each_kind_of_object_lags_on_its_own_and_exactly_as_long_as_ordered() {
    let mut bench = Bench::new(Plan::Pro);
    let late = |object, late_ms| Rule {
        object: Some(object),
        late_ms: Some(late_ms),
        count: None,
        ..Rule::once(Fault::Lag)
    };
    bench.railway.order(late(Late::ServiceInstance, 5_000));
    bench.railway.order(late(Late::VolumeInstance, 20_000));
    let service = bench.service("db");
    bench.volume(&service);
    let query = "query Q($p: String!, $e: String!) { project(id: $p) { services { edges { node { id } } } }
        environment(id: $e) { serviceInstances { edges { node { id } } } volumeInstances { edges { node { id } } } } }";
    let seen = |bench: &mut Bench| {
        let data = bench.ok(query, json!({ "p": bench.project, "e": bench.environment }));
        ["/project/services", "/environment/serviceInstances", "/environment/volumeInstances"]
            .map(|list| data.pointer(&format!("{list}/edges")).and_then(Value::as_array).map_or(0, Vec::len))
    };
    assert_eq!(seen(&mut bench), [1, 0, 0], "the service exists before its instance");
    let one = "query Q($e: String!, $s: String!) { serviceInstance(environmentId: $e, serviceId: $s) { id } }";
    assert_eq!(bench.refused(one, json!({ "e": bench.environment, "s": service })), "ServiceInstance not found");
    bench.wait(5);
    assert_eq!(seen(&mut bench), [1, 1, 0]);
    bench.wait(15);
    assert_eq!(seen(&mut bench), [1, 1, 1]);
}

#[test]
fn behaviour_18_what_is_gone_is_not_authorized_or_a_problem_and_so_is_an_empty_id() {
    let mut bench = Bench::new(Plan::Pro);
    let service = bench.service("db");
    bench.ok("mutation M($id: String!) { serviceDelete(id: $id) }", json!({ "id": service }));
    let query = "query Q($id: String!) { service(id: $id) { id } }";
    bench.railway.order(Rule::once(Fault::Garbled));
    assert_eq!(bench.refused(query, json!({ "id": "unknown" })), "Service not found", "it never was");
    assert_eq!(bench.refused(query, json!({ "id": service })), "Problem processing request");
    assert_eq!(bench.refused(query, json!({ "id": service })), "Not Authorized");
    assert_eq!(bench.refused(query, json!({ "id": "" })), "Not Authorized");
}

#[test]
fn behaviour_21_logs_come_with_one_line_more_than_asked_for_in_order_and_filtered() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    bench.wait(10);
    let query = "query Q($e: String!, $s: String!) { serviceInstance(environmentId: $e, serviceId: $s) { latestDeployment { id } } }";
    let data = bench.ok(query, json!({ "e": bench.environment, "s": service }));
    let deployment = text(&data, "/serviceInstance/latestDeployment/id");
    let now = bench.now;
    let line = |n: i64| LogLine {
        at: now + chrono::Duration::milliseconds(n),
        severity: if n == 7 { "error" } else { "info" },
        message: format!("line {n}"),
    };
    let lines =
        [vec![LogLine { at: now - chrono::Duration::hours(1), ..line(0) }], (1..=9).map(line).collect()].concat();
    bench.railway.world_mut().logged(&deployment, lines);
    let query =
        "query Q($d: String!, $f: String, $l: Int) { deploymentLogs(deploymentId: $d, filter: $f, limit: $l) {
        timestamp severity message } }";
    let mut read = |filter: &str, limit: Value| {
        let data = bench.ok(query, json!({ "d": deployment, "f": filter, "l": limit }));
        let lines = data["deploymentLogs"].as_array().expect("a list").clone();
        lines.iter().map(|line| text(line, "/message")).collect::<Vec<_>>()
    };
    assert_eq!(read("", json!(2)), ["line 7", "line 8", "line 9"]);
    assert_eq!(read("", Value::Null).len(), 9, "an earlier deployment's line is not this one's");
    assert_eq!(read("@level:error", json!(5)), ["line 7"]);
    assert_eq!(read("\"LINE 3\"", json!(5)), ["line 3"]);
    bench.wait(60);
    let query = "query Q($e: String!, $a: String, $n: Int) { environmentLogs(environmentId: $e, anchorDate: $a, beforeLimit: $n) {
        timestamp message tags { serviceId } } }";
    let anchor = (now + chrono::Duration::milliseconds(4)).to_rfc3339();
    let data = bench.ok(query, json!({ "e": bench.environment, "a": anchor, "n": 1 }));
    assert_eq!(
        (text(&data, "/environmentLogs/0/message"), text(&data, "/environmentLogs/1/message")),
        ("line 3".into(), "line 4".into())
    );
    assert_eq!(data["environmentLogs"][0]["tags"]["serviceId"], json!(service));
    assert_eq!(text(&data, "/environmentLogs/1/timestamp"), "2027-01-15T08:00:10.004Z", "milliseconds and Z");
}

#[test]
fn behaviour_4_a_trial_has_few_services_and_projects_are_throttled_like_volumes_on_order() {
    let mut bench = Bench::new(Plan::Trial);
    for n in 0..5 {
        bench.service(&format!("s{n}"));
        bench.wait(1);
    }
    let input = json!({ "projectId": bench.project, "environmentId": bench.environment, "name": "sixth" });
    let refused = bench.refused(crate::local::bench::CREATE_SERVICE, json!({ "input": input }));
    assert_eq!(refused, "Service limit reached: a project on the trial plan can have 5 services");
    bench.railway.order(Rule::once(Fault::TooQuickly));
    let create = "mutation M { projectCreate(input: { name: \"two\" }) { id } }";
    assert!(bench.refused(create, json!({})).contains("creating projects too quickly"));
    bench.ok(create, json!({}));
}

#[test]
fn a_backup_is_taken_in_a_moment_restored_beside_the_old_volume_and_kept_by_its_schedule() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, volume) = bench.database("db");
    bench.wait(10);
    let (now, environment) = (bench.now, bench.environment.clone());
    let instance = bench.railway.world(now).environments[&environment].volume_instances[&volume].id.clone();
    let create =
        "mutation M($v: String!) { volumeInstanceBackupCreate(volumeInstanceId: $v, name: \"n\") { workflowId } }";
    let list = "query Q($v: String!) { volumeInstanceBackupList(volumeInstanceId: $v) { id name expiresAt } }";
    let status = "query Q($w: String!) { workflowStatus(workflowId: $w) { status error } }";
    let backups = |bench: &mut Bench| {
        bench.ok(list, json!({ "v": instance }))["volumeInstanceBackupList"].as_array().expect("a list").clone()
    };
    let workflow = bench.ok(create, json!({ "v": instance }))["volumeInstanceBackupCreate"]["workflowId"].clone();
    assert_eq!(bench.ok(status, json!({ "w": workflow }))["workflowStatus"]["status"], "Running");
    assert_eq!(backups(&mut bench).len(), 0, "not before it is whole");
    bench.wait(2);
    assert_eq!(bench.ok(status, json!({ "w": workflow }))["workflowStatus"]["status"], "Complete");
    assert_eq!(bench.ok(status, json!({ "w": "none" }))["workflowStatus"]["status"], "NotFound");
    let first = backups(&mut bench).remove(0);
    bench.ok(create, json!({ "v": instance }));
    bench.wait(2);
    assert_eq!(backups(&mut bench).len(), 2);
    let restore = "mutation M($v: String!, $b: String!) { volumeInstanceBackupRestore(volumeInstanceId: $v, volumeInstanceBackupId: $b) { workflowId } }";
    bench.ok(restore, json!({ "v": instance, "b": first["id"] }));
    bench.wait(2);
    assert_eq!(backups(&mut bench), [first], "a newer one is gone with the time it held");
    let staged = bench.ok(
        "query Q($e: String!) { environmentStagedChanges(environmentId: $e) { patch } }",
        json!({ "e": environment }),
    );
    let mounts = staged["environmentStagedChanges"]["patch"]["services"][&service]["volumeMounts"].clone();
    assert_eq!((mounts.as_object().map(serde_json::Map::len), mounts.get(&volume)), (Some(2), Some(&Value::Null)));
    let schedule =
        "mutation M($v: String!) { volumeInstanceBackupScheduleUpdate(volumeInstanceId: $v, kinds: [DAILY]) }";
    bench.ok(schedule, json!({ "v": instance }));
    for _ in 0..9 {
        bench.wait(24 * 3600);
        backups(&mut bench);
    }
    bench.wait(2);
    assert_eq!(backups(&mut bench).len(), 1 + 6, "six days are kept");
}
