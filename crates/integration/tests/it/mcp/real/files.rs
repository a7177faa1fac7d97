//! The server for files of a folder, by all its tools.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::Test;
use crate::mcp::real::installed::{Installed, open_folder};
use crate::mcp::real::world::{World, call, failure, text, tools_of};

const TOOLS: [&str; 14] = [
    "files__create_directory",
    "files__directory_tree",
    "files__edit_file",
    "files__get_file_info",
    "files__list_allowed_directories",
    "files__list_directory",
    "files__list_directory_with_sizes",
    "files__move_file",
    "files__read_file",
    "files__read_media_file",
    "files__read_multiple_files",
    "files__read_text_file",
    "files__search_files",
    "files__write_file",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_made_found_changed_and_moved() -> Test {
    let folder = open_folder()?;
    fs::write(folder.path().join("a.png"), b"\x89PNG\r\n")?;
    let server = Installed::find()?.files(folder.path())?;
    let world = World::start(&[server], &TOOLS).await?;
    let shown = world.ready("files").await?;
    assert_eq!(tools_of(&shown), TOOLS);
    assert_eq!(shown.left_out, [""; 0]);
    let user = world.user("ada").await?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let steps: [(&str, Value, &str); 14] = [
        (
            "list_allowed_directories",
            json!({}),
            &path("")[..path("").len() - 1],
        ),
        (
            "create_directory",
            json!({"path": path("sub")}),
            "Successfully created",
        ),
        (
            "write_file",
            json!({"path": path("sub/a.txt"), "content": "one\ntwo\n"}),
            "Successfully wrote",
        ),
        (
            "read_file",
            json!({"path": path("sub/a.txt")}),
            "one\ntwo\n",
        ),
        (
            "read_text_file",
            json!({"path": path("sub/a.txt"), "head": 1}),
            "one",
        ),
        ("read_media_file", json!({"path": path("a.png")}), ""),
        (
            "read_multiple_files",
            json!({"paths": [path("sub/a.txt"), path("none")]}),
            "ENOENT",
        ),
        (
            "edit_file",
            json!({
                "path": path("sub/a.txt"), "edits": [{"oldText": "two", "newText": "three"}]
            }),
            "-two\n+three",
        ),
        (
            "list_directory",
            json!({"path": path("")}),
            "[FILE] a.png\n[DIR] sub",
        ),
        (
            "list_directory_with_sizes",
            json!({"path": path("")}),
            "Total: 1 files, 1 directories",
        ),
        (
            "directory_tree",
            json!({"path": path("")}),
            "\"name\": \"a.txt\"",
        ),
        (
            "move_file",
            json!({"source": path("sub/a.txt"), "destination": path("b.txt")}),
            "Successfully moved",
        ),
        (
            "search_files",
            json!({"path": path(""), "pattern": "*.txt"}),
            &path("b.txt"),
        ),
        ("get_file_info", json!({"path": path("b.txt")}), "size: 10"),
    ];
    for (tool, arguments, contains) in steps {
        let result = call(&user, &format!("files__{tool}"), arguments).await?;
        ensure!(text(&result).contains(contains), "{tool}: {result}");
        if tool == "read_media_file" {
            assert_eq!(result["files"][0]["media_type"], "image/png");
        }
    }
    assert_eq!(
        fs::read_to_string(folder.path().join("b.txt"))?,
        "one\nthree\n"
    );
    outside(&user, folder.path()).await
}

/// Beyond its folder the server itself says no, in its own words.
async fn outside(user: &netra_integration::TestUser, folder: &Path) -> Test {
    for path in ["/etc/shadow", "/", &format!("{}/../x", folder.display())] {
        let refused = failure(user, "files__read_file", json!({"path": path})).await?;
        ensure!(
            refused.starts_with("tool_failed: ") && refused.contains("Access denied"),
            "{path}: {refused}"
        );
    }
    Ok(())
}
