"""Manifests of `deploy/`, and what they have to agree with."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from noisevote.service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def read(path: Path) -> dict[str, Any]:
    """The one resource of a file."""
    (resource,) = yaml.safe_load_all(path.read_text())
    assert isinstance(resource, dict)
    return resource


def is_the_image(container: dict[str, Any]) -> None:
    """The container runs this version's image as its Dockerfile means it: port, user and rights."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert container["image"] == f"noisevote:{version}"
    (port,) = container["ports"]
    assert f"EXPOSE {port['containerPort']}\n" in DOCKERFILE
    assert f"NOISEVOTE_PORT={port['containerPort']}" in DOCKERFILE
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    names = {f"NOISEVOTE_{name.upper()}" for name in Settings.model_fields}
    assert {variable["name"] for variable in container.get("env", [])} <= names


def asks_for_keys(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """Hashes of keys come from a Secret, mounted where the setting says, and there is no start without."""
    values = {variable["name"]: variable["value"] for variable in container["env"]}
    assert values["NOISEVOTE_REQUIRE_CONFIGURED_KEYS"] == "true"
    assert "NOISEVOTE_INSECURE" not in values
    (volume,) = pod["volumes"]
    (mount,) = container["volumeMounts"]
    assert volume["secret"]["secretName"] == "noisevote-keys"
    assert mount["name"] == volume["name"]
    assert mount["readOnly"]
    file = Path(values["NOISEVOTE_KEYS_FILE"])
    assert file.parent == Path(mount["mountPath"])
    documented = (ROOT / "docs" / "deploy.md").read_text()
    assert f"create secret generic noisevote-keys --from-file={file.name}" in documented


def runs_as_the_user(security: dict[str, Any]) -> None:
    """Not root, but the Dockerfile's user and group."""
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user is not None
    assert (security["runAsUser"], security["runAsGroup"]) == tuple(int(number) for number in user.groups())
    assert security["runAsNonRoot"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


def is_probed(container: dict[str, Any]) -> None:
    """Restarted when it does not live, asked when it is ready."""
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    ports = container["ports"][0]
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in {ports.get("name"), ports["containerPort"]}


def ends_in_time(pod: dict[str, Any], before_s: int = 0) -> None:
    """What was accepted is answered: killed only after whatever comes before, and the service's own grace time."""
    assert pod["terminationGracePeriodSeconds"] > before_s + Settings.model_fields["grace_seconds"].default


def is_spared_of_service_links(pod: dict[str, Any]) -> None:
    """Kubernetes sets no variables like NOISEVOTE_PORT, which settings would refuse."""
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
