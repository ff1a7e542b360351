"""What is noted of a handshake: bounded, and nothing where there is nothing to note it of."""

from __future__ import annotations

from gateway.ike.constants import ExchangeType
from gateway.ike.trace import MOST_STEPS, Trace


def test_an_exchange_with_aaa_behind_it() -> None:
    trace = Trace(100.0, 500)
    trace.request(101.0, ExchangeType.IKE_AUTH, 4500, 3)
    trace.ask_backend(101.0, b"in")
    assert trace.waiting_since == 101.0
    trace.backend_answered(103.5, b"out")
    trace.backend_answered(200.0)
    trace.answer([bytes(100), bytes(700)])
    trace.repeated()
    (step,) = trace.steps
    assert (step.at, step.local_port, step.fragments, step.repeats) == (101.0, 4500, 3, 1)
    assert (step.answer_datagrams, step.answer_bytes, step.backend_s) == (2, 700, 2.5)
    assert (step.eap_in, step.eap_out) == (b"in", b"out")


def test_however_many_there_are() -> None:
    trace = Trace(0.0, 500)
    for number in range(MOST_STEPS + 10):
        trace.request(float(number), ExchangeType.IKE_AUTH, 4500, 1)
    assert (len(trace.steps), trace.left_out) == (MOST_STEPS, 10)
    assert [step.at for step in (trace.steps[0], trace.steps[-2], trace.steps[-1])] == [0, MOST_STEPS - 2, 49]


def test_before_any_exchange() -> None:
    trace = Trace(0.0, 500)
    trace.answer([b"x"])
    trace.repeated()
    trace.ask_backend(1.0)
    trace.backend_answered(2.0)
    assert trace.steps == []
