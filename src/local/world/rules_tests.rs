//! Each rule of Railway that a client can trip over, once.

use serde_json::{Value, json};

use crate::local::bench::{Bench, CREATE_SERVICE, CREATE_VOLUME, IMAGE, MOUNT, database_config, text};
use crate::local::world::{At, Fault, Plan, Rule};

const ATTACH: &str = "mutation M($v: String!, $e: String!, $in: VolumeInstanceUpdateInput!) {
    volumeInstanceUpdate(volumeId: $v, environmentId: $e, input: $in) }";
const DELETE_VOLUME: &str = "mutation M($v: String!) { volumeDelete(volumeId: $v) }";
const DELETE_SERVICE: &str = "mutation M($id: String!, $e: String) { serviceDelete(id: $id, environmentId: $e) }";
const SET: &str = "mutation M($in: VariableCollectionUpsertInput!) { variableCollectionUpsert(input: $in) }";
const VOLUMES: &str = "query Q($e: String!) { environment(id: $e) { volumeInstances(first: 500) { edges { node {
    volumeId serviceId mountPath sizeMB currentSizeMB state isPendingDeletion volume { name } } } } } }";

fn create(bench: &mut Bench, input: Value) -> Value {
    let mut input = input;
    input["projectId"] = json!(bench.project);
    bench.ask(CREATE_SERVICE, json!({ "input": input }))
}

fn volumes(bench: &mut Bench) -> Vec<Value> {
    let data = bench.ok(VOLUMES, json!({ "e": bench.environment }));
    let edges = data.pointer("/environment/volumeInstances/edges").and_then(Value::as_array).expect("edges");
    edges.iter().map(|edge| edge["node"].clone()).collect()
}

fn status(bench: &mut Bench, service: &str) -> String {
    bench.status(service).map_or_else(|| "none".into(), |(status, _)| status)
}

#[test]
fn behaviour_3_a_service_name_is_unique_in_the_project_short_and_free_again_after_deletion() {
    let mut bench = Bench::new(Plan::Pro);
    let first = bench.service("x");
    let body = create(&mut bench, json!({ "name": "x" }));
    assert_eq!(text(&body, "/errors/0/message"), "A service named \"x\" already exists in this project");
    let body = create(&mut bench, json!({ "name": "x".repeat(33) }));
    assert!(text(&body, "/errors/0/message").contains("at most 32 characters"));
    assert_eq!(create(&mut bench, json!({ "name": "x".repeat(32) })).get("errors"), None);
    bench.ok(DELETE_SERVICE, json!({ "id": first }));
    assert_eq!(create(&mut bench, json!({ "name": "x" })).get("errors"), None);
}

#[test]
fn a_service_without_a_name_gets_one() {
    let mut bench = Bench::new(Plan::Pro);
    let body = create(&mut bench, json!({}));
    assert!(text(&body, "/data/serviceCreate/name").contains('-'));
}

#[test]
fn behaviour_6_a_service_without_source_does_not_deploy_and_one_with_source_does_at_once() {
    let mut bench = Bench::new(Plan::Pro);
    let empty = bench.service("empty");
    let body = create(&mut bench, json!({ "name": "full", "source": { "image": "ghcr.io/acme/api:1" } }));
    let full = text(&body, "/data/serviceCreate/id");
    assert_eq!((status(&mut bench, &empty), status(&mut bench, &full)), ("none".into(), "INITIALIZING".into()));
}

#[test]
fn behaviour_8_a_deployment_walks_from_initializing_over_deploying_to_success_with_a_running_instance() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let mut walk = vec![bench.status(&service)];
    for _ in 0..6 {
        bench.wait(1);
        walk.push(bench.status(&service));
    }
    walk.dedup();
    let shown: Vec<String> = walk.into_iter().map(|step| format!("{step:?}")).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    Some(("INITIALIZING", None))
    Some(("DEPLOYING", Some("INITIALIZING")))
    Some(("SUCCESS", Some("RUNNING")))
    "#);
}

