"""Every mistake in the configuration is answered with where it is, which key, and what is allowed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from core.settings import Settings, SettingsError, load_settings

EXAMPLE = Path(__file__).parents[3] / "deploy" / "ostiary.example.toml"
REFERENCE = Path(__file__).parents[3] / "docs" / "configuration.md"


ONE_POOL = "[[gateway.pools]]\nname = 'a'\nipv4 = '10.0.0.0/8'\n"
ONE_SITE = "[[gateway.site_peers]]\nname = 'b'\nidentity = 'b.example'\nsecret_file = '/b.key'\n"
SITE = ONE_SITE + "networks = ['172.16.0.0/24']\n"
ONE_PPK = "[[gateway.ppks]]\nname = 'q'\nsecret_file = '/q.key'\n"


def load(tmp_path: Path, toml: str) -> Settings:
    file = tmp_path / "ostiary.toml"
    file.write_text(toml, encoding="utf-8")
    return load_settings(file)


def refused(tmp_path: Path, toml: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, toml)
    return str(caught.value)


def test_defaults_without_file_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings() == Settings()


def test_file_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ostiary.toml").write_text("[gateway]\nike_port = 1500\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings().gateway.ike_port == 1500


def test_environment_wins_over_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_GATEWAY__IKE_PORT", "2500")
    settings = load(tmp_path, "[gateway]\nike_port = 1500\nnatt_port = 1600\n")
    assert (settings.gateway.ike_port, settings.gateway.natt_port) == (2500, 1600)


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", "")
    assert load_settings().state_dir == Settings().state_dir


def test_lists_and_tables_by_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_GATEWAY__DNS", '["10.0.0.1", "2001:db8::1"]')
    monkeypatch.setenv(
        "OSTIARY_GATEWAY__POOLS", '[{"name": "a", "ipv4": "10.1.0.0/24"}, {"name": "b", "ipv6": "fd00::/112"}]'
    )
    monkeypatch.setenv("OSTIARY_AAA", '{"rules": [{"name": "all", "pool": "b", "networks": ["10.0.0.0/8"]}]}')
    settings = load_settings()
    assert settings.gateway.dns[0] == IPv4Address("10.0.0.1")
    assert settings.gateway.pools[1].ipv6 == IPv6Network("fd00::/112")
    assert settings.aaa.rules[0].networks == (IPv4Network("10.0.0.0/8"),)


def test_domains_are_kept_as_clients_get_them() -> None:
    gateway = Settings.model_validate({"gateway": {"dns": ["10.0.0.1"], "dns_domains": ["Corp.Example.", "_x.a"]}})
    assert gateway.gateway.dns_domains == ("corp.example", "_x.a")


def test_settings_can_not_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().gateway.ike_port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("toml", "key", "allowed"),
    [
        ("gatway = 1", "gatway", "allowed here: aaa, database, gateway, jobs"),
        ("[gateway]\nike_prt = 1", "gateway.ike_prt", "ike_port"),
        (ONE_POOL + "ipv5 = 'x'", "gateway.pools[0].ipv5", "allowed here: ipv4, ipv6, name"),
        ("[[aaa.rules]]\nname = 'a'\neffct = 'deny'", "aaa.rules[0].effct", "effect"),
        ("[gateway]\nike_port = 0", "gateway.ike_port", "greater than or equal to 1 (got 0)"),
        ("[gateway]\nike_port = 65536", "gateway.ike_port", "less than or equal to 65535"),
        ("[gateway]\nike_port = 'x'", "gateway.ike_port", "valid integer (got 'x')"),
        ("[gateway]\nname = 'a b'", "gateway.name", "pattern"),
        ("[gateway]\nlisten = ['localhost']", "gateway.listen[0]", "IPv4 or IPv6 address"),
        ("[gateway]\nlisten = '0.0.0.0'", "gateway.listen", "list"),
        ("[gateway]\nnetworks = ['10.0.0.1/8']", "gateway.networks[0]", "10.0.0.0/8 is the network"),
        ("[gateway]\nnetworks = ['10.0.0.0/33']", "gateway.networks[0]", "such as 10.0.0.0/8"),
        ("[gateway]\ndns_domains = ['corp.example']", "gateway", "and dns is empty"),
        ("[gateway]\ndns = ['10.0.0.1']\ndns_domains = ['a..b']", "gateway.dns_domains[0]", "must be a domain name"),
        ("[gateway]\ndns = ['10.0.0.1']\ndns_domains = ['é.fr']", "gateway.dns_domains[0]", "A-labels"),
        ("[[aaa.rules]]\nname = 'a'\ndns_domains = ['b']", "rule 'a'", "neither it nor the gateway has dns"),
        (
            "[[aaa.rules]]\nname = 'a'\ntunnel = 'full'\nnetworks = ['10.0.0.0/8']",
            "aaa.rules[0]",
            'say tunnel = "split"',
        ),
        ("[[aaa.rules]]\nname = 'a'\ntunnel = 'split'", "rule 'a'", "the gateway's networks have 0.0.0.0/0"),
        (
            "[[aaa.rules]]\nname = 'a'\ntunnel = 'split'\nnetworks = ['10.0.0.0/8', '::/0']",
            "rule 'a'",
            "its networks have ::/0",
        ),
        ("[aaa]\ndevices_at_once = 0", "aaa.devices_at_once", "greater than or equal to 1"),
        ("[gateway]\ndata_plane = 'magic'", "gateway.data_plane", "'auto', 'kernel' or 'userspace'"),
        ("[gateway]\ndpd_interval_s = 0", "gateway.dpd_interval_s", "greater than 0"),
        ("[[gateway.pools]]\nname = 'a'", "gateway.pools[0]", "ipv4, ipv6 or both"),
        (ONE_POOL + ONE_POOL, "gateway.pools", "a name of its own"),
        (ONE_SITE, "gateway.site_peers[0].networks", "is required"),
        (ONE_SITE + "networks = []", "gateway.site_peers[0].networks", "at least 1 item"),
        (
            ONE_SITE + "networks = ['0.0.0.0/0']",
            "gateway.site_peers[0]",
            "0.0.0.0/0 is everything, and not a site's own",
        ),
        (SITE + SITE, "gateway.site_peers", "each site peer needs a name of its own"),
        (SITE + SITE.replace("'b'", "'c'").replace("b.ex", "B.ex"), "gateway.site_peers", "an identity of its own"),
        (
            SITE + SITE.replace("'b'", "'c'").replace("b.ex", "c.ex").replace("/24", "/16"),
            "gateway",
            "172.16.0.0/24 of site b and 172.16.0.0/16 of site c overlap",
        ),
        (
            ONE_POOL + ONE_SITE + "networks = ['10.7.0.0/24']",
            "gateway",
            "10.7.0.0/24 of site b and 10.0.0.0/8 of pool a overlap",
        ),
        (SITE.replace("b.example", "no name"), "gateway.site_peers[0].identity", "pattern"),
        ("[gateway]\nppk_required = true", "gateway", "ppk_required lets nobody in while ppks is empty"),
        (ONE_PPK + ONE_PPK, "gateway.ppks", "a name of its own"),
        ("[gateway]\neap_only = true", "gateway.eap_only", 'needs aaa.eap_methods = ["tls"]'),
        ("[gateway]\neap_only = true\n[aaa]\neap_methods = ['tls', 'mschapv2']", "eap_only", "needs aaa.eap_methods"),
        (
            "[[aaa.rules]]\nname = 'a'\nmethods = ['certificate+psk']",
            "aaa.rules[0].methods[0]",
            "certificate+eap-tls",
        ),
        ("[[aaa.rules]]\nname = 'a'\ndevice_users = 'all'", "aaa.rules[0].device_users", "'owner' or 'anyone'"),
        ("[pki]\ngateway_extra_key_types = ['dsa']", "pki.gateway_extra_key_types[0]", "ed25519"),
        ("[[aaa.rules]]\nname = 'a'\npool = 'zz'", "pool 'zz'", "the pools are: staff"),
        ("[[aaa.rules]]\neffect = 'deny'", "aaa.rules[0].name", "is required"),
        ("[aaa]\neap_methods = ['md5']", "aaa.eap_methods[0]", "'mschapv2', 'tls', 'ttls' or 'peap'"),
        ("log = 'loud'", "log", "must be a table"),
        ("[log]\nlevel = 'loud'", "log.level", "'debug', 'info', 'warning' or 'error'"),
        ("[database]\nurl = 'mysql://u@h/n'", "database.url", "sqlite:///PATH and postgresql://"),
        ("[jobs]\nbroker_url = 'redis://h/0'", "jobs.broker_url", "amqp://USER:PASSWORD@HOST/VHOST"),
        ("[web]\nthreads = 1000", "web.threads", "less than or equal to 256"),
    ],
)
def test_mistake_in_the_file(tmp_path: Path, toml: str, key: str, allowed: str) -> None:
    message = refused(tmp_path, toml)
    assert message.startswith(f"{tmp_path}/ostiary.toml: ")
    assert key in message
    assert allowed in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, "[gateway]\nike_port = 0\nnatt_port = 0\n[log]\nlevel = 'x'")
    assert len(message.splitlines()) == 3


def test_file_that_is_not_toml(tmp_path: Path) -> None:
    message = refused(tmp_path, "[gateway\nike_port = 1")
    assert "not valid TOML" in message
    assert "line 1" in message


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "ostiary.toml"
    file.write_bytes(b"# \xff\n")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings(file)


def test_file_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read: Is a directory"):
        load_settings(tmp_path)


def test_named_file_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match=r"none\.toml: no such file\n  fix: .*--config"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("OSTIARY_GATEWAY__IKE_PROT", "1", "no setting 'ike_prot' in gateway; allowed here: aaa,"),
        ("OSTIARY_GATEWAY_IKE_PORT", "1", "no setting 'gateway_ike_port'; allowed here: aaa,"),
        ("OSTIARY_GATWAY__IKE_PORT", "1", "no setting 'gatway'; allowed here: aaa,"),
        ("OSTIARY_GATEWAY__IKE_PORT__X", "1", "gateway.ike_port is one value and has no keys"),
        ("OSTIARY_GATEWAY__DNS", "10.0.0.1", "lists and tables are written as JSON (got '10.0.0.1')"),
        ("OSTIARY_GATEWAY__POOLS", "[{", "lists and tables are written as JSON"),
        ("OSTIARY_GATEWAY", "{", "lists and tables are written as JSON"),
        ("OSTIARY_GATEWAY__DNS", '["10.0.0"]', "gateway.dns[0]: must be an IPv4 or IPv6 address"),
        (
            "OSTIARY_GATEWAY__POOLS",
            '[{"name": "a", "ipv4": "10.0.0.1/24"}]',
            "pools[0].ipv4: is not a valid IPv4 network",
        ),
        ("OSTIARY_GATEWAY", '{"ike_port": 99999}', "gateway.ike_port: must be less than or equal to 65535"),
        ("OSTIARY_GATEWAY", '{"ike_prt": 9}', "gateway.ike_prt: no such setting"),
        ("OSTIARY_GATEWAY__IKE_PORT", "0", "gateway.ike_port: must be greater than or equal to 1 (got '0')"),
        ("ostiary_gateway__ike_port", "0", "gateway.ike_port: must be greater than or equal to 1 (got '0')"),
    ],
)
def test_mistake_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"environment variable {variable}: ")
    assert expected in str(caught.value)


def test_no_password_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_DATABASE__URL", "mysql://ostiary:hunter2@db/ostiary")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    monkeypatch.delenv("OSTIARY_DATABASE__URL")
    monkeypatch.setenv("OSTIARY_DATABASE", '{"url": "postgresql://ostiary:hunter2@db/ostiary"')
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_shown_database_url_hides_the_password() -> None:
    settings = Settings.model_validate(
        {"database": {"url": "postgresql://ostiary:hunter2@db/ostiary?password=hunter2"}}
    )
    assert settings.shown_database_url == "postgresql://ostiary:***@db/ostiary?password=***"


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key as (table, key)."""
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        members = [part for part in (annotation, *get_args(annotation)) if isinstance(part, type)]
        table = next((part for part in members if issubclass(part, BaseModel)), None)
        if table is None:
            yield prefix, name
        else:
            yield from keys_of(table, f"{prefix}.{name}".removeprefix("."))


