//! Every error as a person reads it: what was written, and the text it gets. One case at least for each code that
//! text alone can cause; `cli::load` tests those of reading files.

use super::*;

const BASE: &str = "\
apiVersion: ogelnates.dev/v1
kind: Fleet
metadata: { name: demo }
---
apiVersion: ogelnates.dev/v1
kind: Tier
metadata: { name: free }
spec: { limits: { connections: 5 }, placement: { pool: shared } }
---
apiVersion: ogelnates.dev/v1
kind: Tier
metadata: { name: pro }
spec: { limits: { connections: 50, serverConnections: 20 } }
---
apiVersion: ogelnates.dev/v1
kind: DatabasePool
metadata: { name: shared }
spec: { tenantsPerInstance: 2, instances: { max: 3 } }
";

const VERSION: &str = "apiVersion: ogelnates.dev/v1\n";

fn source(path: &str, text: impl Into<String>) -> Source {
    Source { path: path.to_owned(), text: text.into() }
}

/// The errors of `text` read beside a small valid fleet.
fn problems(text: &str) -> Problems {
    load(&[source("base.yaml", BASE), source("case.yaml", text)]).expect_err("the case is invalid")
}

/// `kind`, then the rest of the document, behind the version.
fn object(kind: &str, rest: &str) -> String {
    format!("{VERSION}kind: {kind}\n{rest}")
}

fn tenant(spec: &str) -> String {
    object("Tenant", &format!("metadata: {{ name: acme }}\nspec:\n  {}\n", spec.replace('\n', "\n  ")))
}

fn tier(spec: &str) -> String {
    object("Tier", &format!("metadata: {{ name: gold }}\nspec:\n  {}\n", spec.replace('\n', "\n  ")))
}

fn pool(spec: &str) -> String {
    object("DatabasePool", &format!("metadata: {{ name: big }}\nspec:\n  {}\n", spec.replace('\n', "\n  ")))
}

fn both(first: &str, second: &str) -> String {
    format!("{first}---\n{second}")
}

/// Input and output of all cases, in the order of the list; each case must cause its code.
fn rendered(cases: &[(Code, String)]) -> String {
    let mut text = String::new();
    for (code, input) in cases {
        let problems = problems(input);
        assert!(problems.iter().any(|problem| problem.code == *code), "{code}:\n{input}\n{}", problems.render());
        text.push_str(&format!("### {code} {}\n{}\n", code.entry().title, problems.render()));
    }
    text
}

fn yaml_cases() -> Vec<(Code, String)> {
    let deep = format!("kind: {}{}\n", "[".repeat(40), "]".repeat(40));
    vec![
        (Code::Syntax, "kind: Tenant\nmetadata: { name: acme\nspec: {}\n".to_owned()),
        (Code::Syntax, "kind: Tenant\n\tmetadata: {}\n".to_owned()),
        (Code::Syntax, "kind: Tenant\nspec: tier: pro\n".to_owned()),
        (Code::TooDeep, deep),
        (Code::Alias, tenant("limits: &l { connections: 5 }\nroles: [*l]\n<<: { tier: pro }")),
        (Code::Alias, tenant("tier: *nowhere")),
        (Code::Tag, tenant("tier: !!str pro")),
        (Code::NotText, "kind: Tenant\nmetadata: { name: \"a\u{0}b\" }\n".to_owned()),
        (Code::Empty, " \n\n".to_owned()),
    ]
}