#[test]
fn behaviour_6_a_postgres_without_its_volume_where_it_belongs_crashes() {
    let mut bench = Bench::new(Plan::Pro);
    let body = create(&mut bench, json!({ "name": "early", "source": { "image": IMAGE } }));
    let early = text(&body, "/data/serviceCreate/id");
    let (moved, volume) = bench.database("moved");
    let mount = json!({ "volumeMounts": { volume: { "mountPath": "/data" } } });
    assert_eq!(bench.commit(json!({ "services": { &moved: mount } })).get("errors"), None);
    bench.wait(10);
    assert_eq!((status(&mut bench, &early), status(&mut bench, &moved)), ("CRASHED".into(), "CRASHED".into()));
}

#[test]
fn a_postgres_needs_a_password_for_its_first_start_only() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let bare = bench.service("bare");
    bench.volume(&bare);
    bench.commit(json!({ "services": { &bare: { "source": { "image": IMAGE } } } }));
    bench.wait(10);
    assert_eq!((status(&mut bench, &service), status(&mut bench, &bare)), ("SUCCESS".into(), "CRASHED".into()));
    bench.commit(json!({ "services": { &service: { "variables": { "POSTGRES_PASSWORD": null } } } }));
    bench.wait(10);
    assert_eq!((status(&mut bench, &service), bench.deployments(&service)), ("SUCCESS".into(), 2));
}

#[test]
fn behaviour_8_a_new_deployment_takes_the_place_of_the_old_and_a_failed_one_does_not() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    bench.wait(10);
    let all = |bench: &mut Bench| {
        let query = "query Q($in: DeploymentListInput!) { deployments(input: $in) { edges { node { status } } } }";
        let data = bench.ok(query, json!({ "in": { "environmentId": bench.environment } }));
        let edges = data["deployments"]["edges"].as_array().expect("edges").clone();
        edges.iter().map(|edge| text(edge, "/node/status")).collect::<Vec<_>>()
    };
    let redeploy =
        "mutation M($e: String!, $s: String!) { serviceInstanceRedeploy(environmentId: $e, serviceId: $s) }";
    bench.railway.order(Rule { service: Some("db".into()), ..Rule::once(Fault::DeployFails) });
    bench.ok(redeploy, json!({ "e": bench.environment, "s": service }));
    bench.wait(10);
    assert_eq!(all(&mut bench), ["FAILED", "SUCCESS"]);
    bench.ok(redeploy, json!({ "e": bench.environment, "s": service }));
    bench.wait(2);
    assert_eq!(all(&mut bench), ["DEPLOYING", "FAILED", "REMOVING"]);
    bench.wait(10);
    assert_eq!(all(&mut bench), ["SUCCESS", "FAILED", "REMOVED"]);
}

#[test]
fn an_unhealthy_deployment_ends_in_success_and_never_listens() {
    let mut bench = Bench::new(Plan::Pro);
    bench.railway.order(Rule::once(Fault::Unhealthy));
    let (service, _) = bench.database("db");
    bench.wait(10);
    let at = At { environment: bench.environment.clone(), service: service.clone() };
    assert_eq!(status(&mut bench, &service), "SUCCESS");
    let now = bench.now;
    assert!(!bench.railway.world(now).is_listening(&at));
    bench.ok(
        "mutation M($e: String!, $s: String!) { serviceInstanceDeployV2(environmentId: $e, serviceId: $s) }",
        json!({ "e": bench.environment, "s": service }),
    );
    bench.wait(10);
    let now = bench.now;
    assert!(bench.railway.world(now).is_listening(&at));
}

#[test]
fn a_crashed_database_comes_back_by_restart_or_redeploy_and_a_stopped_one_too() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    bench.wait(10);
    bench.railway.order(Rule::once(Fault::Crash));
    assert_eq!(bench.status(&service), Some(("CRASHED".into(), Some("CRASHED".into()))));
    let id = bench.ok(
        "query Q($e: String!, $s: String!) { serviceInstance(environmentId: $e, serviceId: $s) { latestDeployment { id } } }",
        json!({ "e": bench.environment, "s": service }),
    );
    let id = text(&id, "/serviceInstance/latestDeployment/id");
    bench.ok("mutation M($id: String!) { deploymentRestart(id: $id) }", json!({ "id": id }));
    bench.wait(10);
    assert_eq!(bench.status(&service), Some(("SUCCESS".into(), Some("RUNNING".into()))));
    bench.ok("mutation M($id: String!) { deploymentStop(id: $id) }", json!({ "id": id }));
    assert_eq!(bench.status(&service), Some(("SUCCESS".into(), Some("STOPPED".into()))));
    bench.ok("mutation M($id: String!) { deploymentRedeploy(id: $id) { id } }", json!({ "id": id }));
    bench.wait(10);
    assert_eq!(bench.status(&service), Some(("SUCCESS".into(), Some("RUNNING".into()))));
}

