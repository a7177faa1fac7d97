//! Parameters as PostgreSQL writes them.

/// The statement with `$1` for `?1`. What is quoted or a comment stays.
pub(super) fn translate(sql: &str) -> String {
    let mut translated = String::with_capacity(sql.len());
    let mut quote = None;
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None => {}
        }
        let is_parameter =
            quote.is_none() && c == '?' && chars.peek().is_some_and(char::is_ascii_digit);
        translated.push(if is_parameter { '$' } else { c });
    }
    translated
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn parameters_are_translated_and_text_is_not() {
        let sql =
            "SELECT a ->> 'it''s ?1', \"b?2\" FROM t WHERE c = ?1 AND d = ?12 AND e LIKE '\\'";
        assert_eq!(
            translate(sql),
            "SELECT a ->> 'it''s ?1', \"b?2\" FROM t WHERE c = $1 AND d = $12 AND e LIKE '\\'"
        );
    }
}
