//! How a command's end is to be told, read off the command line before it is understood: also a command line that cannot
//! be read, and whatever ends a command early, is told in the format that was asked for.

use clap::ValueEnum as _;

use super::args::{BYTES_MAX, ReportFormat};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub verb: String,
    pub format: ReportFormat,
    pub bytes_max: usize,
}

impl Asked {
    /// `args` as the process got them.
    pub fn of(args: impl Iterator<Item = String>) -> Asked {
        let mut asked = Asked { verb: String::new(), format: ReportFormat::Text, bytes_max: BYTES_MAX as usize };
        let mut args = args.skip(1).take_while(|arg| arg != "--").peekable();
        asked.verb =
            args.peek().filter(|verb| verb.bytes().all(|b| b.is_ascii_lowercase())).cloned().unwrap_or_default();
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (arg, None),
            };
            match name.as_str() {
                "--format" => {
                    let value = value.or_else(|| args.next());
                    let format = value.and_then(|value| ReportFormat::from_str(&value, false).ok());
                    asked.format = format.unwrap_or(asked.format);
                }
                "--max-bytes" => {
                    let value = value.or_else(|| args.next());
                    asked.bytes_max = value.and_then(|value| value.parse().ok()).unwrap_or(asked.bytes_max);
                }
                _ => {}
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_to_tell_is_known_before_the_command_line_is_understood() {
        let asked = |line: &str| Asked::of(line.split(' ').map(str::to_owned));
        let format = |line: &str| asked(line).format;
        assert_eq!(format("o7s plan"), ReportFormat::Text);
        assert_eq!(format("o7s plan --format json --bogus"), ReportFormat::Json);
        assert_eq!(format("o7s plan --format=jsonl -v"), ReportFormat::Jsonl);
        assert_eq!(format("o7s plan --format=json --format github"), ReportFormat::Github);
        assert_eq!(format("o7s plan --format nonsense"), ReportFormat::Text);
        assert_eq!(format("o7s plan --format"), ReportFormat::Text);
        assert_eq!(format("o7s validate -- --format json"), ReportFormat::Text);
        let markdown = asked("o7s plan --format markdown --max-bytes 5000");
        assert_eq!((markdown.verb.as_str(), markdown.bytes_max), ("plan", 5_000));
        assert_eq!(asked("o7s --help").verb, "");
    }
}
