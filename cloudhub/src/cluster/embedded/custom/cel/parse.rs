//! The text of an expression becomes a tree, by the parser of the crate `cel`.
//!
//! What it can cost is bounded here: the length of the text, and by that its depth, for which it has a stack of its own.

use cel::Env;
use cel::common::ast::{IdedExpr, SourceInfo};

/// Something that is wrong at a place of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Issue {
    /// In bytes.
    pub(super) offset: usize,
    pub(super) text: String,
}

/// Reads a text and makes something of the tree. What is wrong with it, in the words of `cel-go`.
pub(super) fn parse<T: Send>(
    text: &str,
    make: impl FnOnce(&IdedExpr, &SourceInfo) -> Result<T, Vec<Issue>> + Send,
) -> Result<T, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!(
            "ERROR: <input>:1:1: expression is longer than {TEXT_BYTES_MAX} bytes"
        ));
    }
    let read = || -> Result<T, Vec<Issue>> {
        let parser = Env::default().parser().enable_ident_escape_syntax(true);
        match parser.parse_with_source_info(text) {
            Ok((tree, places)) => make(&tree, &places),
            Err(refused) => {
                let issues = refused.errors.into_iter();
                let mut issues: Vec<_> = issues
                    .map(|error| Issue {
                        offset: offset(text, error.pos),
                        text: if error.msg.contains("Recursion limit") {
                            "expression recursion limit exceeded: 96".into()
                        } else {
                            error.msg
                        },
                    })
                    .collect();
                if issues.iter().any(|issue| issue.text.starts_with("expression")) {
                    issues.retain(|issue| issue.text.starts_with("expression"));
                }
                Err(issues)
            }
        }
    };
    let read = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        thread
            .spawn_scoped(scope, read)
            .map(std::thread::ScopedJoinHandle::join)
    });
    match read {
        Ok(Ok(read)) => read.map_err(|issues| shown(text, issues)),
        // A panic of the parser, or no thread.
        Ok(Err(_)) | Err(_) => Err("ERROR: <input>:1:1: the expression cannot be read".into()),
    }
}

/// As `cel-go` shows what it found: each with its line, and a mark below.
fn shown(text: &str, mut issues: Vec<Issue>) -> String {
    issues.sort_by_key(|issue| issue.offset);
    issues.dedup();
    let shown = issues.iter().take(ISSUES_MAX).map(|issue| {
        let before = text.get(..issue.offset).unwrap_or(text);
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let snippet = text.lines().nth(line).unwrap_or_default().replace('\t', " ");
        format!(
            "ERROR: <input>:{}:{}: {}\n | {snippet}\n | {}^",
            line + 1,
            column + 1,
            issue.text,
            ".".repeat(column)
        )
    });
    shown.collect::<Vec<_>>().join("\n")
}

fn offset(text: &str, (line, column): (isize, isize)) -> usize {
    let (line, column) = (usize::try_from(line - 1), usize::try_from(column - 1));
    let (Ok(line), Ok(column)) = (line, column) else {
        return 0;
    };
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    (before + column).min(text.len())
}

/// Of a rule; those in the wild have hundreds.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Enough for the deepest tree that a text of that length makes; a page of it is real only where it is used.
const STACK_BYTES: usize = 128 << 20;
const ISSUES_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text, |_, _| Ok(())).unwrap_err()
    }

    #[test]
    fn what_cannot_be_read_is_shown_with_its_place() {
        assert_eq!(
            refused("self.a == 1 &&\n  for"),
            "ERROR: <input>:2:3: reserved identifier: for\n |   for\n | ..^"
        );
        assert!(refused("self.").starts_with("ERROR: <input>:1:6: Syntax error: no viable alternative"));
    }

    #[test]
    fn no_text_of_any_depth_harms_the_process() {
        for (begin, middle, end, count) in [
            ("(", "1", ")", 8000),
            ("f(", "1", ")", 5000),
            ("[", "1", "]", 8000),
            ("{1:", "1", "}", 4000),
            ("a?b:", "1", "", 4000),
            ("!(", "true", ")", 5000),
            ("-(", "1", ")", 5000),
            ("", "a", ".b", 8000),
            ("", "a", "[0]", 5000),
            ("", "a", "+1", 8000),
            ("", "a", "&&a", 5000),
            ("", "a", ".f()", 4000),
            ("'", "", "", 16_000),
        ] {
            let text = format!("{}{middle}{}", begin.repeat(count), end.repeat(count));
            let _ = parse(&text, |_, _| Ok(()));
        }
        assert!(refused(&"1+".repeat(10_000)).contains("longer than"));
        assert!(refused(&"(".repeat(200)).contains("recursion limit"));
    }
}
