import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from noisevote.service.settings import Settings, SettingsError, read_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside."""
    for name in list(os.environ):
        if name.startswith("NOISEVOTE_"):
            monkeypatch.delenv(name)


def test_there_is_a_default_for_everything() -> None:
    """127.0.0.1:8000, the repository's models."""
    settings = read_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.model_store.parts[-2:] == ("model_store", "models")
    assert settings.threads >= 1


def test_flags_win_over_the_environment_which_wins_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The one documented precedence, for every kind of value."""
    monkeypatch.setenv("NOISEVOTE_PORT", "8123")
    monkeypatch.setenv("NOISEVOTE_MAX_VOTES", "77")
    monkeypatch.setenv("NOISEVOTE_MODEL_STORE", str(tmp_path))
    settings = read_settings(["--port", "9000", "--batch-rows=16"])
    assert (settings.port, settings.max_votes, settings.batch_rows) == (9000, 77, 16)
    assert settings.model_store == tmp_path


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files pass on what is not there."""
    monkeypatch.setenv("NOISEVOTE_PORT", "")
    assert read_settings().port == 8000


@pytest.mark.parametrize("name", ["NOISEVOTE_PRT", "noisevote_prt", "NOISEVOTE_"])
def test_unknown_variables_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A misspelt setting is never silently the default."""
    monkeypatch.setenv(name, "8123")
    with pytest.raises(SettingsError, match=rf"unknown setting {name}; known are .*NOISEVOTE_PORT"):
        read_settings()


def test_the_training_rooms_variable_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """NOISEVOTE_DATA belongs to another room."""
    monkeypatch.setenv("NOISEVOTE_DATA", "/data")
    read_settings()


@pytest.mark.parametrize("flag", ["--prt", "--por", "--NOISEVOTE_PORT", "8123"])
def test_unknown_flags_are_refused_by_name(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor are they guessed from their beginning."""
    with pytest.raises(SystemExit) as exit_:
        read_settings([flag, "1"])
    assert exit_.value.code == 2
    assert flag in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--port", "high"], {}, "--port: 'high'"),
        (["--port", "70000"], {}, "--port: '70000'"),
        ([], {"NOISEVOTE_PORT": "-1"}, "NOISEVOTE_PORT: '-1'"),
        ([], {"NOISEVOTE_THREADS": "0"}, "NOISEVOTE_THREADS: '0'"),
        (["--model-store", "/nowhere"], {}, "--model-store: '/nowhere'"),
        (["--log-level", "loud"], {}, "--log-level: 'loud'"),
        (["--queue-rows", "10"], {}, r"^queue_rows: 10 is less than max_votes \(10000\)"),
    ],
)
def test_bad_values_are_named_as_they_were_given(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    """By flag or by variable, with the value."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message):
        read_settings(arguments)


def test_settings_are_frozen_and_closed() -> None:
    """Nothing changes them later, and nothing unknown gets in."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # that this is refused is the claim
    with pytest.raises(ValidationError, match="prt"):
        Settings(prt=1)  # type: ignore[call-arg]  # the same


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """With what it means."""
    with pytest.raises(SystemExit) as exit_:
        read_settings(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert field.description


def test_lists_and_switches_are_given_as_flags_and_as_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commas between values, once or with several flags; capitals do not matter where values are words."""
    flags = ["--allowed-origins", "https://a.example,http://b:3000", "--insecure", "--log-level", "INFO"]
    given = read_settings([*flags, "--allowed-hosts", "a", "--allowed-hosts", "b"])
    monkeypatch.setenv("NOISEVOTE_ALLOWED_ORIGINS", "https://a.example, http://b:3000")
    monkeypatch.setenv("NOISEVOTE_INSECURE", "true")
    monkeypatch.setenv("NOISEVOTE_LOG_LEVEL", "Info")
    monkeypatch.setenv("NOISEVOTE_ALLOWED_HOSTS", "a,b")
    assert read_settings() == given
    assert given.allowed_origins == ("https://a.example", "http://b:3000")
    assert (given.insecure, given.log_level, given.allowed_hosts) == (True, "info", ("a", "b"))


@pytest.mark.parametrize(
    "flags",
    [
        ["--allowed-origins", "lab.example"],
        ["--allowed-origins", "https://lab.example/page"],
        ["--allowed-origins", "*"],
        ["--root-path", "noisevote"],
        ["--root-path", "/noisevote/"],
        ["--root-path", "/a?b"],
        ["--log-level", "loud"],
        ["--key-priority", "9"],
        ["--insecure", "--require-configured-keys"],
    ],
)
def test_settings_of_who_may_come_in_are_checked(flags: list[str]) -> None:
    """What would never match, or match everything, is refused at start."""
    with pytest.raises(SettingsError):
        read_settings(flags)
