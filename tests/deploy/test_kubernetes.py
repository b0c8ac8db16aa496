"""The plain Kubernetes manifests are valid, fit together, and fit the image."""

import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of the checker's own imports
    import kubernetes_validate

from tests.support import deploy_manifests as manifests
from tests.support.exposition import exported_metrics

FOLDER = manifests.ROOT / "deploy" / "kubernetes"
FILES = sorted(FOLDER.rglob("*.yaml"))
VERSIONS = ("1.32", "1.37")
DEPLOYMENT = manifests.read(FOLDER / "deployment.yaml")
POD: dict[str, Any] = DEPLOYMENT["spec"]["template"]["spec"]


def refused(resource: dict[str, Any], version: str) -> bool:
    """What the checker thinks; strict: keys that a schema does not know are errors."""
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError:
        return True
    return False


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_manifest_is_valid(path: Path, version: str) -> None:
    """By Kubernetes' own schemas of an older and a current version; a misspelt key in it would be found."""
    resource = manifests.read(path)
    assert not refused(resource, version)
    wrong = deepcopy(resource)
    wrong["spec"]["noSuchKey"] = 1
    assert refused(wrong, version)


def test_the_deployment_runs_the_image_as_it_is_meant() -> None:
    """Port, user, rights, probes, and time to end."""
    (container,) = POD["containers"]
    manifests.is_the_image(container)
    manifests.runs_as_the_user(POD["securityContext"])
    manifests.asks_for_keys(POD, container)
    manifests.is_probed(container)
    manifests.ends_in_time(POD, container["lifecycle"]["preStop"]["sleep"]["seconds"])
    manifests.is_spared_of_service_links(POD)
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert float(container["resources"]["limits"]["cpu"]).is_integer()  # a lane is a whole processor


def test_all_manifests_speak_of_the_same_pods() -> None:
    """Selectors are the labels of the pods, the Service's port is one of theirs, the autoscalers scale them."""
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    service = manifests.read(FOLDER / "service.yaml")["spec"]
    budget = manifests.read(FOLDER / "disruption-budget.yaml")["spec"]
    assert labels == DEPLOYMENT["spec"]["selector"]["matchLabels"] == service["selector"]
    assert labels == budget["selector"]["matchLabels"]
    assert labels == POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]
    (port,) = POD["containers"][0]["ports"]
    assert service["ports"][0]["targetPort"] == port["name"]
    annotations = DEPLOYMENT["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])
    assert {"name": "NOISEVOTE_OPEN_METRICS", "value": "true"} in POD["containers"][0][
        "env"
    ]  # an annotation has no key
    assert "replicas" not in DEPLOYMENT["spec"]  # else applying it again would undo what an autoscaler did


@pytest.mark.parametrize("name", ["autoscaler.yaml", "by-queue-rows/autoscaler.yaml"])
def test_autoscalers_replace_one_another_and_know_the_metrics(name: str) -> None:
    """Both have one name and scale the Deployment, above what a disruption leaves; custom metrics are exported ones."""
    scaler = manifests.read(FOLDER / name)
    assert scaler["metadata"]["name"] == "noisevote"
    reference = {"apiVersion": DEPLOYMENT["apiVersion"], "kind": "Deployment", "name": DEPLOYMENT["metadata"]["name"]}
    assert scaler["spec"]["scaleTargetRef"] == reference
    assert scaler["spec"]["minReplicas"] > manifests.read(FOLDER / "disruption-budget.yaml")["spec"]["minAvailable"]
    metrics = [metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"] if metric["type"] == "Pods"]
    assert set(metrics) <= set(exported_metrics())
    assert metrics or name == "autoscaler.yaml"
