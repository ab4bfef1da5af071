//! Until the login is over, on either side.

use std::sync::Arc;

use ogelnates::manifest::{Identify, Pooling};
use ogelnates::router::handover::{Proof, ScramKeys};
use ogelnates::router::identify::{Identity, Rules};
use ogelnates::router::protocol::client_login::{ClientLogin, Progress};
use ogelnates::router::protocol::scram::{
    ClientSecret, Offer, SCRAM, SCRAM_PLUS, ScramClient, ScramServer, mock_verifier,
};
use ogelnates::router::protocol::server_login::{self, Ask, ServerLogin};
use ogelnates::router::protocol::startup::{Startup, Step, Tls};
use ogelnates::router::table::{Encryption, Entry, Login, Roles, State, Table};

use super::{first, part, pieces};

/// A packet is understood when it is there in whole, and not before.
pub fn startup(data: &[u8]) {
    let (flags, mut rest) = first(data);
    let tls = || [Tls::Offered, Tls::Absent, Tls::Active][usize::from(flags) % 3];
    let mut reader = Startup::new(tls());
    loop {
        let Ok((taken, step)) = reader.step(rest) else { return };
        match step {
            Step::Hello(_) | Step::Cancel(_) => {
                let cut = usize::from(flags) % taken;
                assert!(matches!(Startup::new(tls()).step(&rest[..cut]), Ok((0, Step::More))));
                return;
            }
            Step::Decline => rest = &rest[taken..],
            Step::More | Step::DirectTls | Step::BeginTls => return,
        }
    }
}

/// Whoever is found is in the table, as a role that may log in.
pub fn identify(data: &[u8]) {
    let (flags, rest) = first(data);
    let (name, body) = part(rest);
    let packet = [&(u32::try_from(body.len() + 8).expect("short")).to_be_bytes()[..], &[0, 3, 0, 0], body].concat();
    let Ok((_, Step::Hello(hello))) = Startup::new(Tls::Absent).step(&packet) else { return };
    let sources = [Identify::Sni, Identify::Options, Identify::User, Identify::Database, Identify::Jwt];
    let chosen = sources.into_iter().enumerate().filter(|(at, _)| flags & (1 << at) != 0).map(|(_, source)| source);
    let rules =
        Rules { identify: chosen.collect(), domain: Some("db.example".into()), notices: false, require_tls: false };
    let mut table = Table { wildcard: (flags & 32 != 0).then(|| entry("*", None, true)), ..Table::default() };
    for (tenant, role, others) in [("acme", Some("acme_reader"), false), ("a_b", Some("a_b"), true)] {
        table.entries.insert(tenant.into(), entry(tenant, role, others));
    }
    let name = String::from_utf8_lossy(name);
    let found = ogelnates::router::identify::identify(&rules, &table, (flags & 64 != 0).then_some(&*name), &hello);
    if let Ok(Identity::Role(who)) = found {
        match who.entry {
            None => assert_eq!(who.refusal, None),
            Some(entry) => {
                assert!(table.get(&entry.tenant).is_some() || table.wildcard.is_some());
                assert!(entry.roles.login(&who.role).is_some());
            }
        }
    }
}

fn entry(tenant: &str, role: Option<&str>, others: bool) -> Arc<Entry> {
    Arc::new(Entry {
        tenant: tenant.into(),
        instance: "i".into(),
        database: tenant.into(),
        endpoints: Vec::new(),
        encryption: Encryption::Disabled,
        pooling: Pooling::Transaction,
        state: State::Active,
        roles: Roles {
            named: role.into_iter().map(|role| (role.into(), Login::LookUp)).collect(),
            others: others.then_some(Login::LookUp),
        },
        server_connections: 1,
        tier: "".into(),
        allowance: None,
        upgrade: None,
        version: 1,
    })
}

const NONCE: &str = "abcdefghijklmnopqrstuvwx";

/// Nobody proves what nobody knows, as client or as server; and a server's messages mean the same however they are cut.
pub fn scram(data: &[u8]) {
    let (flags, rest) = first(data);
    let keys = Arc::new(ScramKeys { client_key: [1; 32], server_key: [2; 32] });
    let end_point = (flags & 1 != 0).then(|| vec![7; 32]);
    let server = || ScramServer::new(mock_verifier(&[0; 32], "x"), NONCE.into(), end_point.clone());
    let (one, other) = part(rest);
    if let Ok((_, awaiting)) = server().first(if flags & 2 == 0 { SCRAM } else { SCRAM_PLUS }, one) {
        assert!(awaiting.last(other).is_err());
    }
    let offer = Offer { plain: true, plus: flags & 2 != 0, end_point: end_point.clone() };
    let (_, _, client) = ScramClient::start(ClientSecret::Keys(keys.clone()), NONCE, offer).expect("offered");
    if let Ok(challenge) = client.challenge(one) {
        assert!(challenge.answer().1.check(other).is_err());
    }

    let mut out = Vec::new();
    let mut login = ClientLogin::scram(mock_verifier(&[0; 32], "x"), NONCE.into(), end_point.clone(), &mut out);
    let mut left = rest;
    while let Ok((taken, progress)) = login.step(left, &mut out) {
        assert!(matches!(progress, Progress::More));
        if taken == 0 {
            break;
        }
        left = &left[taken..];
    }

    let run = |pieces: &[&[u8]]| {
        let proof = if flags & 4 == 0 { Proof::Keys(keys.clone()) } else { Proof::Trust };
        let (end_point, nonce) = (end_point.clone(), NONCE.to_owned());
        let loopback = flags & 8 != 0;
        let ask = Ask { database: "d", role: "r", settings: &[], proof: &proof, nonce, end_point, loopback };
        let (mut sent, mut login) = ServerLogin::start(ask);
        for piece in pieces {
            login.feed(piece);
            loop {
                match login.step() {
                    Err(error) => return (sent, format!("{error:?}")),
                    Ok(server_login::Step::Read) => break,
                    Ok(server_login::Step::Send(bytes)) => sent.extend(bytes),
                    Ok(server_login::Step::Hash(challenge)) => sent.extend(login.answer(challenge.answer())),
                    // What follows is the session's.
                    Ok(server_login::Step::Done(done)) => {
                        assert!(loopback, "the server has proved nothing");
                        return (sent, format!("{:?} {} {:?}", done.parameters, done.process, done.secret));
                    }
                }
            }
        }
        (sent, String::new())
    };
    assert_eq!(run(&pieces(rest, flags)), run(&[rest]));
}