fn shape_cases() -> Vec<(Code, String)> {
    vec![
        (Code::UnknownKey, tenant("tire: pro\nlimits:\n  conections: 5\n  sorage: 1Gi\nbogus: 1")),
        (Code::UnknownKey, object("Tenant", "metadata: { name: acme, annotations: {} }\nstatus: {}\n")),
        (Code::MissingKey, "apiVersion: ogelnates.dev/v1\nmetadata: { name: acme }\n".to_owned()),
        (Code::MissingKey, "kind: Tenant\nmetadata: {}\n".to_owned()),
        (Code::MissingKey, tier("price: { included: { egress: 1Gi } }")),
        (Code::WrongType, tenant("limits: { connections: \"5\" }\nroles: {}\nsuspended: yes\ntier: 7")),
        (Code::WrongType, tenant("tier:\ncredentials: 2")),
        (Code::WrongType, tier("limits: { connections: 5.5 }\noverLimit: { connections: queue }")),
        (Code::WrongType, "just text\n".to_owned()),
        (Code::UnknownKind, "apiVersion: ogelnates.dev/v1\nkind: Tennant\nmetadata: { name: acme }\n".to_owned()),
        (Code::WrongApiVersion, "apiVersion: v1\nkind: Tenant\nmetadata: { name: acme }\n".to_owned()),
        (Code::DuplicateKey, tenant("tier: free\nlimits: { connections: 2, connections: 3 }\ntier: pro")),
        (Code::BadKey, tenant("? [a, b]\n: 1\nnull: 2")),
    ]
}

fn reference_cases() -> Vec<(Code, String)> {
    let gold = "limits: { connections: 5 }";
    let silver = tier(&format!("{gold}\nupgrade: {{ to: gold }}")).replace("name: gold", "name: silver");
    let huge = pool("outgrow: { storage: 1Gi, to: big }").replace("name: big", "name: huge");
    let named = |name: &str, spec: &str| tenant(spec).replace("name: acme", &format!("name: {name}"));
    vec![
        (Code::DuplicateName, both(&tenant("tier: free"), &tenant("tier: free\nsuspended: true"))),
        (Code::UnknownTier, tenant("tier: fre")),
        (Code::UnknownTier, tier(&format!("{gold}\nupgrade: {{ to: platinum }}"))),
        (Code::UnknownPool, tenant("tier: free\nplacement: { pool: shard }")),
        (Code::UnknownPool, tenant("tier: free\nplacement: { instance: other-1 }")),
        (Code::UpgradeCycle, both(&tier(&format!("{gold}\nupgrade: {{ to: silver }}")), &silver)),
        (Code::UpgradeCycle, tier(&format!("{gold}\nupgrade: {{ to: gold }}"))),
        (Code::OutgrowCycle, both(&pool("outgrow: { storage: 1Gi, to: huge }"), &huge)),
        (Code::SeveralFleets, object("Fleet", "metadata: { name: other }\n")),
        (Code::NoTier, tenant("suspended: false")),
        (Code::NoPool, tenant("tier: pro")),
        (Code::PinnedOutside, tenant("tier: free\nplacement: { instance: shared-4 }")),
        (
            Code::DuplicatePublish,
            both(
                &named("one", "tier: free\npublish: [{ service: api, variable: DATABASE_URL }]"),
                &named("two", "tier: free\npublish: [{ service: api, variable: DATABASE_URL }]"),
            ),
        ),
        (
            Code::UnknownRole,
            tenant(
                "tier: free\nroles: [{ name: reader, grants: read }]\npublish: [{ service: api, variable: URL, role: raeder }]",
            ),
        ),
        (Code::BadRename, both(&named("old", "tier: free"), &named("new, renamedFrom: old", "tier: free"))),
        (Code::BadRename, object("Tier", "metadata: { name: gold, renamedFrom: free }\n")),
        (Code::NameClash, object("Router", "metadata: { name: shared-1 }\n")),
        (Code::NameClash, tenant("tier: free\npublish: [{ service: o7s-control, variable: URL }]")),
        (
            Code::TooManyPinned,
            ["one", "two", "three"].map(|n| named(n, "tier: free\nplacement: { instance: shared-1 }")).join("---\n"),
        ),
    ]
}

