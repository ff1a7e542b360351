"""Where the test kernel is kept, and that it is the one of this configuration."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.build import Recipe, lost_options
from tests.lab.cache import cache_directory


def test_the_cache_is_the_users_own_unless_told_otherwise() -> None:
    assert cache_directory({}) == Path.home() / ".cache" / "ostiary"
    assert cache_directory({"XDG_CACHE_HOME": "/xdg"}) == Path("/xdg/ostiary")
    assert cache_directory({"XDG_CACHE_HOME": "/xdg", "TEST_CACHE": "/ours"}) == Path("/ours")


def test_another_source_or_configuration_is_another_kernel() -> None:
    keys = {
        Recipe(version, configuration).key
        for version in ("6.1.192-2", "6.1.193-1")
        for configuration in ("CONFIG_NET=y\n", "CONFIG_NET=y\nCONFIG_TUN=y\n")
    }
    assert len(keys) == 4
    assert all(key.startswith("6.1.19") for key in keys)


def test_an_option_that_did_not_survive_is_named() -> None:
    wanted = 'CONFIG_NET=y\n# a comment\nCONFIG_NAME="x"\n# CONFIG_MODULES is not set\nCONFIG_TUN=y\nCONFIG_ESP=y\n'
    final = 'CONFIG_NET=y\nCONFIG_NAME="x"\nCONFIG_TUN=m\n# CONFIG_ESP is not set\nCONFIG_OTHER=y\n'
    assert lost_options(wanted, final) == ["CONFIG_TUN", "CONFIG_ESP"]
    assert lost_options("# CONFIG_MODULES is not set\n", "CONFIG_MODULES=y\n") == ["CONFIG_MODULES"]