#[test]
fn behaviour_5_a_plan_allows_so_many_volumes_and_one_in_its_grave_does_not_count() {
    for (plan, max) in [(Plan::Free, 1), (Plan::Trial, 3), (Plan::Hobby, 10), (Plan::Pro, 20)] {
        let mut bench = Bench::new(plan);
        let mut made = Vec::new();
        for _ in 0..max {
            bench.wait(1);
            let input = bench.volume_input(None);
            made.push(text(&bench.ok(CREATE_VOLUME, input), "/volumeCreate/id"));
        }
        bench.wait(1);
        let input = bench.volume_input(None);
        let message = bench.refused(CREATE_VOLUME, input.clone());
        assert!(message.contains(&format!("can have {max} volumes")), "{message}");
        bench.ok(DELETE_VOLUME, json!({ "v": made[0] }));
        bench.ok(CREATE_VOLUME, input);
    }
}

#[test]
fn behaviour_5_a_volume_has_the_plans_size_grows_live_and_never_shrinks() {
    for (plan, size, max) in [(Plan::Hobby, 5_000, 5_000), (Plan::Pro, 50_000, 1_000_000)] {
        let mut bench = Bench::new(plan);
        let (service, volume) = bench.database("db");
        bench.wait(10);
        assert_eq!(volumes(&mut bench)[0]["sizeMB"], size);
        let mut resize = |mb: i64| bench.commit(json!({ "volumes": { &volume: { "sizeMB": mb } } }));
        assert!(text(&resize(size - 1), "/errors/0/message").contains("cannot be shrunk"));
        assert!(text(&resize(max + 1), "/errors/0/message").contains("Volume size limit reached"));
        assert_eq!(resize(max).get("errors"), None);
        assert_eq!((volumes(&mut bench)[0]["sizeMB"].clone(), bench.deployments(&service)), (json!(max), 1));
    }
}

#[test]
fn behaviour_5_a_volume_is_named_by_railway_uniquely_and_its_metadata_counts_as_used() {
    let mut bench = Bench::new(Plan::Pro);
    for _ in 0..2 {
        let input = bench.volume_input(None);
        bench.ok(CREATE_VOLUME, input);
    }
    let found = volumes(&mut bench);
    let mut names: Vec<String> = found.iter().map(|volume| text(volume, "/volume/name")).collect();
    names.sort();
    assert_eq!(names, ["pgdata", "pgdata-2"]);
    assert_eq!(found[0]["currentSizeMB"], 1_250.0);
}

#[test]
fn behaviour_4_volumes_are_throttled_on_order() {
    let mut bench = Bench::new(Plan::Pro);
    bench.railway.order(Rule::once(Fault::TooQuickly));
    let input = bench.volume_input(None);
    assert!(bench.refused(CREATE_VOLUME, input.clone()).contains("creating volumes too quickly"));
    bench.ok(CREATE_VOLUME, input);
}

