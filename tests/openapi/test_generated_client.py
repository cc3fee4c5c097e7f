"""A client that openapi-python-client generates from the document is typed and works."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.openapi.conftest import KEY, REQUESTS

NAME = "generated_chat_stats_client"
BIN = Path(sys.executable).parent


#: As docs/clients.md recommends: parameters such as `window` are literals then, and no classes.
CONFIG = "literal_enums: true\n"


def generate(document: dict[str, Any], folder: Path, config: str) -> None:
    """Generate the package into `folder`."""
    (folder / "openapi.json").write_bytes(orjson.dumps(document))
    (folder / "config.yml").write_text(config)
    done = subprocess.run(
        [
            *(BIN / "openapi-python-client", "generate", "--fail-on-warning", "--meta", "none"),
            *("--path", "openapi.json", "--output-path", NAME, "--config", "config.yml"),
        ],
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},  # it formats with ruff
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert not any(word in output for word in ("WARNING", "Warning", "ERROR", "Skipping")), output


@pytest.fixture(scope="module")
def generated(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the generated package; it can be imported."""
    folder = tmp_path_factory.mktemp("generated")
    generate(document, folder, CONFIG)
    sys.path.insert(0, str(folder))
    yield folder / NAME
    sys.path.remove(str(folder))


@pytest.fixture
def client(generated: Path, service: httpx.Client) -> Iterator[Any]:
    package = importlib.import_module(NAME)
    with package.AuthenticatedClient(base_url=str(service.base_url).rstrip("/"), token=KEY) as client:
        yield client


def operation(tag: str, name: str) -> Any:
    return importlib.import_module(f"{NAME}.api.{tag}.{name}")


def model(name: str) -> Any:
    return getattr(importlib.import_module(f"{NAME}.models"), name)


def test_every_operation_and_every_answer_has_a_type(generated: Path, document: dict[str, Any]) -> None:
    operations = [each for path in document["paths"].values() for each in path.values()]
    for each in operations:
        code = (generated / "api" / each["tags"][0] / f"{each['operationId']}.py").read_text()
        for status, response in each["responses"].items():
            for content in response.get("content", {}).values():
                if status != "200" or "$ref" in content["schema"]:
                    name = content["schema"]["$ref"].rpartition("/")[2]
                    assert f"response_{status} = {name}.from_dict" in code, (each["operationId"], status)


def test_statistics_come_as_objects(client: Any) -> None:
    answer = operation("statistics", "get_summary").sync(client=client)
    assert isinstance(answer, model("SummaryAnswer"))
    assert answer.data.total_requests == REQUESTS
    assert abs(datetime.now(UTC) - answer.metadata.timestamp) < timedelta(minutes=1)
    ranged = operation("statistics", "get_summary").sync(client=client, start_date=date(2020, 1, 1))
    assert ranged.data.total_requests == REQUESTS


def test_pages_of_requests_follow_one_another(client: Any) -> None:
    list_requests = operation("requests", "list_requests")
    first = list_requests.sync(client=client, limit=3)
    second = list_requests.sync(client=client, limit=3, cursor=first.metadata.next_cursor)
    rows = [*first.data, *second.data]
    assert all(isinstance(row, model("RequestRow")) for row in rows)
    assert len({row.id for row in rows}) == 6
    assert [row.created_at for row in rows] == sorted((row.created_at for row in rows), reverse=True)
    one = operation("statistics", "get_model").sync(client=client, model_id=rows[0].model_id)
    assert one.data.model_name == rows[0].models.model_name


def test_chosen_columns_are_of_their_own_type(client: Any) -> None:
    answer = operation("requests", "list_requests").sync(client=client, fields="id,total_tokens", limit=1)
    (row,) = answer.data
    assert isinstance(row, model("ChosenRow"))
    assert set(row.to_dict()) == {"id", "total_tokens"}


def test_a_refusal_is_an_object_too(client: Any) -> None:
    answer = operation("requests", "list_requests").sync(client=client, cursor="of no answer")
    assert isinstance(answer, model("Problem"))
    assert answer.parameter == "cursor"


def test_parameters_and_fields_of_few_values_are_of_named_types(client: Any) -> None:
    literals = importlib.import_module(f"{NAME}.models.window")
    assert {"7d", "all"} < literals.WINDOW_VALUES
    answer = operation("statistics", "get_summary").sync(client=client, window="7d")
    assert answer.metadata.window == "7d"
    assert answer.metadata.cache in importlib.import_module(f"{NAME}.models.cache_state").CACHE_STATE_VALUES
    filtered = operation("statistics", "get_summary").sync(client=client, status=["completed"])
    assert 0 < filtered.data.total_requests < REQUESTS


USE = """
from generated_chat_stats_client import AuthenticatedClient
from generated_chat_stats_client.api.statistics import get_providers, get_summary
from generated_chat_stats_client.models import CacheState, Method, Problem, Window

client = AuthenticatedClient(base_url="http://localhost", token="key")
window: Window = "7d"
answer = get_summary.sync(client=client, window=window)
get_providers.sync(client=client, window="7d", order_by="-total_cost_usd", limit=3)
if answer is not None and not isinstance(answer, Problem):
    requests: int = answer.data.total_requests
    cache: CacheState = answer.metadata.cache
    method: Method = answer.metadata.method
get_summary.sync(client=client, window="1y")  # type: ignore[arg-type]
"""


@pytest.mark.slow
def test_the_client_is_typed_as_its_users_write_it(generated: Path) -> None:
    (generated.parent / "use.py").write_text(USE)
    options = ("--strict", "--follow-imports=silent", "--config-file=", "--cache-dir=/dev/null")
    done = subprocess.run(
        [BIN / "mypy", *options, "use.py"],
        cwd=generated.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_client_with_classes_has_names_for_all_values(document: dict[str, Any], tmp_path: Path) -> None:
    generate(document, tmp_path, "literal_enums: false\n")
    assert "DAYS_7 =" in (tmp_path / NAME / "models" / "window.py").read_text()
    found = [path for path in (tmp_path / NAME).rglob("*.py") if re.search(r"\bVALUE_\d", path.read_text())]
    assert found == []