fn value_cases() -> Vec<(Code, String)> {
    let named = |name: &str| object("Tenant", &format!("metadata: {{ name: {name} }}\nspec: {{ tier: free }}\n"));
    vec![
        (Code::BadName, named("Acme_Corp")),
        (Code::BadName, tenant("tier: free\nroles: [{ name: read-only, grants: read }]")),
        (Code::ReservedName, named("postgres")),
        (Code::ReservedName, object("DatabasePool", "metadata: { name: o7s-control }\n")),
        (Code::ReservedName, tenant("tier: free\nroles: [{ name: acme, grants: read }]")),
        (Code::NameTooLong, named(&"x".repeat(49))),
        (
            Code::NameTooLong,
            named(&"x".repeat(48))
                .replace("tier: free", "tier: free, roles: [{ name: reads_everything, grants: read }]"),
        ),
        (Code::UnknownWord, tenant("tier: free\nstate: gone\ndeletionPolicy: Delete")),
        (
            Code::UnknownWord,
            tier("limits: { connections: 5 }\noverLimit: { storage: { queue: 2s }, egressPerMonth: readOnly }"),
        ),
        (Code::Negative, tenant("tier: free\nlimits: { connections: -1, storage: -1Gi }")),
        (
            Code::OutOfRange,
            tenant("tier: free\nlimits: { connections: 0, statementTimeout: 100d }\ncredentials: { generation: 0 }"),
        ),
        (Code::OutOfRange, pool("resources: { vcpu: 0.01, memory: 64Mi }\nvolume: 1Mi")),
        (Code::BadQuantity, tenant("tier: free\nlimits: { storage: 2GB, statementTimeout: 30 }")),
        (Code::BadQuantity, pool("outgrow: { serverTimeShare: 0.4, to: shared }")),
        (Code::Contradiction, tenant("tier: pro\nplacement: { pool: shared, instance: shared-1 }")),
        (Code::Contradiction, tenant("tier: pro\nplacement: { pool: shared }\nlimits: { connections: 10 }")),
        (Code::Contradiction, pool("instances: { min: 4, max: 2 }")),
        (Code::Contradiction, tier("limits: { connections: 5, serverConnections: 6 }")),
        (
            Code::BadDecimal,
            tier("limits: { connections: 5 }\nprice: { monthly: 1e3, overage: { egressPerGi: 0.0000000001 } }"),
        ),
        (
            Code::BadVariable,
            tenant("tier: free\npublish: [{ service: api, variable: O7S_OWNER }, { service: api, variable: 1URL }]"),
        ),
        (Code::BadText, object("Router", "metadata: { name: edge }\nspec: { domain: \"https://db.example.com\" }\n")),
        (Code::BadText, tier("limits: { connections: 5 }\nupgrade: { to: pro, url: example.com, message: \"\" }")),
        (Code::BadText, pool("postgres: { image: \"my image\" }\nregion: US_West")),
        (
            Code::BadText,
            object("Tenant", "metadata: { name: acme, labels: { team: \"a b\" } }\nspec: { tier: free }\n"),
        ),
        (Code::Contradiction, object("Router", "metadata: { name: edge }\nspec: { identify: [sni, jwt] }\n")),
        (
            Code::Contradiction,
            object("Router", "metadata: { name: edge }\nspec: { jwt: { jwks: \"https://a/\", secretFrom: A } }\n"),
        ),
        (Code::MissingKey, object("Router", "metadata: { name: edge }\nspec: { jwt: { audience: a } }\n")),
        (
            Code::BadText,
            object("Router", "metadata: { name: edge }\nspec: { jwt: { jwks: \"http://a@b.example/keys\" } }\n"),
        ),
        (
            Code::BadVariable,
            object("Router", "metadata: { name: edge }\nspec: { jwt: { secretFrom: O7S_MASTER_KEY } }\n"),
        ),
        (Code::DuplicateEntry, object("Router", "metadata: { name: edge }\nspec: { identify: [sni, user, sni] }\n")),
        (Code::DuplicateEntry, tenant("tier: free\nroles: [{ name: a, grants: read }, { name: a, grants: write }]")),
    ]
}

#[test]
fn errors_of_yaml_read_well() {
    insta::assert_snapshot!(rendered(&yaml_cases()));
}

#[test]
fn errors_of_shape_read_well() {
    insta::assert_snapshot!(rendered(&shape_cases()));
}

#[test]
fn errors_of_references_read_well() {
    insta::assert_snapshot!(rendered(&reference_cases()));
}

#[test]
fn errors_of_values_read_well() {
    insta::assert_snapshot!(rendered(&value_cases()));
}

