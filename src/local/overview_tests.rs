//! What the page for people shows, and what it must not.

use serde_json::json;

use super::bench::Bench;
use super::overview::{Around, page};
use super::world::{Fault, Plan, Rule};

fn shown(bench: &mut Bench) -> String {
    let now = bench.now;
    let requests = bench.railway.requests().clone();
    let world = bench.railway.world(now);
    let faults = world.faults.list().to_vec();
    let around =
        Around { requests: &requests, faults: &faults, ready: true, url: "http://127.0.0.1:1/graphql/v2".into() };
    page(world, &around, now)
}

/// The page as a reader sees it: tags gone, one space between words.
fn text(page: &str) -> String {
    let body = page.split_once("<body>").expect("a body").1;
    let words = body.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    words.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_empty_workspace_says_so() {
    let mut bench = Bench::new(Plan::Hobby);
    let project = bench.project.clone();
    bench.ok("mutation D($id: String!) { projectDelete(id: $id) }", json!({ "id": project }));
    let said = text(&shown(&mut bench));
    assert!(said.contains("Plan hobby") && said.contains("No projects yet."), "{said}");
}

#[test]
fn everything_of_the_world_is_on_the_page() {
    let mut bench = Bench::new(Plan::Pro);
    let (db, _) = bench.database("db");
    bench.wait(60);
    bench.commit(json!({ "services": { &db: { "variables": { "GREETING": { "value": "hello" } } } },
        "sharedVariables": { "REGION": { "value": "north" } } }));
    bench.wait(60);
    bench.railway.order(Rule { service: Some("db".into()), count: Some(3), ..Rule::once(Fault::DeployFails) });
    bench.railway.order(Rule { operation: Some("Slow".into()), count: None, ..Rule::once(Fault::TooManyRequests) });
    let said = text(&shown(&mut bench));
    let (project, environment) = (&bench.project, &bench.environment);
    for part in [
        format!("Project fleet {project}"),
        format!("Environment production {environment}"),
        format!("db ghcr.io/railwayapp-templates/postgres-ssl:17 {db} SUCCESS"),
        "SUCCESS 2027-01-15T08:01:00Z REMOVED 2027-01-15T08:00:00Z".into(),
        "→ 5432 ACTIVE".into(),
        "GREETING".into(),
        "Shared variables: REGION".into(),
        "db at /var/lib/postgresql/data 1250 of 50000 MB us-west2 READY".into(),
        "deploy-fails any request db 3".into(),
        "429 Slow any service until cleared".into(),
        "Commit 2 CreateService 1".into(),
    ] {
        assert!(said.contains(&part), "{part}\nis not in\n{said}");
    }
}

#[test]
fn values_of_variables_stay_out_and_names_are_no_markup() {
    let mut bench = Bench::new(Plan::Pro);
    let (db, _) = bench.database("<script>alert(1)</script>");
    bench.commit(json!({ "services": { &db: { "variables": { "PASSPHRASE": { "value": "hunter-two" } } } },
        "sharedVariables": { "SHARED": { "value": "hunter-three" } } }));
    bench.wait(60);
    let page = shown(&mut bench);
    assert!(page.contains("PASSPHRASE") && page.contains("SHARED"));
    assert!(!page.contains("hunter-"), "a value");
    assert!(!page.contains(bench.railway.token().expose()), "the token");
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
    let foreign = ["http://", "https://", "src=", "href=", "@import", "url("];
    let found: Vec<_> =
        foreign.iter().filter(|part| page.replace("http://127.0.0.1:1/", "").contains(**part)).collect();
    assert!(found.is_empty(), "nothing is fetched or followed: {found:?}");
}