#[test]
fn behaviour_5_a_service_has_one_volume_by_creation_by_attachment_and_by_patch() {
    let mut bench = Bench::new(Plan::Pro);
    let service = bench.service("db");
    let mounted = bench.volume(&service);
    let input = bench.volume_input(Some(&service));
    assert!(bench.refused(CREATE_VOLUME, input).contains("already has a volume"));
    let loose = bench.volume_input(None);
    let loose = text(&bench.ok(CREATE_VOLUME, loose), "/volumeCreate/id");
    let attach = json!({ "v": loose, "e": bench.environment, "in": { "serviceId": service } });
    assert!(bench.refused(ATTACH, attach.clone()).contains("already has a volume"));
    let mount = json!({ "services": { &service: { "volumeMounts": { &loose: { "mountPath": MOUNT } } } } });
    assert!(text(&bench.commit(mount), "/errors/0/message").contains("one volume only"));
    bench.ok(ATTACH, json!({ "v": mounted, "e": bench.environment, "in": { "serviceId": null } }));
    bench.ok(ATTACH, attach);
    let owner = |volume: &Value| (text(volume, "/volumeId"), volume["serviceId"].clone());
    let owners: std::collections::BTreeMap<_, _> = volumes(&mut bench).iter().map(owner).collect();
    assert_eq!(owners, [(mounted, Value::Null), (loose, json!(service))].into());
}

#[test]
fn a_service_with_a_volume_has_one_replica_and_moves_only_when_its_old_region_is_deleted() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let regions =
        |regions: Value| json!({ "services": { &service: { "deploy": { "multiRegionConfig": regions } } } });
    assert_eq!(bench.commit(regions(json!({ "us-west2": { "numReplicas": 1 } }))).get("errors"), None);
    let there = json!({ "europe-west4-drams3a": { "numReplicas": 1 } });
    assert!(text(&bench.commit(regions(there)), "/errors/0/message").contains("cannot have replicas"));
    let moved = json!({ "us-west2": null, "europe-west4-drams3a": { "numReplicas": 1 } });
    assert_eq!(bench.commit(regions(moved)).get("errors"), None);
}

#[test]
fn deleting_a_service_leaves_its_volume_detached_with_its_mount_path() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, volume) = bench.database("db");
    bench.ok(DELETE_SERVICE, json!({ "id": service, "e": bench.environment }));
    let left = volumes(&mut bench).remove(0);
    assert_eq!((left["volumeId"].clone(), left["serviceId"].clone()), (json!(volume), Value::Null));
    assert_eq!((left["mountPath"].clone(), left["isPendingDeletion"].clone()), (json!(MOUNT), json!(false)));
    assert_eq!(bench.config(true)["services"], Value::Null);
}

#[test]
fn behaviour_5_a_deleted_volume_lies_in_its_grave_for_two_days() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, volume) = bench.database("db");
    bench.ok(DELETE_VOLUME, json!({ "v": volume }));
    let dying = volumes(&mut bench).remove(0);
    assert_eq!((dying["isPendingDeletion"].clone(), dying["state"].clone()), (json!(true), json!("DELETING")));
    assert_eq!(bench.config(true)["services"][&service]["volumeMounts"], json!({}));
    bench.wait(48 * 3_600 + 1);
    assert_eq!(volumes(&mut bench), Vec::<Value>::new());
    assert_eq!(bench.refused(DELETE_VOLUME, json!({ "v": volume })), "Volume not found");
}

#[test]
fn behaviour_7_a_service_made_outside_a_fork_appears_in_every_environment_that_is_no_fork() {
    let mut bench = Bench::new(Plan::Pro);
    let environment = |bench: &mut Bench, name: &str, source: Value| {
        let input = json!({ "projectId": bench.project, "name": name, "sourceEnvironmentId": source });
        let query = "mutation M($in: EnvironmentCreateInput!) { environmentCreate(input: $in) { id } }";
        text(&bench.ok(query, json!({ "in": input })), "/environmentCreate/id")
    };
    let staging = environment(&mut bench, "staging", Value::Null);
    let source = json!(bench.environment);
    let fork = environment(&mut bench, "pr-1", source);
    let both = bench.service("both");
    let body = create(&mut bench, json!({ "name": "only-fork", "environmentId": fork }));
    let only_fork = text(&body, "/data/serviceCreate/id");
    let now = bench.now;
    let production = bench.environment.clone();
    let world = bench.railway.world(now);
    let holds = |service: &str| {
        let in_it = |id: &&String| world.environment(id).is_ok_and(|e| e.instances.contains_key(service));
        [&production, &staging, &fork].into_iter().filter(in_it).cloned().collect::<Vec<_>>()
    };
    assert_eq!((holds(&both), holds(&only_fork)), (vec![production.clone(), staging.clone()], vec![fork.clone()]));
}

