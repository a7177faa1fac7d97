//! Small files for operations, and the one entry that operations have.

use std::time::Duration;

use netra_analytics::jobs::{self, Error, InputFile};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes.
pub(crate) const TIME: Duration = Duration::from_secs(120);

pub(crate) struct Files {
    folder: TempDir,
    pub(crate) inputs: Vec<InputFile>,
}

impl Files {
    pub(crate) fn new<C: AsRef<[u8]>>(files: &[(&str, C)]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut inputs = Vec::new();
        for (index, (name, content)) in files.iter().enumerate() {
            let path = folder.path().join(format!("file_{index}.bin"));
            std::fs::write(&path, content).unwrap();
            inputs.push(InputFile {
                name: (*name).into(),
                media_type: "text/csv".into(),
                path,
            });
        }
        Self { folder, inputs }
    }

    pub(crate) fn run(&self, op: &str, arguments: Value) -> Result<Value, Error> {
        assert!(self.folder.path().exists());
        let mut last = 0.0;
        jobs::run(op, arguments, &self.inputs, TIME, &mut |part, _| {
            assert!(
                (last..=1.0).contains(&part),
                "progress goes from {last} to {part}"
            );
            last = part;
        })
    }
}
