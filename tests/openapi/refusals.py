"""Further checks that schemathesis runs on every answer: how errors must look.

In place of its `positive_data_acceptance`, which allows no refusal of what the document's schemas allow. No
schema can say that two parameters do not go together.
"""

from typing import Any

import schemathesis

#: Text that no answer may contain.
SECRETS = ("postgres", "asyncpg", "redis://", "SELECT ", "Traceback", ".py")


@schemathesis.check
def refusal_is_a_problem_that_names_the_parameter(
    _ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    if response.status_code < 400 or case.path.startswith("/health"):
        return
    assert response.headers["content-type"] == ["application/problem+json"], "it is no problem document"
    problem = response.json()
    assert problem["success"] is False
    assert problem["status"] == response.status_code
    shown = [secret for secret in SECRETS if secret in problem["detail"]]
    assert not shown, f"it shows what is inside: {shown}"
    if response.status_code == 422:
        sent = {*(case.path_parameters or {}), *(case.query or {})}
        assert problem["parameter"] in sent, f"it names none of {sorted(sent)}"


@schemathesis.check
def what_the_document_allows_is_accepted(
    _ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    if (
        case.meta is None
        or not case.meta.generation.mode.is_positive
        or response.status_code not in (400, 422)
    ):
        return
    assert response.status_code == 422, "it is no request at all"
    parameter, query = response.json()["parameter"], case.query or {}
    dates = [name for name in ("start_date", "end_date") if name in query]
    series = case.path.endswith("/timeseries")
    if case.path.endswith("/dimensions") and "name" not in query:
        return  # the others are about the values of one
    question = case.path.endswith("/query")
    single = case.path.endswith("/chat-requests")
    beyond_schemas = {
        "window": "window" in query and dates,
        "start_date": len(dates) == 2 or series or _leap_second(query.get("start_date")),
        "end_date": len(dates) == 2 or series or _leap_second(query.get("end_date")),
        "bucket": series or question,
        **dict.fromkeys(("group_by", "compare", "limit"), question),
        "order_by": question or single,  # some orders of single requests need an index
        **dict.fromkeys(("model_id", "provider_id"), single and "unresolved" in str(query)),
        "timezone": True,
        "cursor": True,
    }
    assert beyond_schemas.get(parameter), f"{parameter} was refused though the document allows it: {query}"


def _leap_second(moment: object) -> bool:
    return ":60" in str(moment)
