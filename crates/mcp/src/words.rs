//! Errors of the protocol's library in words that say something to users: no types, no modules.

use std::error::Error;

use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::DynamicTransportError;

use crate::instance::chain;

/// Why no connection came to be.
pub(crate) fn of_start(error: &ClientInitializeError) -> String {
    use ClientInitializeError as Failed;
    match error {
        Failed::TransportError { error, .. } => of_transport(error),
        Failed::ConnectionClosed(_) => "it closed the connection".to_owned(),
        Failed::JsonRpcError(error) => format!("it says: {}", error.message),
        Failed::NoCompatibleProtocolVersion { .. } => {
            "it speaks no version of the protocol that is known here".to_owned()
        }
        Failed::LegacyFallbackFailed { discover, fallback } => {
            let (first, second) = (of_start(discover), of_start(fallback));
            if first == second {
                return first;
            }
            format!("{first}; asked as an older server: {second}")
        }
        Failed::ExpectedInitResponse(_)
        | Failed::ExpectedInitResult(_)
        | Failed::ConflictInitResponseId(..)
        | Failed::UncorrelatedErrorResponse { .. } => {
            "its first answer is none of the protocol".to_owned()
        }
        other => chain(other),
    }
}

/// Why a question has no answer.
pub(crate) fn of_question(error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(error) => format!("it says: {}", error.message),
        ServiceError::TransportSend(error) => of_transport(error),
        ServiceError::TransportClosed => "it closed the connection".to_owned(),
        ServiceError::UnexpectedResponse => "its answer is to another question".to_owned(),
        other => chain(other),
    }
}

/// What lies at the bottom of it: the layers above name types of the library.
fn of_transport(error: &DynamicTransportError) -> String {
    let mut cause: &(dyn Error + 'static) = &*error.error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;
    use std::io;

    use rmcp::transport::streamable_http_client::StreamableHttpError;

    use super::*;

    #[test]
    fn errors_of_the_library_name_none_of_its_types() {
        let refused = || {
            let cause =
                io::Error::other("it is not reached: it leads to an address that is not public");
            let error = StreamableHttpError::<io::Error>::Io(cause);
            let name = "rmcp::transport::worker::WorkerTransport";
            DynamicTransportError::from_parts(name, TypeId::of::<()>(), Box::new(error))
        };
        let failed = || ClientInitializeError::TransportError {
            error: refused(),
            context: "send initialize request".into(),
        };
        let both = ClientInitializeError::LegacyFallbackFailed {
            discover: Box::new(failed()),
            fallback: Box::new(failed()),
        };
        for words in [
            of_start(&failed()),
            of_start(&both),
            of_question(&ServiceError::TransportSend(refused())),
        ] {
            assert_eq!(
                words,
                "it is not reached: it leads to an address that is not public"
            );
        }
    }
}
