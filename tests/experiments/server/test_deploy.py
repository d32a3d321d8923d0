"""The files of docs/deploy name flags, routes, metrics and packages that exist."""

import configparser
import json
import re
import shlex

import pytest
import yaml
from absl import flags
from absl.testing import flagsaver

from experiments import serve
from experiments.server.app import make_app
from experiments.server.engine import Engine
from experiments.server.sqlite_store import SqliteStore
from experiments.server.worker import Worker
from tests.experiments.server.conftest import Clock
from tests.mutate import ROOT

DEPLOY = ROOT / "docs" / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def objects():
    """Those of the manifest, by kind."""
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert len({one["kind"] for one in found}) == len(found)
    return {one["kind"]: one for one in found}


@pytest.fixture(scope="module")
def served(export, tmp_path_factory):
    """The paths and the metrics of a server."""
    from starlette.testclient import TestClient

    store = SqliteStore(tmp_path_factory.mktemp("store") / "shop.db")
    with TestClient(make_app(Worker(Engine(export, store, Clock())))) as client:
        client.post("/v1/events", json={"events": [{"user": "u", "item": "i5"}]})
        return set(client.get("/openapi.json").json()["paths"]), client.get("/metrics").text


def settings_of(arguments):
    """What the command makes of them."""
    with flagsaver.flagsaver():
        serve.define_flags()
        left = flags.FLAGS(["serve", *arguments])
        assert left == ["serve"], left
        return serve.read_settings()


def test_the_image_starts_the_command():
    steps = dict(re.findall(r"^(ENTRYPOINT|CMD) (.*)", DOCKERFILE, re.MULTILINE))
    assert json.loads(steps["ENTRYPOINT"]) == ["python", "-m", "experiments.serve"]
    settings = settings_of(json.loads(steps["CMD"]))
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    assert f"EXPOSE {settings.port}" in DOCKERFILE
    for line in re.findall(r"^COPY (.*)", DOCKERFILE, re.MULTILINE):
        for source in shlex.split(line)[:-1]:
            assert (ROOT / source).exists(), source


def test_the_image_has_all_that_the_extra_has():
    """And constraints for each, so that all builds have the versions that are tested."""
    wanted = (DEPLOY / "requirements.txt").read_text()
    named = {re.match(r"[\w-]+", line)[0] for line in wanted.splitlines() if line[0] != "#"}
    package = configparser.ConfigParser()
    package.read(ROOT / "setup.cfg")
    lines = package["options.extras_require"]["serve"].split("\n")
    extra = {re.match(r"[\w-]+", line)[0] for line in lines if line and line[0] != "#"}
    assert "fastapi" in extra
    assert extra <= named
    locked = (ROOT / "requirements.lock").read_text()
    for name in named:
        assert re.search(rf"^{name}==", locked, re.MULTILINE), name


def test_the_manifest_starts_the_command(objects, served):
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = settings_of(container["args"])
    assert settings.store == "$(STORE)"
    assert container["env"][0]["name"] == "STORE"
    assert settings.port == container["ports"][0]["containerPort"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in served[0]
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    assert str(settings.token_file).startswith("/secrets/")
    assert {"/exports", "/secrets", "/tmp"} == set(mounts)
    assert set(mounts.values()) == {one["name"] for one in pod["volumes"]}
    assert "NUMBA_CACHE_DIR=/tmp/" in DOCKERFILE
    user = pod["securityContext"]["runAsUser"]
    assert f"USER {user}" in DOCKERFILE
    assert f"--uid {user}" in DOCKERFILE


def test_the_objects_belong_together(objects):
    assert set(objects) == {
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
    }
    deployment = objects["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    scaled = objects["HorizontalPodAutoscaler"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaled["minReplicas"] == deployment["spec"]["replicas"]
    # A disruption may always take one.
    assert objects["PodDisruptionBudget"]["spec"]["minAvailable"] < scaled["minReplicas"]


def test_rules_are_about_metrics_that_exist(served):
    (group,) = yaml.safe_load((DEPLOY / "prometheus_rules.yaml").read_text())["groups"]
    recorded = {rule["record"] for rule in group["rules"] if "record" in rule}
    names = set(re.findall(r"^(hiertcn_\w+)", served[1], re.MULTILINE))
    labels = set(re.findall(r"[{,](\w+)=\"", served[1]))
    for rule in group["rules"]:
        expression = rule["expr"]
        used = set(re.findall(r"\bhiertcn[:\w]+", expression))
        assert used
        assert used <= names | recorded, used
        assert set(re.findall(r"[{,]\s*(\w+)=", expression)) <= labels
        grouped = re.findall(r"\bby \(([^)]*)\)", expression)
        assert {one.strip() for by in grouped for one in by.split(",")} <= labels
        assert expression.count("(") == expression.count(")")
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["annotations"]["summary"]