def test_example_file_equals_the_defaults() -> None:
    assert load_settings(EXAMPLE) == Settings()


def test_example_file_shows_every_key() -> None:
    text = EXAMPLE.read_text()
    table = ""
    shown = set()
    for line in text.splitlines():
        stripped = line.removeprefix("# ")
        if stripped.startswith("["):
            table = stripped.split("]")[0].lstrip("[")
        elif " = " in stripped and stripped.split(" = ")[0].isidentifier():
            shown.add((table, stripped.split(" = ")[0]))
    assert set(keys_of(Settings)) - shown == set()


def test_every_commented_line_of_the_example_file_is_valid(tmp_path: Path) -> None:
    uncommented = re.sub(r"^# (?=[a-z_]+ = |\[)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    assert len(tomllib.loads(uncommented)) == len(Settings.model_fields)
    load(tmp_path, uncommented)


def test_reference_names_every_key() -> None:
    text = REFERENCE.read_text()
    missing = [f"{table}.{key}" for table, key in keys_of(Settings) if f"`{key}`" not in text]
    assert missing == []


@pytest.mark.parametrize(
    ("more", "accepted"),
    [("", False), ('tunnel = "split"', False), ('networks = ["10.1.0.80/32"]', True), ('tunnel = "full"', True)],
)
def test_a_rule_for_quarantined_devices_says_what_they_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, accepted: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    rule = f'[[aaa.rules]]\nname = "quarantine"\ndevice_states = ["quarantined"]\n{more}\n'
    (tmp_path / "ostiary.toml").write_text(rule)
    if accepted:
        assert load_settings().aaa.rules[0].name == "quarantine"
    else:
        with pytest.raises(SettingsError, match="needs networks"):
            load_settings()
