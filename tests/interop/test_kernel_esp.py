"""Asking this machine's kernel whether it has ESP."""

from __future__ import annotations

import pytest

from tests.lab.namespaces import Lab, Namespace

pytestmark = pytest.mark.interop

ASK = "from gateway.dataplane.kernel_esp import kernel_esp; print(kernel_esp())"


@pytest.fixture(scope="module")
def namespace(lab: Lab) -> Namespace:
    """Associations belong to a network namespace, so this one has none."""
    return lab.namespace("asking")


def test_the_kernel_answers_and_keeps_nothing(namespace: Namespace) -> None:
    answer = namespace.run(".venv/bin/python", "-c", ASK)
    assert "available=True, reason='this kernel has ESP'" in answer or (
        "available=False, reason='this kernel has no ESP with AES-GCM'" in answer
    )
    assert namespace.run("ip", "xfrm", "state") == ""


def test_without_the_right_to_ask_the_answer_is_no(namespace: Namespace) -> None:
    answer = namespace.run(
        *("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"), ".venv/bin/python", "-c", ASK
    )
    assert answer.startswith(
        'KernelEsp(available=False, reason="the gateway may not use the kernel\'s ESP (no CAP_NET_ADMIN)", '
        "fix='run the gateway as root, or give it CAP_NET_ADMIN'"
    )
