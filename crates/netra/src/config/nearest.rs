//! The most similar of some words.

/// The candidate with the fewest edits, if they are few for the word's length.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let best = candidates
        .map(|candidate| (edits(word, candidate), candidate))
        .min()?;
    (best.0 <= (word.chars().count() / 3).max(2)).then_some(best.1)
}

/// Insertions, deletions and replacements from one text to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("same", "same"), 0);
    }

    #[test]
    fn what_is_far_away_is_not_suggested() {
        let keys = ["limits.steps", "log.level"];
        assert_eq!(
            nearest("limit.steps", keys.into_iter()),
            Some("limits.steps")
        );
        assert_eq!(nearest("something.else", keys.into_iter()), None);
    }
}