#[test]
fn a_fork_starts_with_its_sources_services_and_empty_volumes_of_the_same_name() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, volume) = bench.database("db");
    bench.wait(10);
    let query = "mutation M($in: EnvironmentCreateInput!) { environmentCreate(input: $in) { id } }";
    let input = json!({ "projectId": bench.project, "name": "pr-1", "sourceEnvironmentId": bench.environment });
    bench.environment = text(&bench.ok(query, json!({ "in": input })), "/environmentCreate/id");
    bench.wait(10);
    let copied = volumes(&mut bench).remove(0);
    assert_eq!((copied["volumeId"].clone(), copied["serviceId"].clone()), (json!(volume), json!(service)));
    assert_eq!((status(&mut bench, &service), bench.deployments(&service)), ("SUCCESS".into(), 1));
}

#[test]
fn a_patch_deploys_the_services_it_changes_and_no_others() {
    let mut bench = Bench::new(Plan::Pro);
    let (touched, _) = bench.database("touched");
    let (same, _) = bench.database("same");
    bench.wait(10);
    let etag = bench.etag();
    let value = |text: &str| json!({ "variables": { "A": { "value": text } } });
    bench.commit(json!({ "services": { &touched: value("1"), &same: database_config() } }));
    assert_eq!((bench.deployments(&touched), bench.deployments(&same)), (2, 1));
    assert_ne!(bench.etag(), etag);
    let etag = bench.etag();
    bench.commit(json!({ "services": { &touched: value("1") } }));
    assert_eq!((bench.deployments(&touched), bench.etag()), (2, etag));
}

#[test]
fn null_deletes_a_key_and_is_deleted_a_service() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    bench.commit(json!({ "services": { &service: { "variables": { "O7S_OWNER": null }, "networking": { "tcpProxies": { "5432": null } } } } }));
    let blob = bench.config(true)["services"][&service].clone();
    assert_eq!(blob["variables"], json!({ "POSTGRES_PASSWORD": { "value": "hunter2" } }));
    bench.wait(1);
    assert_eq!(proxies(&mut bench, &service), json!([]));
    bench.commit(json!({ "services": { &service: { "isDeleted": true } } }));
    assert_eq!(
        bench.refused("query Q($id: String!) { service(id: $id) { id } }", json!({ "id": service })),
        "Not Authorized"
    );
}

#[test]
fn a_patch_that_cannot_be_applied_changes_nothing() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let (before, etag) = (bench.config(true), bench.etag());
    let good = json!({ "variables": { "A": { "value": "1" } } });
    for (bad, message) in [
        (json!({ "services": { &service: good, "nobody": {} } }), "Service not found"),
        (json!({ "services": { &service: good }, "volumes": { "none": { "sizeMB": 1 } } }), "Volume not found"),
        (
            json!({ "services": { &service: good }, "servces": {} }),
            "Invalid input: unknown key `servces` in the patch",
        ),
        (
            json!({ "services": { &service: { "variables": { "1A": { "value": "" } } } } }),
            "Invalid input: `1A` is no name of a variable",
        ),
        (
            json!({ "services": { &service: { "variables": { "A": { "value": 1 } } } } }),
            "Invalid input: the value of the variable A must be a text",
        ),
        (
            json!({ "services": { &service: good }, "buckets": {} }),
            "`buckets` in an environment's config is not simulated by the local Railway",
        ),
    ] {
        assert_eq!(text(&bench.commit(bad), "/errors/0/message"), message);
    }
    assert_eq!((bench.config(true), bench.etag(), bench.deployments(&service)), (before, etag, 1));
}

