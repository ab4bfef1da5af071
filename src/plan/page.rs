//! A page of Markdown that keeps within a size by leaving out whole entries, and says how many. Whatever a user or a
//! server wrote stands in fences, so that it can neither format nor call anybody's name.

use std::fmt::Write as _;

/// Room for the line that says what was left out.
const TAIL_BYTES: usize = 160;

/// What always stands, then what may be cut.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub head: String,
    pub blocks: Vec<Block>,
}

/// Entries in one fence, folded away under a heading where there is one.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// Shown above; empty for none.
    pub heading: String,
    pub folded: bool,
    /// Of the fence, for colours: `diff` or `text`.
    pub language: &'static str,
    /// Each ends with a line end.
    pub entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub text: String,
    /// What it stands for, so that what is left out can be counted.
    pub objects: usize,
}

impl Entry {
    pub fn one(text: impl Into<String>) -> Entry {
        Entry { text: text.into(), objects: 1 }
    }
}

impl Block {
    fn frame(&self) -> (String, String) {
        let longest = self.entries.iter().map(|entry| longest_run_of_backquotes(&entry.text)).max().unwrap_or(0);
        let fence = "`".repeat(3.max(longest + 1));
        let (open, close) = match (self.heading.as_str(), self.folded) {
            ("", _) => (String::new(), String::new()),
            (heading, true) => (format!("<details><summary>{heading}</summary>\n\n"), "</details>\n\n".to_owned()),
            (heading, false) => (format!("**{heading}**\n\n"), String::new()),
        };
        (format!("{open}{fence}{}\n", self.language), format!("{fence}\n\n{close}"))
    }
}

fn longest_run_of_backquotes(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

impl Page {
    /// At most `bytes_max` long, as long as the head itself is: that is never cut.
    pub fn render(&self, bytes_max: usize) -> String {
        let (mut page, mut left_out) = (self.head.clone(), 0);
        for block in self.blocks.iter().filter(|block| !block.entries.is_empty()) {
            let (open, close) = block.frame();
            let mut room = bytes_max.saturating_sub(page.len() + open.len() + close.len() + TAIL_BYTES);
            let mut fits = 0;
            for entry in &block.entries {
                if entry.text.len() > room {
                    break;
                }
                room -= entry.text.len();
                fits += 1;
            }
            let (shown, cut) = block.entries.split_at(fits);
            left_out += cut.iter().map(|entry| entry.objects).sum::<usize>();
            if !shown.is_empty() {
                page.push_str(&open);
                shown.iter().for_each(|entry| page.push_str(&entry.text));
                page.push_str(&close);
            }
        }
        if left_out > 0 {
            let what = if left_out == 1 { "entry is" } else { "entries are" };
            let _ = writeln!(page, "*{left_out} more {what} left out here, to keep within {bytes_max} bytes.*");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(sizes: &[usize]) -> Page {
        let entries = sizes.iter().map(|size| Entry::one(format!("{}\n", "x".repeat(*size)))).collect();
        let block = Block { heading: "some".into(), folded: true, language: "text", entries };
        Page { head: "# head\n\n".into(), blocks: vec![block.clone(), block] }
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole_and_counted() {
        let text = page(&[40, 40, 40]).render(400);
        insta::assert_snapshot!(text, @r"
        # head

        <details><summary>some</summary>

        ```text
        xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        ```

        </details>

        *3 more entries are left out here, to keep within 400 bytes.*
        ");
    }

    #[test]
    fn a_text_cannot_leave_its_fence() {
        let block = Block { language: "text", entries: vec![Entry::one("```\n# mine\n````\n")], ..Block::default() };
        let text = Page { head: String::new(), blocks: vec![block] }.render(1_000);
        assert_eq!(text, "`````text\n```\n# mine\n````\n`````\n\n");
    }

    proptest! {
        #[test]
        fn a_page_keeps_within_its_size_and_loses_no_entry_from_its_count(
            sizes in prop::collection::vec(0usize..300, 0..30),
            bytes_max in 200usize..5_000,
        ) {
            let text = page(&sizes).render(bytes_max);
            prop_assert!(text.len() <= bytes_max, "{} bytes", text.len());
            let shown = text.lines().filter(|line| line.chars().all(|c| c == 'x')).count();
            // An empty entry is an empty line, which cannot be told from others.
            if sizes.iter().all(|size| *size > 0) {
                let shown = shown - text.lines().filter(|line| line.is_empty()).count();
                let told = text.rsplit_once('*').and_then(|(text, _)| text.rsplit_once('*')?.1.split(' ').next()?.parse().ok());
                prop_assert_eq!(shown + told.unwrap_or(0), 2 * sizes.len());
            }
        }
    }
}
