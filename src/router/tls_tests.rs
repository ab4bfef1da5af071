//! Certificates made on the spot, in a folder of the test's own.

use std::path::Path;

use super::*;

/// A fresh self-signed certificate for `name`.
pub fn certificate(folder: &Path, name: &str) -> PemFiles {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let files = PemFiles { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
    std::fs::write(&files.certificate, made.cert.pem()).expect("written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    files
}

fn shown(tls: &Tls, name: Option<&str>) -> Vec<u8> {
    let served = tls.served();
    served.certificates.choose(name).end_point.clone().expect("ECDSA has a hash")
}

#[test]
fn row_24_the_certificate_is_chosen_by_name_and_bound_to_as_it_was_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = [certificate(folder.path(), "one.example"), certificate(folder.path(), "two.example")];
    let tls = Tls::load(files.to_vec()).expect("loaded");
    let alone = |files: &PemFiles| shown(&Tls::load(vec![files.clone()]).expect("loaded"), None);
    assert_eq!(shown(&tls, Some("two.example")), alone(&files[1]));
    for name in [Some("one.example"), Some("three.example"), Some("not a name"), None] {
        assert_eq!(shown(&tls, name), alone(&files[0]), "{name:?}");
    }
}

#[test]
fn changed_files_are_served_and_broken_ones_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = certificate(folder.path(), "one.example");
    let tls = Tls::load(vec![files.clone()]).expect("loaded");
    assert!(!tls.reload().expect("unchanged"));
    let before = shown(&tls, None);
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
    std::fs::write(&files.key, "no key").expect("written");
    let error = tls_error(touch(&files, later, &tls));
    assert!(error.starts_with("cannot read "), "{error}");
    assert_eq!(shown(&tls, None), before, "what was good stays");
    certificate(folder.path(), "one.example");
    assert!(touch(&files, later + Duration::from_secs(10), &tls).expect("good again"));
    assert_ne!(shown(&tls, None), before);
}

#[test]
fn files_that_do_not_go_together_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, two] = ["one.example", "two.example"].map(|name| certificate(folder.path(), name));
    let mixed = PemFiles { certificate: one.certificate, key: two.key };
    assert!(tls_error(Tls::load(vec![mixed])).ends_with("do not go together"));
    assert_eq!(tls_error(Tls::load(Vec::new())), "no certificate was given");
}

fn tls_error<T>(result: Result<T, TlsError>) -> String {
    result.err().expect("an error").to_string()
}

/// As if the files were written at `time`, whatever the clock of the file system can tell apart.
fn touch(files: &PemFiles, time: SystemTime, tls: &Tls) -> Result<bool, TlsError> {
    for path in [&files.certificate, &files.key] {
        let file = std::fs::File::options().write(true).open(path).expect("there");
        file.set_modified(time).expect("set");
    }
    tls.reload()
}
