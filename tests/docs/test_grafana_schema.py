"""The dashboards, checked against the schema of the Grafana that docker-compose.yml runs."""

import json
import re
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests import npm
from tests.docs.documents import ROOT

pytestmark = pytest.mark.slow

FOLDER = ROOT / "monitoring" / "grafana" / "dashboards"
SCHEMA = (Path(__file__).parent / "grafana_schema.ts").read_text()
OPTIONS = ("--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "esnext")


def version() -> str:
    [found] = re.findall(r"image: grafana/grafana:([\d.]+)", (ROOT / "docker-compose.yml").read_text())
    return str(found)


def broken(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The dashboard with one mistake in each."""
    several = [deepcopy(dashboard) for _ in range(4)]
    panels = [next(panel for panel in each["panels"] if panel["type"] == "timeseries") for each in several]
    panels[0]["options"]["legend"]["placement"] = "left"
    panels[1]["fieldConfig"]["defaults"]["custom"]["drawstyle"] = "line"
    panels[2]["title"] = 1
    several[3]["templating"]["list"][0]["type"] = "querry"
    return several


def test_grafana_knows_every_field_of_the_dashboards(tmp_path: Path) -> None:
    npm.install(tmp_path, f"@grafana/schema@{version()}", npm.TYPESCRIPT)
    dashboards = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    assert len(dashboards) == 2
    (tmp_path / "schema.ts").write_text(SCHEMA)
    lines = ['import type { Dashboard } from "./schema";']
    for number, dashboard in enumerate(dashboards):
        lines.append(f"export const right{number}: Dashboard = {json.dumps(dashboard)};")
    first = len(lines) + 1
    lines += [
        f"export const wrong{n}: Dashboard = {json.dumps(each)};"
        for n, each in enumerate(broken(dashboards[0]))
    ]
    (tmp_path / "dashboards.ts").write_text("\n".join(lines))
    checked = subprocess.run(
        [tmp_path / "node_modules/.bin/tsc", *OPTIONS, "--moduleResolution", "bundler", "dashboards.ts"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = re.findall(r"^dashboards\.ts\((\d+),", checked.stdout, re.MULTILINE)
    assert {int(line) for line in found} == set(range(first, len(lines) + 1)), checked.stdout
