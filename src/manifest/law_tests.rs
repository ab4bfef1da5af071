//! Laws: nothing a file can hold makes the room panic or point outside of the file; order has no effect.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// A fleet with every key there is, one document each.
const DOCUMENTS: [&str; 8] = [
    "apiVersion: ogelnates.dev/v1
kind: Fleet
metadata: { name: demo }
spec:
  railway: { project: demo, environment: staging, plan: hobby }
  defaults: { tier: free }
  billing: { currency: USD, overhead: even, markup: { percent: 140 } }
  safety: { maxRemovals: 3 }
  paused: false
",
    "apiVersion: ogelnates.dev/v1
kind: Tier
metadata: { name: free }
spec:
  limits: { connections: 20, serverConnections: 5, queriesPerMinute: 3000, storage: 2Gi, egressPerMonth: 20Gi, statementTimeout: 30s }
  overLimit: { connections: { queue: 5s }, queriesPerMinute: { slow: 2s }, egressPerMonth: reject, storage: readOnly }
  placement: { pool: shared }
  price: { monthly: 9.00, included: { egress: 20Gi }, overage: { egressPerGi: 0.12 } }
  upgrade: { to: pro, message: \"Grüße\", url: \"https://example.com/upgrade\" }
",
    "apiVersion: ogelnates.dev/v1
kind: Tier
metadata: { name: pro }
spec: { limits: { connections: 50 }, placement: { pool: dedicated } }
",
    "apiVersion: ogelnates.dev/v1
kind: DatabasePool
metadata: { name: shared }
spec:
  postgres: { image: \"ghcr.io/railwayapp-templates/postgres-ssl:17\", maxConnections: 200 }
  region: us-west2
  volume: 10Gi
  resources: { vcpu: 0.5, memory: 2Gi }
  tenantsPerInstance: 50
  instances: { min: 1, max: 8 }
  sleepWhenIdle: true
  outgrow: { storage: 5Gi, serverTimeShare: 40%, for: 30m, to: dedicated, auto: true }
  paused: true
",
    "apiVersion: ogelnates.dev/v1
kind: DatabasePool
metadata: { name: dedicated }
",
    "apiVersion: ogelnates.dev/v1
kind: Router
metadata: { name: edge }
spec:
  replicas: 3
  domain: db.example.com
  pooling: session
  identify:
    - jwt
    - sni
  jwt:
    jwks: https://login.example.com/keys
    audience: db.example.com
    tenantClaim: org
",
    "apiVersion: ogelnates.dev/v1
kind: Tenant
metadata: { name: acme, renamedFrom: acne, labels: { team: retail } }
spec:
  tier: pro
  placement: { instance: shared-2 }
  limits: { connections: 200 }
  roles: [{ name: reader, grants: read }, { name: jobs, grants: write }]
  suspended: true
  credentials: { generation: 4 }
  state: absent
  deletionPolicy: delete
  publish:
    - { service: api, variable: DATABASE_URL }
    - { service: api, variable: READ_URL, role: reader }
",
    "apiVersion: ogelnates.dev/v1
kind: Tenant
metadata: { name: beta }
",
];

fn files(documents: &[&str]) -> Vec<Source> {
    let file = |(n, text): (usize, &&str)| Source { path: format!("f{n}.yaml"), text: (*text).to_owned() };
    documents.iter().enumerate().map(file).collect()
}

fn one_file(text: String) -> Vec<Source> {
    vec![Source { path: "all.yaml".to_owned(), text }]
}

/// What must be true of any answer.
fn check_answer(sources: &[Source]) -> Result<(), TestCaseError> {
    let Err(problems) = load(sources) else { return Ok(()) };
    for problem in problems.iter() {
        let text = sources.iter().find(|source| *source.path == *problem.path).map_or("", |source| &source.text);
        // A lone carriage return ends a line for YAML; `str::lines` does not know that.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let line = text.lines().nth(problem.line as usize - 1);
        prop_assert!(line.is_some() || (problem.line, problem.col) == (1, 1), "{problem}");
        let width = line.unwrap_or("").chars().count();
        prop_assert!(problem.col >= 1 && problem.col as usize <= width + 1, "{problem}");
        let place = format!("{}:{}:{}: error[{}]: ", problem.path, problem.line, problem.col, problem.code);
        prop_assert!(problem.to_string().starts_with(&place), "{problem}");
        prop_assert!(!problem.message.contains(char::is_control) && !problem.help.is_empty(), "{problem}");
    }
    Ok(())
}

/// Text that YAML finds interesting.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        prop::sample::select(vec![
            "\n",
            "  ",
            ": ",
            "- ",
            "? ",
            "[",
            "]",
            "{",
            "}",
            ",",
            "\"",
            "'",
            "|\n",
            ">-\n",
            "&a ",
            "*a",
            "!t ",
            "# ",
            "---\n",
            "...\n",
            "%YAML 1.2\n",
            "\r",
            "\r\n",
            "\t",
            "~",
            "<<",
            "-1",
            "0.5",
            "\u{feff}",
            "é",
            "kind: ",
            "apiVersion: ",
            "metadata: ",
            "spec: ",
            "name: ",
            "Tenant\n",
            "Tier\n",
            "limits: ",
            "connections: ",
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_point_outside(text in yaml_like()) {
        check_answer(&one_file(text))?;
    }

    #[test]
    fn no_bytes_make_it_panic_or_point_outside(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_answer(&one_file(String::from_utf8_lossy(&bytes).into_owned()))?;
    }

    #[test]
    fn a_valid_fleet_damaged_anywhere_is_an_answer_too(
        damage in prop::collection::vec((any::<Index>(), any::<Index>(), yaml_like()), 1..4),
    ) {
        let mut text: Vec<char> = DOCUMENTS.join("---\n").chars().collect();
        for (at, length, insert) in damage {
            let start = at.index(text.len() + 1);
            let end = (start + length.index(12)).min(text.len());
            text.splice(start..end, insert.chars().take(8));
        }
        check_answer(&one_file(text.into_iter().collect()))?;
    }

    #[test]
    fn the_order_of_files_has_no_effect(order in Just((0..DOCUMENTS.len()).collect::<Vec<_>>()).prop_shuffle()) {
        let sources = files(&DOCUMENTS);
        let shuffled: Vec<Source> = order.iter().map(|&n| sources[n].clone()).collect();
        prop_assert_eq!(load(&shuffled), load(&sources));
    }

    #[test]
    fn the_order_of_documents_has_no_effect_but_on_lines(
        order in Just(DOCUMENTS.to_vec()).prop_shuffle(),
    ) {
        let there = load(&one_file(DOCUMENTS.join("---\n"))).map(without_origins);
        prop_assert!(there.is_ok());
        prop_assert_eq!(load(&one_file(order.join("---\n"))).map(without_origins), there);
    }

    #[test]
    fn the_order_of_errors_does_not_depend_on_the_order_of_files(order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let broken = DOCUMENTS.map(|text| text.replace("shared", "shraed").replace("name: ", "nmae: "));
        let sources = files(&broken.each_ref().map(String::as_str));
        let shuffled: Vec<Source> = order.iter().map(|&n| sources[n].clone()).collect();
        prop_assert_eq!(load(&shuffled), load(&sources));
    }
}

fn without_origins(mut desired: Desired) -> Desired {
    let clear = |origins: &mut Origins| {
        origins.fields.clear();
        origins.object.line = 0;
    };
    desired.tiers.values_mut().for_each(|tier| clear(&mut tier.origins));
    desired.pools.values_mut().for_each(|pool| clear(&mut pool.origins));
    desired.routers.values_mut().for_each(|router| clear(&mut router.origins));
    desired.tenants.values_mut().for_each(|tenant| clear(&mut tenant.origins));
    clear(&mut desired.fleet.origins);
    desired
}
