"""What schemathesis is told of the server: which refusals the document cannot foresee, and what it must not do to itself."""

import os

import schemathesis
from schemathesis.core.failures import Failure

# What a schema can say. A refusal that names one of these has to be foreseen by the document.
KEYWORDS = {
    "additionalProperties",
    "enum",
    "format",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "pattern",
    "required",
    "type",
    "uniqueItems",
}

# Who asks, and who else: an admin who takes the rights away from one of them would only be refused from then on.
TRIED = set(os.environ.get("NETRA_CONTRACT_USERS", "").split(","))


@schemathesis.hook
def filter_failure(context, failure: Failure, case, response) -> bool:
    """Whether it is a failure: of valid data, only where a schema could have said so.

    Limits of the user, cursors of another server, common passwords and the schemas of agents are rules that the
    document has in words; `details.rule` names them.
    """
    if type(failure).__name__ != "RejectedPositiveData" or response.status_code != 400:
        return True
    details = response.json()["error"].get("details") or {}
    # A header that is null in the schema, because it may be absent, is the text `null` when it is sent.
    if details.get("field") == "Last-Event-ID" and (case.headers or {}).get("Last-Event-ID") == "null":
        return False
    rule = str(details.get("rule", "")).split(" ")[0]
    return rule == "" or rule in KEYWORDS


@schemathesis.hook
def filter_case(context, case) -> bool:
    if case.operation.definition.raw.get("operationId") != "admin_user_update":
        return True
    return str((case.path_parameters or {}).get("id")) not in TRIED
