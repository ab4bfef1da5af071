//! A generated fleet fits its observation: `plan --live` finds nothing to do, and without any environment.

#[path = "../../examples/generate_fleet.rs"]
#[expect(
    dead_code,
    clippy::duplicate_mod,
    reason = "the example by itself has a `main` and its own copy of the model"
)]
mod generate_fleet;

use std::process::Command;

fn plan(folder: &std::path::Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_o7s"));
    command
        .env_clear()
        .arg("plan")
        .arg("-f")
        .arg(folder.join("manifests"))
        .arg("--live")
        .arg(folder.join("live.json"));
    let output = command.output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_generated_fleet_needs_no_change_until_its_manifests_change() {
    let folder = tempfile::tempdir().expect("a folder");
    generate_fleet::generate(700, &folder.path().join("manifests"), &folder.path().join("live.json"))
        .unwrap_or_else(|error| panic!("{error}"));
    let text = plan(folder.path());
    assert!(text.contains("No changes. 700 tenants match."), "{text}");
    let tenant = folder.path().join("manifests/tenants/t00001.yaml");
    let changed = std::fs::read_to_string(&tenant).expect("there").replace("tier: free", "tier: starter");
    std::fs::write(&tenant, changed).expect("written");
    let text = plan(folder.path());
    assert!(text.contains("tenant/t00001") && !text.contains("t00002"), "{text}");
}
