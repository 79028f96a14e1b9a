//! Unified diffs, as Python's `difflib` makes them (and the Go library that a kube-apiserver uses): the longest run of equal lines
//! first, then what is left and right of it.

use std::collections::HashMap;
use std::ops::Range;

/// How the second text differs from the first, with three lines around every change. Empty when it does not.
pub(super) fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut text = String::new();
    for group in groups(&changes(&old, &new)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let before = range(first.0.start.saturating_sub(AROUND)..(last.0.end + AROUND).min(old.len()));
        let after = range(first.1.start.saturating_sub(AROUND)..(last.1.end + AROUND).min(new.len()));
        text.push_str(&format!("@@ -{before} +{after} @@\n"));
        let mut at = first.0.start.saturating_sub(AROUND);
        let mut lines = |sign: char, lines: &[&str]| {
            for line in lines {
                text.push(sign);
                text.push_str(line);
                text.push('\n');
            }
        };
        for (removed, added) in group {
            lines(' ', &old[at..removed.start]);
            lines('-', &old[removed.clone()]);
            lines('+', &new[added.clone()]);
            at = removed.end;
        }
        lines(' ', &old[at..(at + AROUND).min(old.len())]);
    }
    text
}

/// Lines of the first text, and those that stand in their place.
type Change = (Range<usize>, Range<usize>);

fn changes(old: &[&str], new: &[&str]) -> Vec<Change> {
    let places = places(new);
    let mut equal = Vec::new();
    let mut open = vec![(0..old.len(), 0..new.len())];
    while let Some((left, right)) = open.pop() {
        let (a, b, length) = longest(old, new, &places, &left, &right);
        if length > 0 {
            equal.push((a, b, length));
            open.push((left.start..a, right.start..b));
            open.push((a + length..left.end, b + length..right.end));
        }
    }
    equal.sort_unstable();
    equal.push((old.len(), new.len(), 0));
    let (mut a, mut b, mut changes) = (0, 0, Vec::new());
    for (next_a, next_b, length) in equal {
        if next_a > a || next_b > b {
            changes.push((a..next_a, b..next_b));
        }
        (a, b) = (next_a + length, next_b + length);
    }
    changes
}

/// Where each line stands in the second text. In a long text, lines that stand everywhere begin no run.
fn places<'t>(lines: &[&'t str]) -> HashMap<&'t str, Vec<usize>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in lines.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    if lines.len() >= LONG {
        places.retain(|_, at| at.len() <= lines.len() / 100 + 1);
    }
    places
}

/// The longest run of equal lines, the first of them: where it stands in both texts, and its length.
fn longest(
    old: &[&str],
    new: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    left: &Range<usize>,
    right: &Range<usize>,
) -> (usize, usize, usize) {
    let (mut a, mut b, mut length) = (left.start, right.start, 0);
    // The lengths of the runs that end with the line before, by their place in the second text.
    let mut runs: HashMap<usize, usize> = HashMap::new();
    for at in left.clone() {
        let mut longer = HashMap::new();
        for place in places.get(old[at]).into_iter().flatten() {
            if !right.contains(place) {
                continue;
            }
            let run = place
                .checked_sub(1)
                .and_then(|before| runs.get(&before))
                .map_or(1, |run| run + 1);
            longer.insert(*place, run);
            if run > length {
                (a, b, length) = (at + 1 - run, place + 1 - run, run);
            }
        }
        runs = longer;
    }
    while a > left.start && b > right.start && old[a - 1] == new[b - 1] {
        (a, b, length) = (a - 1, b - 1, length + 1);
    }
    while a + length < left.end && b + length < right.end && old[a + length] == new[b + length] {
        length += 1;
    }
    (a, b, length)
}

/// Changes that share the lines around them.
fn groups(changes: &[Change]) -> Vec<Vec<Change>> {
    let mut groups: Vec<Vec<Change>> = Vec::new();
    for change in changes {
        match groups.last_mut() {
            Some(group)
                if group
                    .last()
                    .is_some_and(|last| change.0.start - last.0.end <= 2 * AROUND) =>
            {
                group.push(change.clone());
            }
            _ => groups.push(vec![change.clone()]),
        }
    }
    groups
}

/// Lines as a diff counts them.
fn range(lines: Range<usize>) -> String {
    match lines.len() {
        1 => format!("{}", lines.start + 1),
        0 => format!("{},0", lines.start),
        length => format!("{},{length}", lines.start + 1),
    }
}

/// Lines shown around a change.
const AROUND: usize = 3;
/// From how many lines on a text is long.
const LONG: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_are_near_stand_together() {
        let text = |changed: &[usize]| {
            let lines = (0..20).map(|line| {
                let mark = if changed.contains(&line) { "!" } else { "" };
                format!("{line}{mark}")
            });
            lines.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(unified(&text(&[]), &text(&[])), "");
        let near = unified(&text(&[]), &text(&[1, 8]));
        assert!(near.starts_with("@@ -1,12 +1,12 @@\n 0\n-1\n+1!\n 2\n"), "{near}");
        let far = unified(&text(&[]), &text(&[1, 9]));
        assert_eq!(far.matches("@@ -").count(), 2, "{far}");
        assert!(
            far.ends_with("@@ -7,7 +7,7 @@\n 6\n 7\n 8\n-9\n+9!\n 10\n 11\n 12\n"),
            "{far}"
        );
    }

    #[test]
    fn lines_come_and_go() {
        assert_eq!(unified("a\nb\nc", "a\nc"), "@@ -1,3 +1,2 @@\n a\n-b\n c\n");
        assert_eq!(unified("a", "a\nb"), "@@ -1 +1,2 @@\n a\n+b\n");
    }
}
