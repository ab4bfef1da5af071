//! `o7s router` as a process of its own, as a user starts it.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::support::eventually;

pub struct RouterProcess {
    /// The one asked for, or a free one for 0.
    pub port: u16,
    /// Killed when this is dropped.
    child: Child,
}

impl RouterProcess {
    /// With nothing from the environment but `variables`. Logs into `folder`, under its port.
    pub async fn start(folder: &Path, listen: u16, arguments: &[&str], variables: &[(&str, &str)]) -> RouterProcess {
        let log = folder.join(format!("{listen}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_o7s"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear().envs(variables.iter().copied());
        command.args(["router", "--drain", "0s", "--listen", &format!("127.0.0.1:{listen}")]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).expect("made"));
        let mut child = command.kill_on_drop(true).spawn().expect("started");
        let serving = eventually("the router serves", async || {
            let text = fs::read_to_string(&log).expect("read");
            assert!(child.try_wait().expect("asked").is_none(), "the router has ended: {text}");
            // The line is there as a whole, or not yet.
            let line = text.lines().find(|line| line.contains("serving on")).filter(|_| text.ends_with('\n'))?;
            line.rsplit(':').next()?.trim().parse().ok()
        });
        RouterProcess { port: serving.await, child }
    }

    /// As by `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// Lets it end by itself, and answers its exit code.
    pub async fn stop(mut self) -> Option<i32> {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await.expect("run");
        assert!(sent.success());
        self.child.wait().await.expect("ended").code()
    }
}

/// A certificate for localhost and 127.0.0.1, signed by itself: its path, and that of its key.
pub fn certificate(folder: &Path) -> [String; 2] {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("made");
    [("tls.crt", made.cert.pem()), ("tls.key", made.signing_key.serialize_pem())].map(|(name, text)| {
        let path = folder.join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    })
}
