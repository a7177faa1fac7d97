//! What can be asked next about what an operation has just made.

use std::collections::BTreeMap;

use utoipa::openapi::link::Link;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Paths, RefOr};

use super::operations_of;

/// Operations that make something, and the path of what they have made.
const MAKE: [(&str, &str); 9] = [
    ("admin_invite_create", "/api/admin/invites/{id}"),
    ("admin_user_create", "/api/admin/users/{id}"),
    ("file_create", "/api/files/{id}"),
    ("key_create", "/api/keys/{id}"),
    ("run_create", "/api/runs/{id}"),
    ("run_retry", "/api/runs/{id}"),
    ("thread_create", "/api/threads/{id}"),
    ("thread_fork", "/api/threads/{id}"),
    ("thread_run_create", "/api/runs/{id}"),
];

fn is_below(path: &str, made: &str) -> bool {
    let rest = path.strip_prefix(made);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The operations on what is at this path.
fn on(paths: &mut Paths, made: &str) -> Vec<String> {
    let at = paths.paths.iter_mut();
    let at = at.filter(|(path, _)| is_below(path, made));
    let operations = at.flat_map(|(_, item)| operations_of(item));
    let ids = operations.filter_map(|operation| operation.operation_id.clone());
    ids.collect()
}

fn to(operation: String) -> RefOr<Link> {
    let link = Link::builder()
        .operation_id(operation)
        .parameter("id", "$response.body#/id");
    RefOr::T(link.build())
}

fn link(operation: &mut Operation, next: &[String]) {
    for (status, answer) in &mut operation.responses.responses {
        if let (true, RefOr::T(answer)) = (status.starts_with('2'), answer) {
            let links = next.iter().map(|id| (id.clone(), to(id.clone())));
            answer.links = BTreeMap::from_iter(links);
        }
    }
}

/// Puts the links into the answers.
pub(super) fn add(paths: &mut Paths) {
    for (maker, made) in MAKE {
        let next = on(paths, made);
        let operations = paths.paths.values_mut().flat_map(operations_of);
        for operation in operations {
            if operation.operation_id.as_deref() == Some(maker) {
                link(operation, &next);
            }
        }
    }
}
