"""The files of `docker compose up` fit together; test_docker.py runs the image itself."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from noisevote.service.errors import ForbiddenError
from noisevote.service.rest.access import access_at
from noisevote.service.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def read(name: str) -> Any:
    """A YAML file of deploy/compose."""
    return yaml.safe_load((FOLDER / name).read_text())


def binds(service: str) -> dict[str, Path]:
    """Files and folders of the repository by where a service finds them."""
    pairs = [volume.removesuffix(":ro").split(":") for volume in SERVICES[service]["volumes"]]
    return {inside: ROOT / outside for outside, inside in pairs if outside.startswith(".")}


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_what_is_mounted_is_there_and_cannot_be_written(service: str) -> None:
    """Every bind mount is a file or folder of this repository, mounted read-only."""
    assert all(path.exists() for path in binds(service).values())
    assert all(volume.endswith(":ro") for volume in SERVICES[service]["volumes"] if volume.startswith("."))


def test_prometheus_scrapes_the_service() -> None:
    """Under the job name that the dashboard asks for, at the service's name and the port that the image listens on."""
    (job,) = read("prometheus.yml")["scrape_configs"]
    assert job["job_name"] == "noisevote"
    assert job["static_configs"] == [{"targets": ["noisevote:8000"]}]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "NOISEVOTE_PORT=8000" in dockerfile
    assert "EXPOSE 8000" in dockerfile
    assert "/etc/prometheus/prometheus.yml" in binds("prometheus")


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    """Data source and dashboards are provisioned from where the compose file mounts them."""
    (source,) = read("grafana/datasources.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"]
    assert source["jsonData"]["timeInterval"] == read("prometheus.yml")["global"]["scrape_interval"]
    (provider,) = read("grafana/dashboards.yaml")["providers"]
    mounted = binds("grafana")
    assert (mounted[provider["options"]["path"]] / "noisevote.json").exists()
    assert {path.name for inside, path in mounted.items() if inside.startswith("/etc/grafana/provisioning/")} == {
        "datasources.yaml",
        "dashboards.yaml",
    }


def test_nothing_listens_beyond_this_machine_or_has_rights_it_does_not_need() -> None:
    """Ports are published on 127.0.0.1, capabilities are dropped, and the service's own files cannot be written."""
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["cap_drop"] == ["ALL"]
    assert SERVICES["noisevote"]["read_only"]


def test_without_keys_it_is_asked_by_known_names_alone() -> None:
    """Insecure because its port is this machine's alone; Prometheus's name for it and loopback's are its names."""
    environment = SERVICES["noisevote"]["environment"]
    settings = Settings(**{name.removeprefix("NOISEVOTE_").lower(): value for name, value in environment.items()})
    access = access_at(settings, loopback=False)
    assert access.keyless
    for host, allowed in (("noisevote:8000", True), ("127.0.0.1:8000", True), ("evil.example:8000", False)):
        with nullcontext() if allowed else pytest.raises(ForbiddenError):
            access.refuse_strangers("predict", "GET", {b"host": host.encode()})


def test_stopping_waits_longer_than_the_service_needs() -> None:
    """Compose kills what still runs after its grace period; accepted requests end within the service's own."""
    grace = SERVICES["noisevote"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Settings.model_fields["grace_seconds"].default
