//! The settings a Postgres start command asks for: `tini -g -- wrapper.sh postgres -p 5432 -c wal_level=logical`.

/// What the container decides about itself and this machine decides here: where to listen, where files are.
const OWN: [&str; 11] = [
    "listen_addresses",
    "port",
    "unix_socket_directories",
    "data_directory",
    "config_file",
    "hba_file",
    "ident_file",
    "external_pid_file",
    "logging_collector",
    "log_line_prefix",
    "log_timezone",
];

/// A server here is one of many on a developer's machine; a start command that sets it wins.
const SMALL: (&str, &str) = ("shared_buffers", "16MB");

/// Log lines are read back by their time.
const LOG_CLOCK: (&str, &str) = ("log_timezone", "UTC");

/// The `-c name=value` and `--name=value` pairs of a start command, the later of two winning, with the local default.
pub fn settings(command: Option<&str>) -> Vec<(String, String)> {
    let words = split(command.unwrap_or_default());
    let mut found: Vec<(String, String)> =
        vec![(SMALL.0.into(), SMALL.1.into()), (LOG_CLOCK.0.into(), LOG_CLOCK.1.into())];
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let pair = match word.as_str() {
            "-c" => rest.next().map(String::as_str),
            word => word.strip_prefix("--").or_else(|| word.strip_prefix("-c")),
        };
        let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) else { continue };
        // On a command line Postgres takes dashes for underscores.
        let name = name.replace('-', "_");
        if OWN.contains(&name.as_str()) {
            continue;
        }
        found.retain(|(known, _)| *known != name);
        found.push((name, value.to_owned()));
    }
    found
}

/// Words as a shell splits them: quotes of both kinds and backslashes; nothing is expanded.
fn split(command: &str) -> Vec<String> {
    let (mut words, mut word, mut open) = (Vec::new(), None::<String>, None);
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (open, c) {
            (Some(quote), c) if c == quote => open = None,
            (None, '\'' | '"') => {
                open = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(command: &str) -> String {
        let found = settings(Some(command));
        found.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn settings_are_read_in_every_way_postgres_takes_them() {
        assert_eq!(pairs(""), "shared_buffers=16MB log_timezone=UTC");
        assert_eq!(
            pairs("tini -g -- wrapper.sh postgres -p 5432 -c listen_addresses='*' -c wal_level=logical"),
            "shared_buffers=16MB log_timezone=UTC wal_level=logical"
        );
        assert_eq!(
            pairs("postgres -cwork_mem=8MB --max-connections=50"),
            "shared_buffers=16MB log_timezone=UTC work_mem=8MB max_connections=50"
        );
    }

    #[test]
    fn quotes_hold_words_together_and_the_last_of_two_wins() {
        assert_eq!(
            pairs(
                r#"postgres -c "search_path=a, b" -c shared_buffers=64MB -c application_name=it\'s -c shared_buffers=32MB"#
            ),
            "log_timezone=UTC search_path=a, b application_name=it's shared_buffers=32MB"
        );
    }
}