#[test]
fn every_code_has_a_case() {
    let cases = [yaml_cases(), shape_cases(), reference_cases(), value_cases()].concat();
    // Caused by the disk or by sheer size: tested with `cli::load` and below.
    let elsewhere = [
        Code::FileTooLarge,
        Code::TooManyNodes,
        Code::SymlinkEscape,
        Code::NotFound,
        Code::Unreadable,
        Code::TooMany,
        Code::NoFleet,
    ];
    for code in Code::ALL {
        let found = cases.iter().any(|(case, _)| case == code) || elsewhere.contains(code);
        assert!(found, "{code} {} has no case", code.entry().title);
    }
}

fn codes(text: &str) -> Vec<Code> {
    problems(text).iter().map(|problem| problem.code).collect()
}

#[test]
fn a_file_is_bounded_in_bytes_and_in_values() {
    assert_eq!(codes(&format!("# {}", "x".repeat(FILE_BYTES_MAX))), [Code::FileTooLarge]);
    assert_eq!(codes(&format!("a: [{}]", "1,".repeat(260_000))), [Code::TooManyNodes]);
}

#[test]
fn an_input_without_a_fleet_says_so() {
    let text = tenant("tier: free");
    let problems = load(&[source("a.yaml", text)]).expect_err("no fleet");
    insta::assert_snapshot!(problems.render(), @r"
    a.yaml:1:1: error[O7S1206]: no Fleet is declared
      = add a document of `kind: Fleet` with a name; it says which Railway project this is

    a.yaml:5:9: error[O7S1202]: unknown tier `free`, the tier of tenant `acme`
      |
    5 |   tier: free
      |         ^^^^
      = none is declared
      = add a Tier named `free`, or correct the word

    2 errors in the manifests
    ");
    assert_eq!(load(&[]).expect_err("nothing").iter().map(|p| p.code).collect::<Vec<_>>(), [Code::Empty]);
}

#[test]
fn errors_of_all_documents_and_files_come_together_in_the_order_of_their_places() {
    let broken =
        both("kind: [\n", &both(&tenant("tire: free\nstat: x"), &object("Router", "metadata: { name: X }\n")));
    let problems = load(&[source("b.yaml", BASE.replace("Fleet", "Fleat")), source("a.yaml", broken)]);
    let problems = problems.expect_err("invalid");
    let places: Vec<String> =
        problems.iter().map(|p| format!("{}:{}:{} {}", p.path, p.line, p.col, p.code)).collect();
    insta::assert_snapshot!(places.join("\n"), @r"
    a.yaml:1:7 O7S1001
    a.yaml:7:3 O7S1101
    a.yaml:8:3 O7S1101
    a.yaml:12:19 O7S1301
    b.yaml:2:7 O7S1104
    ");
}

#[test]
fn a_thousand_errors_are_shown_and_the_rest_is_counted() {
    let keys: String = (0..1_500).map(|n| format!("  k{n}: 1\n")).collect();
    let problems = problems(&format!("{}{keys}", tenant("tier: free")));
    assert_eq!((problems.iter().count(), problems.count()), (1_000, 1_500));
    assert!(problems.render().contains("… and 500 more\n"));
}

#[test]
fn the_first_line_of_an_error_is_never_wrapped_and_holds_no_control_character() {
    let name = "x\\e[31m\\n".repeat(200);
    for problem in problems(&tenant(&format!("tier: \"{name}\""))).iter() {
        let text = problem.to_string();
        let first = text.lines().next().expect("a line");
        assert!(first.starts_with("case.yaml:5:9: error[O7S1301]: ") && first.len() < 300, "{first}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}

/// Found by a law: nobody else reads such a document, so this must be an error of its own.
#[test]
fn a_misspelt_kind_is_an_error_and_not_a_document_without_one() {
    for text in ["0kind: ", "knid: Tenant\n"] {
        let problems = load(&[Source { path: "a.yaml".into(), text: text.to_owned() }]).expect_err("no manifest");
        assert!(problems.render().contains("did you mean `kind`?"), "{}", problems.render());
    }
}

/// Would not end within hours if each error walked its line of a mebibyte.
#[test]
fn a_long_line_full_of_errors_is_answered() {
    let text = format!("a: [{}]", "&a 1,".repeat(150_000));
    let problems = problems(&text);
    // The anchors, the missing `kind` and the unknown key `a`.
    assert_eq!((problems.iter().count(), problems.count()), (1_000, 150_002));
}
