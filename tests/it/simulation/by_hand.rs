//! What a person, or a tenant itself, changed inside a server: put back and said, or refused with the way back.

use std::collections::BTreeMap;

use ogelnates::operator::Verdict;
use ogelnates::plan::{Code, Consent, RoleTimeout, Symbol};
use ogelnates::tenancy::TenantId;

use super::laws::{bootstrapped, settle, simulate};
use super::safety_laws::{absent, run};
use super::sim::{Ended, fleet, fleet_text, manifest};

/// Any role may set its own statement time, and that wins over its database's. Only what lifts the ceiling is put back.
#[test]
fn a_statement_timeout_above_the_ceiling_is_put_back_and_a_shorter_one_is_left_alone() {
    simulate(async || {
        let limited = fleet_text(&["acme", "beta"])
            .replace("serverConnections: 2", "serverConnections: 2, statementTimeout: 30s");
        let desired = manifest(
            &limited.replace("name: acme }\nspec:\n", "name: acme }\nspec:\n  roles: [{ name: r, grants: read }]\n"),
        );
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        let set = |role: &str, database: Option<&str>, ms| {
            let database = database.map(str::to_owned);
            sim.servers.with("shared-1", |server| {
                server.roles.get_mut(role).expect("there").statement_timeouts.push(RoleTimeout { database, ms });
            });
        };
        set("acme", None, 20_000);
        set("acme_r", Some("acme"), 30_000);
        let wanted = sim.picture();
        assert!(run(&sim, &desired).await.plan.is_empty(), "both keep to the ceiling");
        set("acme", Some("acme"), 0);
        set("acme_r", None, 30_001);
        let done = run(&sim, &desired).await;
        let [action] = &done.plan.actions[..] else { panic!("{:?}", done.plan.actions) };
        let said: Vec<String> =
            action.fields.iter().map(|f| format!("{}: {:?} -> {:?}", f.path, f.old, f.new)).collect();
        let own = r#"acme.statementTimeout in acme: Some("0 (no limit)") -> Some("30s")"#;
        assert_eq!(said, [own, r#"acme_r.statementTimeout: Some("30001ms") -> Some("30s")"#]);
        assert_eq!((action.symbol, done.verdict), (Symbol::Drift, Verdict::Converged), "{:?}", done.report);
        assert_eq!(sim.picture(), wanted);
        // Without a ceiling there is nothing to lift.
        let free = manifest(&fleet_text(&["acme", "beta"]));
        settle(&sim, &free, "no ceiling").await;
        set("acme", None, 0);
        assert!(run(&sim, &free).await.plan.is_empty());
    });
}

/// The mark is still on it, so nobody concludes that it is gone; with and without the memory of where it was.
#[test]
fn a_database_renamed_by_hand_is_refused_and_no_empty_one_is_made() {
    simulate(async || {
        for forgotten in [false, true] {
            let desired = fleet(&["acme", "beta", "corp"]);
            let sim = bootstrapped(&desired, false).await;
            settle(&sim, &desired, "first").await;
            let (wanted, of_servers) = (sim.picture(), |server: &mut ogelnates::plan::ServerLive| server.clone());
            let rename = |from: &str, to: &str| {
                sim.servers.with("shared-1", |server| {
                    let database = server.databases.remove(from).expect("there");
                    server.databases.insert(to.to_owned(), database);
                });
            };
            rename("acme", "acme\"old");
            let before = sim.servers.with("shared-1", of_servers);
            if forgotten {
                sim.control.drop_everything();
            }
            let done = run(&sim, &desired).await;
            let [problem] = &done.plan.refused[..] else { panic!("{:?}", done.plan.refused) };
            assert_eq!((problem.code, done.exit_code()), (Code::RenamedByHand, 4));
            let sql = r#"ALTER DATABASE "acme""old" RENAME TO "acme";"#;
            assert!(problem.help.contains(sql), "{}", problem.help);
            assert_eq!(sim.servers.with("shared-1", of_servers), before, "nothing was made");
            let gone = manifest(&absent(&fleet_text(&["acme", "beta", "corp"]), "acme"));
            let today = Consent {
                deletions: BTreeMap::from([(TenantId::parse("acme").expect("valid"), sim.now().date_naive())]),
                ..Consent::default()
            };
            let Ended::Done(done) = sim.reconcile_with(&gone, &today, |_| true).await else { panic!("ends") };
            assert_eq!(done.plan.refused[0].code, Code::RenamedByHand, "nor is it deleted under that name");
            rename("acme\"old", "acme");
            settle(&sim, &desired, "renamed back").await;
            assert_eq!(sim.picture(), wanted);
            // A copy that keeps the mark is said and left alone.
            sim.servers.with("shared-1", |server| {
                let copy = server.databases["acme"].clone();
                server.databases.insert("acme_copy".into(), copy);
            });
            let done = run(&sim, &desired).await;
            assert!(done.plan.is_empty() && done.plan.refused.is_empty(), "{:?}", done.plan);
            assert!(done.plan.warnings[0].text.contains("acme_copy on shared-1"), "{:?}", done.plan.warnings);
        }
    });
}

#[test]
fn a_role_renamed_by_hand_is_refused_and_no_second_one_is_made() {
    simulate(async || {
        let text = fleet_text(&["acme", "beta"])
            .replace("name: acme }\nspec:\n", "name: acme }\nspec:\n  roles: [{ name: r, grants: read }]\n");
        let desired = manifest(&text);
        for name in ["acme", "acme_r"] {
            let sim = bootstrapped(&desired, false).await;
            settle(&sim, &desired, "first").await;
            sim.servers.with("shared-1", |server| {
                let role = server.roles.remove(name).expect("there");
                server.roles.insert("gone".into(), role);
                if name == "acme" {
                    server.databases.get_mut("acme").expect("there").owner = "gone".into();
                }
            });
            let before = sim.servers.picture();
            let done = run(&sim, &desired).await;
            let [problem] = &done.plan.refused[..] else { panic!("{:?}", done.plan.refused) };
            assert_eq!(problem.code, Code::RenamedByHand);
            assert!(problem.help.ends_with(&format!("ALTER ROLE \"gone\" RENAME TO \"{name}\"")), "{}", problem.help);
            assert_eq!((sim.servers.picture(), done.plan.is_empty()), (before, true));
        }
    });
}
