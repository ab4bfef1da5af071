//! What is fuzzed (`fuzz/`), bounded, on inputs that get far: random ones, and ones made of right messages with a mistake here
//! and there. And that each has its target.

#[path = "../../fuzz/src/lib.rs"]
mod entries;

use base64::Engine as _;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::router::wire;

const TEXTS: [&str; 18] = [
    "SELECT 1",
    "SELECT 1; SELECT 2",
    "",
    ";",
    "FAIL",
    "BAD",
    "SELECT 1; FAIL; SELECT 2",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "ROLLBACK TO s",
    "SET a = 1",
    "SET a = 2; RESET b",
    "DISCARD ALL",
    "DEALLOCATE ALL",
    "DEALLOCATE a",
    "SELECT currval('s')",
    "LISTEN bell",
];

/// A message of a client's.
fn asked() -> impl Strategy<Value = Vec<u8>> {
    let (name, text) = (|| select(vec!["", "", "a", "b"]), || select(TEXTS.to_vec()));
    prop_oneof![
        4 => (name(), text()).prop_map(|(name, text)| wire::parse(name, text)),
        4 => (name(), name()).prop_map(|(portal, name)| wire::bind(portal, name, &[b"7"])),
        2 => (select(vec![b'S', b'P']), name()).prop_map(|(kind, name)| wire::describe(kind, name)),
        4 => name().prop_map(|name| wire::execute(name, 0)),
        2 => (select(vec![b'S', b'P']), name()).prop_map(|(kind, name)| wire::close(kind, name)),
        4 => Just(wire::sync()),
        1 => Just(wire::flush()),
        3 => text().prop_map(wire::query),
        1 => Just(wire::message(b'F', &[0; 10])),
        1 => select(vec![wire::copy_data("x"), wire::copy_done(), wire::copy_fail("no")]),
    ]
}

/// A message of a server's.
fn answered() -> impl Strategy<Value = Vec<u8>> {
    let error = |code: &str| format!("SERROR\0VERROR\0C{code}\0Mno\0RRevalidateCachedQuery\0\0").into_bytes();
    let bodies = vec![
        (b'1', vec![]),
        (b'2', vec![]),
        (b'3', vec![]),
        (b'n', vec![]),
        (b'I', vec![]),
        (b's', vec![]),
        (b't', vec![0, 0]),
        (b'T', vec![0, 0]),
        (b'D', vec![0; 20]),
        (b'V', vec![0xff; 4]),
        (b'G', vec![0; 3]),
        (b'H', vec![0; 3]),
        (b'd', b"x\n".to_vec()),
        (b'c', vec![]),
        (b'C', b"SELECT 1\0".to_vec()),
        (b'C', b"SET\0".to_vec()),
        (b'C', b"DISCARD ALL\0".to_vec()),
        (b'C', b"ROLLBACK\0".to_vec()),
        (b'S', b"application_name\0x\0".to_vec()),
        (b'N', error("01000")),
        (b'E', error("0A000")),
        (b'E', error("25006")),
        (b'E', b"SFATAL\0VFATAL\0C57P01\0Mgone\0\0".to_vec()),
        (b'A', b"\0\0\0\x01bell\0ding\0".to_vec()),
        (b'Z', b"I".to_vec()),
        (b'Z', b"I".to_vec()),
        (b'Z', b"T".to_vec()),
        (b'Z', b"E".to_vec()),
    ];
    select(bodies).prop_map(|(tag, body)| wire::message(tag, &body))
}

