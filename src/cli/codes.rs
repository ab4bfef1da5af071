//! All numbers of errors of all rooms in one list, and those of what goes wrong before a command reaches a room.

use crate::tenancy::{ErrorCode, codes};
use crate::{manifest, operator, plan, postgres, railway, router, store};

codes! {
    Usage = 3001, "not a command o7s knows",
        "A command, flag or value is misspelt, missing or does not go with another. `o7s --help` and `o7s VERB --help` \
         list what there is.";
    Manifests = 3002, "errors in the manifests",
        "At least one manifest is wrong; each error is listed with its place and its own code, and nothing was changed. \
         `o7s validate` shows them without token, key or network.";
    NoToken = 3003, "no Railway token",
        "Neither RAILWAY_TOKEN nor RAILWAY_API_TOKEN is set. Make a token in Railway's account or project settings and \
         put it there; or try everything on a local Railway: eval \"$(o7s local up --detach)\".";
    NoKey = 3004, "no master key",
        "O7S_MASTER_KEY is not set. Make one once (openssl rand -base64 32), keep it in your secret store, and set it \
         wherever o7s runs: every password of the fleet is derived from it.";
    WeakKey = 3005, "the master key is too weak",
        "Every password is derived from O7S_MASTER_KEY, so it must not be guessable. Use at least 32 random characters, \
         as from: openssl rand -base64 32.";
    OtherFleet = 3006, "the control database of another fleet",
        "A fleet is its name under its key, and this database holds another one. Check O7S_DATABASE_URL, O7S_MASTER_KEY \
         and the Fleet's name.";
    Io = 3007, "a file or stream failed",
        "The operating system refused to read or write; the message has its reason. Check the path, its permissions and \
         the free space.";
    Unconfirmed = 3008, "nobody said yes",
        "The command changes something and nobody confirmed it, so nothing was changed. Say yes at the prompt, or give \
         --yes where there is none.";
    Exists = 3009, "files that are there already",
        "The command would overwrite files and nobody asked for that, so nothing was written. Choose an empty folder, \
         or give --force to overwrite them.";
    Write = 3010, "a file cannot be written",
        "The operating system refused to write the file; the message has its reason. Check that the folder belongs to \
         the user o7s runs as, and the free space.";
    OpenFile = 3011, "a file cannot be read",
        "The file that was named cannot be opened or read; the message has the system's reason. Check the path, and that \
         the user o7s runs as may read it.";
    Unknown = 3012, "no such object",
        "No manifest declares it and the control database holds nothing of that name. `o7s status` and `o7s tenant list` \
         show what there is.";
    NotMade = 3013, "a tenant without a database",
        "It is declared, and no run has made it yet, or its deletion is done. `o7s reconcile --once` makes what is \
         declared.";
    ChangedHands = 3014, "the lease changed hands",
        "Somebody else took the lease while you were asked, so nothing was taken. Look again: `o7s lease show`.";
    Psql = 3015, "psql cannot be started",
        "`o7s tenant connect` hands over to Postgres' own client, which is not installed or cannot be run. Install it \
         (package postgresql-client), or give another client the URL of `o7s tenant url`.";
    NotRotated = 3016, "a generation that was not written",
        "`o7s rotate` writes one number into the tenant's manifest. It has a later generation already, or it is laid out \
         in a way that cannot be edited safely: set `spec.credentials.generation` by hand.";
    OwnedByOther = 3017, "marked by another fleet",
        "What is to be adopted carries the marker of another fleet. Let that fleet release it first; only if that fleet \
         is gone for good, take it with --force-owner.";
    FormerName = 3018, "a former name",
        "A tenant had that name and was renamed (`metadata.renamedFrom`). Ask for it by the name that it has now; its events \
         from before the rename stay under the former one.";
    NoKeyMade = 3019, "an API key that was not made",
        "The tenant has a key of that name in use, or 100,000 keys are in use in all; nothing was changed. Choose another \
         name, or revoke a key: `o7s key list` shows them.";
    NoRouter = 3020, "no router at that address",
        "`o7s router status --address` asks the HTTP side of one router (`o7s router --http`), and nothing or something else \
         answered there. Without --address the control database says which routers run.";
}

/// The codes of one kind, with a heading for people.
pub struct Chapter {
    pub title: &'static str,
    pub codes: Vec<ErrorCode>,
}

pub fn chapters() -> Vec<Chapter> {
    fn of<C: Copy + Into<ErrorCode>>(title: &'static str, codes: &[C]) -> Chapter {
        Chapter { title, codes: codes.iter().map(|&code| code.into()).collect() }
    }
    vec![
        of("Manifests (exit 65)", manifest::Code::ALL),
        of("Plans (exit 3, 4 or 5)", plan::Code::ALL),
        of("The command line", Code::ALL),
        of("Railway", railway::Code::ALL),
        of("The control database", store::Code::ALL),
        of("Instances", postgres::Code::ALL),
        of("Runs", operator::Code::ALL),
        #[cfg(feature = "local")]
        of("The local Railway", crate::local::Code::ALL),
        of("The router", router::Code::ALL),
    ]
}

/// Reads `O7S1101`, in any case.
pub fn find(text: &str) -> Option<ErrorCode> {
    let all = chapters().into_iter().flat_map(|chapter| chapter.codes);
    all.into_iter().find(|code| code.to_string().eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_used_once_grows_and_is_explained() {
        let all: Vec<ErrorCode> = chapters().into_iter().flat_map(|chapter| chapter.codes).collect();
        assert!(all.is_sorted_by(|a, b| a.number < b.number));
        for code in all {
            assert!(code.explanation.len() > 60, "{code} explains nothing");
            assert!(code.explanation.ends_with('.'), "{code} ends without a full stop");
            assert_eq!(find(&code.to_string().to_lowercase()), Some(code));
        }
        assert_eq!((find("1101"), find("O7S9999")), (None, None));
    }
}
