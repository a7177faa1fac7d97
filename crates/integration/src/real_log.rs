//! A real log of requests to a language model, which others publish under a licence of their own.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Where the log is; it lies beside the repository, not in it. Where there is none, that is said on the terminal itself:
/// what a test prints is kept from whoever looks on while it passes, and one that looked at nothing is not to pass for one
/// that did.
///
/// # Errors
/// When there is nobody to say it to.
pub fn real_log() -> io::Result<Option<PathBuf>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/azure-llm-inference-2023-code.csv");
    if path.is_file() {
        return Ok(Some(path));
    }
    writeln!(
        io::stderr(),
        "not checked: there is no {}; it is data/AzureLLMInferenceTrace_code.csv of \
         github.com/Azure/AzurePublicDataset",
        path.display()
    )?;
    Ok(None)
}