#[test]
fn behaviour_10_what_a_person_staged_survives_a_commit_of_ours_and_goes_with_a_commit_of_all() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let stage = "mutation M($e: String!, $p: EnvironmentConfig!) {
        environmentStageChanges(environmentId: $e, input: $p, merge: true) { id status patch } }";
    let count = |bench: &mut Bench| {
        let query = "query Q($e: String!) { environment(id: $e) { unmergedChangesCount } }";
        bench.ok(query, json!({ "e": bench.environment }))["environment"]["unmergedChangesCount"].clone()
    };
    let staged = json!({ "services": { &service: { "variables": { "STAGED": { "value": "s" } } } } });
    let answer = bench.ok(stage, json!({ "e": bench.environment, "p": staged }));
    let patch = &answer["environmentStageChanges"];
    assert_eq!(patch["status"], "STAGED");
    assert_eq!(patch["patch"]["services"][&service]["variables"]["STAGED"]["value"], "*****");
    bench.commit(json!({ "services": { &service: { "variables": { "OURS": { "value": "o" } } } } }));
    assert_eq!(count(&mut bench), 1);
    assert_eq!(bench.config(true)["services"][&service]["variables"].get("STAGED"), None);
    let commit = "mutation M($e: String!) { environmentPatchCommitStaged(environmentId: $e) }";
    bench.ok(commit, json!({ "e": bench.environment }));
    assert_eq!(count(&mut bench), 0);
    assert_eq!(bench.config(true)["services"][&service]["variables"]["STAGED"]["value"], "s");
}

#[test]
fn the_answer_of_a_commit_names_a_patch_that_tells_its_outcome() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let body = bench.commit(json!({ "services": { &service: { "variables": { "A": { "value": "1" } } } } }));
    let query = "query Q($id: String!) { environmentPatch(id: $id) { status lastAppliedError patch(decryptVariables: true) } }";
    let patch = bench.ok(query, json!({ "id": text(&body, "/data/environmentPatchCommit") }));
    assert_eq!(patch["environmentPatch"]["status"], "COMMITTED");
    assert_eq!(patch["environmentPatch"]["patch"]["services"][&service]["variables"]["A"]["value"], "1");
}

#[test]
fn behaviour_9_writing_variables_merges_moves_the_etag_and_deploys_unless_told_not_to() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let set = |bench: &mut Bench, variables: Value, replace: bool, skip: bool| {
        let input = json!({
            "projectId": bench.project, "environmentId": bench.environment, "serviceId": service,
            "variables": variables, "replace": replace, "skipDeploys": skip,
        });
        bench.ok(SET, json!({ "in": input }));
    };
    let etag = bench.etag();
    set(&mut bench, json!({ "A": "1" }), false, true);
    assert_ne!(bench.etag(), etag);
    assert_eq!(bench.deployments(&service), 1);
    set(&mut bench, json!({ "A": "2" }), false, false);
    assert_eq!(bench.deployments(&service), 2);
    set(&mut bench, json!({ "B": "3" }), true, true);
    assert_eq!(bench.config(true)["services"][&service]["variables"], json!({ "B": { "value": "3" } }));
}

fn proxies(bench: &mut Bench, service: &str) -> Value {
    let query = "query Q($e: String!, $s: String!) { p0: tcpProxies(environmentId: $e, serviceId: $s) {
        domain proxyPort applicationPort syncStatus } }";
    bench.ok(query, json!({ "e": bench.environment, "s": service }))["p0"].clone()
}

