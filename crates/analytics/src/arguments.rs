//! Arguments of the operations: their shapes, and the files that they name.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;
use crate::jobs::InputFile;
use crate::output::cut;
use crate::prices::{MAX_LIST_BYTES, PriceList};

/// Reads the arguments into their shape; unknown fields are errors.
pub(crate) fn read<T: DeserializeOwned>(op: &str, arguments: Value) -> Result<T, Error> {
    let arguments = if arguments.is_null() {
        Value::Object(Default::default())
    } else {
        arguments
    };
    serde_json::from_value(arguments).map_err(|error| {
        Error::invalid(format!(
            "the arguments of {op} are wrong: {}",
            cut(&error.to_string(), 300)
        ))
    })
}

/// The input that `wanted` names: by its name, by the file name of its path (the id it is stored under), or that without
/// extension. Without a name the only input is meant.
pub(crate) fn input<'a>(
    wanted: Option<&str>,
    inputs: &'a [InputFile],
) -> Result<&'a InputFile, Error> {
    let names = || -> String {
        let names: Vec<String> = inputs
            .iter()
            .take(20)
            .map(|i| cut(&i.name, 80).into_owned())
            .collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    match wanted {
        Some(wanted) => find(wanted, inputs).ok_or_else(|| {
            let wanted = cut(wanted, 80);
            Error::invalid(format!(
                "there is no file \"{wanted}\"; the files are: {}",
                names()
            ))
        }),
        None => match inputs {
            [only] => Ok(only),
            _ => Err(Error::invalid(format!(
                "say which file is meant; the files are: {}",
                names()
            ))),
        },
    }
}

fn find<'a>(wanted: &str, inputs: &'a [InputFile]) -> Option<&'a InputFile> {
    let part = |path: &'a Path, stem: bool| {
        let part = if stem {
            path.file_stem()
        } else {
            path.file_name()
        };
        part.and_then(|p| p.to_str())
    };
    inputs
        .iter()
        .find(|i| i.name == wanted)
        .or_else(|| inputs.iter().find(|i| part(&i.path, false) == Some(wanted)))
        .or_else(|| inputs.iter().find(|i| part(&i.path, true) == Some(wanted)))
}

/// The price list of an argument: an input file's name, the text of a list, or an object. Without one that of the crate,
/// under `own` where there is such a file.
pub(crate) fn price_list(
    argument: Option<&Value>,
    inputs: &[InputFile],
    own: Option<&InputFile>,
) -> Result<PriceList, Error> {
    match argument {
        None | Some(Value::Null) => {
            let built_in = PriceList::built_in()?;
            Ok(match own {
                Some(own) => list_from_file(own, "the server's")?.over(built_in),
                None => built_in,
            })
        }
        Some(Value::String(text)) => match find(text, inputs) {
            Some(file) => list_from_file(file, &format!("file {}", file.name)),
            None if text.contains(['=', '{']) => Ok(PriceList::parse(text, "argument")?),
            None => Err(Error::invalid(format!(
                "price_list is neither the name of a file nor a price list: \"{}\"",
                cut(text, 80)
            ))),
        },
        Some(object @ Value::Object(_)) => Ok(PriceList::parse(&object.to_string(), "argument")?),
        Some(_) => Err(Error::invalid("price_list must be a text or an object")),
    }
}

fn list_from_file(file: &InputFile, origin: &str) -> Result<PriceList, Error> {
    use std::io::Read as _;
    let broken = |error: std::io::Error| {
        Error::unreadable(format!("{} cannot be read: {}", file.name, error.kind()))
    };
    let opened = std::fs::File::open(&file.path).map_err(broken)?;
    let mut bytes = Vec::new();
    opened
        .take(MAX_LIST_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(broken)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::unreadable(format!("{} is not text in UTF-8", file.name)))?;
    Ok(PriceList::parse(&text, origin)?)
}