/// With its length before it.
fn part(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

/// Some byte may be another one.
fn spoiled(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (bytes, proptest::option::of((any::<Index>(), any::<u8>()))).prop_map(|(mut bytes, change)| {
        if let Some((at, byte)) = change.filter(|_| !bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

fn many(one: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    vec(one, 0..24).prop_map(|messages| messages.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_at_all_break_no_law(data in vec(any::<u8>(), 0..300)) {
        entries::ENTRIES.iter().for_each(|(_, entry)| entry(&data));
    }

    #[test]
    fn where_the_network_cuts_a_clients_messages_changes_nothing(
        head: [u8; 2], stream in spoiled(many(asked())),
    ) {
        entries::client(&[&head[..], &stream].concat());
    }

    #[test]
    fn where_the_network_cuts_a_servers_messages_changes_nothing(
        head: [u8; 2], asked in many(asked()), stream in spoiled(many(answered())),
    ) {
        entries::replies(&[&head[..], &part(&asked), &stream].concat());
    }

    #[test]
    fn the_router_is_never_out_of_step_with_a_server(
        head: [u8; 2], rounds in vec(spoiled(many(asked())), 1..5),
    ) {
        let rounds: Vec<u8> = rounds.iter().flat_map(|round| part(round)).collect();
        entries::session(&[&head[..], &rounds].concat());
    }

    #[test]
    fn packets_before_the_login_are_read_whole_or_not_at_all(
        flags: u8, packets in vec(spoiled(select(packets())), 0..4),
    ) {
        entries::startup(&[&[flags], &packets.concat()[..]].concat());
    }

    #[test]
    fn whoever_is_identified_is_in_the_table(
        flags: u8,
        name in "(acme|a_b|)\\.?(db\\.example|)",
        user in "(token|reader|acme|a_b|x){0,2}[._]?(acme|a_b|reader|)(~session)?",
        database in "(acme|a_b|other)(~transaction)?",
        options in "(-c o7s\\.(tenant|pooling|auth)=(acme|a_b|token|session) ?){0,2}",
    ) {
        let body = format!("user\0{user}\0database\0{database}\0options\0{options}\0\0");
        entries::identify(&[&[flags], &part(name.as_bytes())[..], body.as_bytes()].concat());
    }

    #[test]
    fn scram_is_proved_to_nobody_by_nobody(
        flags: u8, stream in spoiled(many(select(logins()))), text in spoiled(select(scrams())),
    ) {
        entries::scram(&[&[flags], &stream[..]].concat());
        let (one, other) = text.split_at(text.len() / 2);
        entries::scram(&[&[flags], &part(one)[..], other].concat());
        entries::scram(&[&[flags], &part(&text)[..], &text].concat());
    }

    #[test]
    fn a_file_of_routes_is_read_twice_alike(text in spoiled(select(files()))) {
        entries::routes(&text);
    }

    #[test]
    fn an_unsigned_token_is_never_right(text in spoiled(select(tokens()))) {
        entries::jwt(&text);
    }
}

fn packets() -> Vec<Vec<u8>> {
    let code = |code: u32, body: &[u8]| {
        let length = u32::try_from(body.len() + 8).expect("short");
        [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    };
    vec![
        code(80_877_103, b""),
        code(80_877_104, b""),
        code(80_877_102, &[7; 8]),
        code(80_877_102, &[7; 36]),
        code(0x3_0000, b"user\0acme\0database\0acme\0\0"),
        code(0x3_0002, b"user\0acme\0options\0-c o7s.tenant=acme -c a=b\0_pq_.x\0y\0\0"),
    ]
}

fn logins() -> Vec<Vec<u8>> {
    let first = b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=abcdefghijklmnopqrstuvwx".to_vec();
    vec![
        wire::message(b'p', &first),
        wire::message(b'p', b"c=biws,r=abcdefghijklmnopqrstuvwxabcdefghijklmnopqrstuvwx,p=AAAA"),
        wire::message(b'R', &[0, 0, 0, 0]),
        wire::message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"),
        wire::message(b'R', b"\0\0\0\x0br=abcdefghijklmnopqrstuvwxyz,s=AAAA,i=4096"),
        wire::message(b'R', b"\0\0\0\x0cv=AAAA"),
        wire::message(b'S', b"server_version\x0018\0"),
        wire::message(b'N', b"SNOTICE\0Mhi\0\0"),
        wire::message(b'v', &[0, 3, 0, 0, 0, 0, 0, 0]),
        wire::message(b'K', &[7; 8]),
        wire::message(b'Z', b"I"),
        wire::message(b'E', b"SFATAL\0C28P01\0Mno\0\0"),
    ]
}

fn scrams() -> Vec<Vec<u8>> {
    let texts = [
        "n,,n=,r=abcdefghijklmnopqrstuvwx",
        "p=tls-server-end-point,,n=,r=abc",
        "y,,n=u,r=abc,x=y",
        "r=abcdefghijklmnopqrstuvwxyz,s=AAAA,i=4096",
        "c=biws,r=abcabcdefghijklmnopqrstuvwx,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn files() -> Vec<Vec<u8>> {
    let texts = [
        "routes:\n  acme: { endpoint: '127.0.0.1:5432', pooling: session, roles: { acme: { auth: trust } } }\n",
        "identify: [user]\ndomain: db.example\nroutes:\n  '*': { endpoint: ['[::1]:1', 'b:2'], roles: { '*': { auth: lookup } } }\n",
        r#"{"routes": {"a": {"endpoint": "localhost:1", "state": "paused", "roles": {"r": {"password": "x"}}}}}"#,
        "routes:\n  a: &x { endpoint: 'a:1', tls: true, administrator: { user: p, password: q } }\n  b: *x\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn tokens() -> Vec<Vec<u8>> {
    let coded = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let claims = coded(r#"{"tenant":"a","exp":9999999999}"#);
    let [none, shared] = [("none", ""), ("HS256", "AAAA")]
        .map(|(name, signature)| format!("{}.{claims}.{signature}", coded(&format!(r#"{{"alg":"{name}"}}"#))));
    let texts = [
        &none,
        &shared,
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA","alg":"ES256","kid":"k"},{"kty":"oct","k":"AAAA"}]}"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

#[test]
fn each_of_them_has_a_target_that_does_just_that() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).expect("read");
    let package = read("Cargo.toml");
    for (name, _) in entries::ENTRIES {
        let target = read(&format!("fuzz_targets/{name}.rs"));
        let call = format!("libfuzzer_sys::fuzz_target!(|data: &[u8]| ogelnates_fuzz::{name}(data));\n");
        assert!(target.ends_with(&format!("#![no_main]\n{call}")), "{target}");
        assert!(package.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
    assert_eq!(package.matches("[[bin]]").count(), entries::ENTRIES.len());
}