#[test]
fn behaviour_11_references_resolve_in_rendered_reads_and_railway_adds_its_own() {
    let mut bench = Bench::new(Plan::Pro);
    let (db, _) = bench.database("db");
    let api = bench.service("api");
    bench.commit(json!({
        "sharedVariables": { "TEAM": { "value": "retail" } },
        "services": {
            &db: { "variables": { "URL": { "value": "pg://${{POSTGRES_PASSWORD}}@${{RAILWAY_TCP_PROXY_DOMAIN}}:${{RAILWAY_TCP_PROXY_PORT}}" } } },
            &api: { "variables": {
                "DB": { "value": "${{db.URL}}/${{shared.TEAM}}" },
                "LOOP": { "value": "x${{LOOP}}" },
                "GONE": { "value": "<${{nobody.X}}>" },
            } },
        },
    }));
    let proxy = proxies(&mut bench, &db)[0].clone();
    let query = "query Q($p: String!, $e: String!, $s: String!) {
        variablesForServiceDeployment(projectId: $p, environmentId: $e, serviceId: $s) }";
    let mut read = |service: &str| {
        let data = bench.ok(query, json!({ "p": bench.project, "e": bench.environment, "s": service }));
        data["variablesForServiceDeployment"].clone()
    };
    let (domain, port) = (text(&proxy, "/domain"), proxy["proxyPort"].clone());
    let (db, api) = (read(&db), read(&api));
    assert_eq!(text(&api, "/DB"), format!("pg://hunter2@{domain}:{port}/retail"));
    assert_eq!((text(&api, "/LOOP"), text(&api, "/GONE")), ("xxxxxxxxxx".into(), "<>".into()));
    assert_eq!(text(&db, "/RAILWAY_PRIVATE_DOMAIN"), "db.railway.internal");
    assert_eq!(text(&db, "/RAILWAY_VOLUME_MOUNT_PATH"), MOUNT);
    assert_eq!(
        (text(&db, "/RAILWAY_VOLUME_NAME"), text(&db, "/RAILWAY_TCP_APPLICATION_PORT")),
        ("pgdata".into(), "5432".into())
    );
}

#[test]
fn a_rename_keeps_the_private_name_and_a_proxy_its_port() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("old");
    bench.wait(1);
    let before = proxies(&mut bench, &service);
    let rename = "mutation M($id: String!) { serviceUpdate(id: $id, input: { name: \"new\" }) { name } }";
    assert_eq!(bench.ok(rename, json!({ "id": service }))["serviceUpdate"]["name"], "new");
    bench.commit(json!({ "services": { &service: { "variables": { "A": { "value": "1" } } } } }));
    bench.wait(10);
    assert_eq!(proxies(&mut bench, &service), before);
    let query = "query Q($p: String!, $e: String!, $s: String!) { variables(projectId: $p, environmentId: $e, serviceId: $s) }";
    let read = bench.ok(query, json!({ "p": bench.project, "e": bench.environment, "s": service }));
    assert_eq!(text(&read, "/variables/RAILWAY_PRIVATE_DOMAIN"), "old.railway.internal");
    assert_eq!(text(&read, "/variables/RAILWAY_SERVICE_NAME"), "new");
}

#[test]
fn direct_writes_of_an_instance_show_in_the_blob_and_wait_for_a_deploy() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, _) = bench.database("db");
    let update = "mutation M($e: String!, $s: String!, $in: ServiceInstanceUpdateInput!) {
        serviceInstanceUpdate(environmentId: $e, serviceId: $s, input: $in) }";
    let input = json!({ "startCommand": "postgres -c a=b", "sleepApplication": true });
    bench.ok(update, json!({ "e": bench.environment, "s": service, "in": input }));
    let limits = "mutation M($in: ServiceInstanceLimitsUpdateInput!) { serviceInstanceLimitsUpdate(input: $in) }";
    let at = json!({ "environmentId": bench.environment, "serviceId": service, "vCPUs": 2, "memoryGB": 1 });
    bench.ok(limits, json!({ "in": at }));
    let deploy = bench.config(false)["services"][&service]["deploy"].clone();
    assert_eq!(
        (deploy["startCommand"].clone(), deploy["sleepApplication"].clone()),
        (json!("postgres -c a=b"), json!(true))
    );
    assert_eq!(deploy["limitOverride"]["containers"], json!({ "cpu": 2.0, "memoryBytes": 1e9 }));
    assert_eq!(bench.deployments(&service), 1);
}

#[test]
fn a_deleted_project_takes_everything_with_it() {
    let mut bench = Bench::new(Plan::Pro);
    let (service, volume) = bench.database("db");
    bench.ok("mutation M($id: String!) { projectDelete(id: $id) }", json!({ "id": bench.project }));
    let query = "query Q($id: String!) { project(id: $id) { id } }";
    assert_eq!(bench.refused(query, json!({ "id": bench.project })), "Not Authorized");
    let now = bench.now;
    let world = bench.railway.world(now);
    assert!(world.service(&service).is_err());
    assert!(world.environments.values().all(|e| e.volume_instances[&volume].dies_at.is_some()));
}
