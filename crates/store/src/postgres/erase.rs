//! The deletion of a user's rows in pieces, as PostgreSQL does it fast.

/// Deletes at most `?2` of the rows of `?1` in a table; none where the embedded store alone has the table.
pub(crate) fn piece(table: &str) -> Option<String> {
    let rows = match table {
        "note_words" => return None,
        // Its parts have rows with the same places.
        "events" => {
            return Some(
                "DELETE FROM events WHERE user_id = ?1
                 AND seq IN (SELECT seq FROM events WHERE user_id = ?1 ORDER BY seq LIMIT ?2)"
                    .into(),
            );
        }
        "refresh_tokens" => {
            "sessions s JOIN refresh_tokens t ON t.session_id = s.id WHERE s.user_id"
        }
        "journal" => "runs r JOIN journal t ON t.run_id = r.id WHERE r.user_id",
        "messages" => "threads h JOIN messages t ON t.thread_id = h.id WHERE h.user_id",
        table => &format!("{table} t WHERE t.user_id"),
    };
    Some(format!(
        "DELETE FROM {table}
         WHERE ctid = ANY (ARRAY (SELECT t.ctid FROM {rows} = ?1 LIMIT ?2))"
    ))
}
