//! What clients above a ceiling read.

use std::sync::Arc;

use super::*;
use crate::router::open;
use crate::tenancy::Upgrade;

fn entry(upgrade: Option<Upgrade>) -> Entry {
    Entry { server_connections: 5, tier: "free".into(), upgrade, ..open::tests::entry("shared-1", Vec::new()) }
}

#[test]
fn each_refusal_names_tenant_limit_use_and_what_to_do() {
    let entry = entry(Some(Upgrade {
        to: "starter".into(),
        message: Some("20 connections".into()),
        url: Some("https://example.com/upgrade".into()),
    }));
    let full = |used, frees_in| Full { used, frees_in };
    let reports = [
        connections(&entry, 5, full(5, None)),
        queries(&entry, 300, full(300, Some(11_200))),
        queries(&entry, 300, full(301, None)),
        egress(&entry, 1 << 30, full(1 << 30, Some(6 * 86_400_000))),
        egress(&entry, 1 << 30, full(1 << 30, Some(3_600_001))),
        storage(&entry, 256 << 20, 257 << 20, false),
        storage(&entry, 256 << 20, 300 << 20, true),
        statement_time(&entry, Millis(10_000)),
        server_connections(
            &entry,
            Severity::Error,
            60,
            Some(b"SFATAL\0C53300\0Mtoo many connections for role \"acme\"\0\0"),
        ),
        server_connections(&entry, Severity::Fatal, 60, None),
        unknown(&entry, Ceiling::Connections),
        unknown(&entry, Ceiling::QueriesPerMinute),
        notice(&entry, Ceiling::QueriesPerMinute, 240, 300),
        notice(&entry, Ceiling::Storage, 210 << 20, 256 << 20),
    ];
    let text = |report: &Report<'_>| {
        let hint = report.hint.as_deref().unwrap_or_default();
        let detail = report.detail.as_deref().map(|text| format!("\nDETAIL: {text}")).unwrap_or_default();
        format!("{:?} {}: {}{detail}\nHINT: {hint}", report.severity, report.code, report.message)
    };
    let mut texts: Vec<String> = reports.iter().map(text).collect();
    texts.push(requests(&entry, 100, full(100, Some(1))));
    insta::assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn without_an_upgrade_the_hint_says_what_can_be_done_here() {
    let entry = Arc::new(entry(None));
    let report = connections(&entry, 5, Full { used: 5, frees_in: None });
    assert_eq!(report.hint.as_deref(), Some("Close idle connections."));
}
