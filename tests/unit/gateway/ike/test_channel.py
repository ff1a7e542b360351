"""The encrypted side of an SA by itself: whole and in fragments, and which error says that a message is authentic."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.channel import AuthenticButInvalid, Channel
from gateway.ike.constants import Encr, ExchangeType, Group, Integ, PayloadType, Prf
from gateway.ike.errors import IntegrityError, InvalidSyntax, UnsupportedCriticalPayload
from gateway.ike.fragments import MAX_REASSEMBLED_BYTES
from gateway.ike.keymat import derive_ike_keys
from gateway.ike.message import Header, Payloads
from gateway.ike.proposals import IkeSuite

GCM = IkeSuite(Encr.AES_GCM_16, 256, Integ.NONE, Prf.HMAC_SHA2_256, Group.CURVE25519)
CBC = IkeSuite(Encr.AES_CBC, 128, Integ.HMAC_SHA2_512_256, Prf.HMAC_SHA2_256, Group.CURVE25519)
SPI_I, SPI_R = b"spi of i", b"spi of r"
NOTIFY = [(PayloadType.NOTIFY, b"\0\0\x9c\x40" + b"data")]


def pair(suite: IkeSuite = GCM, fragment_bytes: int = 0) -> tuple[Channel, Channel]:
    """Initiator's and responder's."""
    keys = derive_ike_keys(suite, b"g" * 32, b"i" * 32, b"r" * 32, SPI_I, SPI_R)
    random = Random(4).randbytes
    both = [Channel(suite, keys, SPI_I, SPI_R, is_initiator=role, random=random) for role in (True, False)]
    if fragment_bytes:
        for channel in both:
            channel.set_fragment_size(fragment_bytes, 4)
    return both[0], both[1]


def read(channel: Channel, datagrams: list[bytes]) -> Payloads | None:
    """What the last of the datagrams brings."""
    found = None
    for datagram in datagrams:
        found = channel.open(Header.parse(datagram), datagram)
    return found


@pytest.mark.parametrize("suite", [GCM, CBC], ids=str)
class TestBothWays:
    @given(body=st.binary(max_size=3000), fragment_bytes=st.sampled_from([0, 576, 1280]), response=st.booleans())
    def test_round_trip(self, suite: IkeSuite, body: bytes, fragment_bytes: int, response: bool) -> None:
        sender, receiver = pair(suite, fragment_bytes)
        datagrams = sender.seal(ExchangeType.IKE_AUTH, 3, [(PayloadType.EAP, body)], response=response)
        payloads = read(receiver, datagrams)
        assert payloads is not None
        assert payloads.bodies == {PayloadType.EAP: [body]}
        assert receiver.first_datagram == datagrams[0]
        for datagram in datagrams:
            header = Header.parse(datagram)
            assert (header.spi_i, header.spi_r, header.message_id) == (SPI_I, SPI_R, 3)
            assert (header.from_initiator, header.is_response) == (True, response)
            if fragment_bytes:
                assert len(datagram) + 20 + 8 + 4 <= fragment_bytes

    def test_a_message_that_just_fits_goes_whole(self, suite: IkeSuite) -> None:
        sender, _ = pair(suite, 576)
        sizes = [
            len(sender.seal(ExchangeType.IKE_AUTH, 1, [(PayloadType.EAP, bytes(n))], response=False))
            for n in range(600)
        ]
        assert sizes[0] == 1
        assert sorted(sizes) == sizes
        assert set(sizes) == {1, 2}

    def test_neither_side_takes_its_own_messages(self, suite: IkeSuite) -> None:
        for channel in pair(suite):
            with pytest.raises(IntegrityError):
                read(channel, channel.seal(ExchangeType.INFORMATIONAL, 1, NOTIFY, response=False))

    def test_no_iv_twice(self, suite: IkeSuite) -> None:
        sender, _ = pair(suite)
        ivs = {sender.seal(ExchangeType.INFORMATIONAL, 1, [], response=False)[0][32:40] for _ in range(200)}
        assert len(ivs) == 200

    def test_the_header_is_covered(self, suite: IkeSuite) -> None:
        sender, receiver = pair(suite)
        (datagram,) = sender.seal(ExchangeType.INFORMATIONAL, 1, NOTIFY, response=False)
        for at in (17, 18, 19, 20, 23, 28, 29):
            changed = bytearray(datagram)
            changed[at] ^= 1
            with pytest.raises((IntegrityError, InvalidSyntax)):
                receiver.open(Header.parse(bytes(changed)), bytes(changed))
        assert receiver.first_datagram == b""

    def test_every_truncation(self, suite: IkeSuite) -> None:
        sender, receiver = pair(suite, 576)
        for datagram in sender.seal(ExchangeType.INFORMATIONAL, 1, [(PayloadType.EAP, bytes(900))], response=False):
            header = Header.parse(datagram)
            for size in range(28, len(datagram)):
                with pytest.raises((IntegrityError, InvalidSyntax)) as caught:
                    receiver.open(header, datagram[:size])
                assert not isinstance(caught.value, AuthenticButInvalid)


class TestAuthenticButInvalid:
    """The peer has the keys and still breaks the protocol: that is worth an answer, other than a wrong ICV."""

    @pytest.mark.parametrize("fragment_bytes", [0, 400])
    @pytest.mark.parametrize("plain", [b"\0\0\0\0", b"\0\0\xff\xff", b"\0\0\0\x05", b"\0\0\0\x04" + b"after"])
    def test_malformed_payloads(self, plain: bytes, fragment_bytes: int) -> None:
        sender, receiver = pair(fragment_bytes=fragment_bytes)
        plain += bytes(500) if fragment_bytes else b""
        datagrams = sender.seal_plain(ExchangeType.INFORMATIONAL, 1, PayloadType.NOTIFY, plain, response=False)
        assert (len(datagrams) > 1) is bool(fragment_bytes)
        with pytest.raises(AuthenticButInvalid):
            read(receiver, datagrams)
        assert receiver.first_datagram == datagrams[0]

    def test_nothing_inside_but_a_type(self) -> None:
        sender, receiver = pair()
        datagrams = sender.seal_plain(ExchangeType.INFORMATIONAL, 1, PayloadType.NOTIFY, b"", response=False)
        with pytest.raises(AuthenticButInvalid):
            read(receiver, datagrams)

    def test_a_payload_of_ikev1(self) -> None:
        sender, receiver = pair()
        datagrams = sender.seal_plain(ExchangeType.INFORMATIONAL, 1, 5, b"\0\0\0\x08abcd", response=False)
        with pytest.raises(AuthenticButInvalid):
            read(receiver, datagrams)

    def test_an_unknown_critical_payload_is_an_error_of_its_own(self) -> None:
        sender, receiver = pair()
        datagrams = sender.seal_plain(ExchangeType.INFORMATIONAL, 1, 99, b"\0\x80\0\x04", response=False)
        with pytest.raises(UnsupportedCriticalPayload):
            read(receiver, datagrams)
        assert receiver.first_datagram == datagrams[0]

    def test_an_encrypted_payload_within_one(self) -> None:
        sender, receiver = pair()
        (inner,) = sender.seal(ExchangeType.INFORMATIONAL, 1, NOTIFY, response=False)
        datagrams = sender.seal_plain(ExchangeType.INFORMATIONAL, 1, PayloadType.SK, inner[28:], response=False)
        payloads = read(receiver, datagrams)
        # It is kept as a payload that no exchange admits, and never opened.
        assert payloads is not None
        assert list(payloads.bodies) == [PayloadType.SK]

    def test_fragments_that_are_too_much_together(self) -> None:
        sender, receiver = pair(fragment_bytes=1280)
        body = [(PayloadType.EAP, bytes(MAX_REASSEMBLED_BYTES + 100))]
        datagrams = sender.seal(ExchangeType.IKE_AUTH, 1, body, response=False)
        with pytest.raises(AuthenticButInvalid, match="too long"):
            read(receiver, datagrams)


class TestUnverified:
    """What is found before the ICV is checked is no error of the peer: it is dropped."""

    def test_no_encrypted_payload(self) -> None:
        sender, receiver = pair()
        (datagram,) = sender.seal(ExchangeType.INFORMATIONAL, 1, NOTIFY, response=False)
        for next_payload in (0, PayloadType.NOTIFY, PayloadType.SKF, 99):
            header = Header.parse(datagram)._replace(next_payload=next_payload)
            with pytest.raises(InvalidSyntax) as caught:
                receiver.open(header, header.to_bytes() + datagram[28:])
            assert not isinstance(caught.value, AuthenticButInvalid)

    def test_something_after_it(self) -> None:
        sender, receiver = pair()
        (datagram,) = sender.seal(ExchangeType.INFORMATIONAL, 1, NOTIFY, response=False)
        longer = datagram + b"\0\0\0\x04"
        header = Header.parse(datagram)._replace(length=len(longer))
        with pytest.raises(InvalidSyntax, match="not the last"):
            receiver.open(header, header.to_bytes() + longer[28:])

    def test_a_fragment_that_does_not_verify_is_not_kept(self) -> None:
        sender, receiver = pair(fragment_bytes=400)
        datagrams = sender.seal(ExchangeType.IKE_AUTH, 1, [(PayloadType.EAP, bytes(600))], response=False)
        for index in range(len(datagrams)):
            changed = datagrams[index][:-1] + bytes((datagrams[index][-1] ^ 1,))
            with pytest.raises(IntegrityError):
                receiver.open(Header.parse(changed), changed)
        assert read(receiver, datagrams) is not None

    def test_fragments_where_none_were_agreed(self) -> None:
        sender, _ = pair(fragment_bytes=400)
        _, receiver = pair()
        with pytest.raises(InvalidSyntax):
            read(receiver, sender.seal(ExchangeType.IKE_AUTH, 1, [(PayloadType.EAP, bytes(600))], response=False))


def test_a_message_that_needs_too_many_fragments() -> None:
    sender, _ = pair(fragment_bytes=400)
    with pytest.raises(ValueError, match="does not fit"):
        sender.seal(ExchangeType.IKE_AUTH, 1, [(PayloadType.CERT, bytes(40_000))], response=False)


class TestTwoMessagesAtATime:
    """Fragments of one message are kept apart from those of another; of how many, the window says."""

    @staticmethod
    def messages() -> tuple[Channel, list[bytes], list[bytes], Channel]:
        """Two fragmented requests of one sender, with the receiver."""
        sender, receiver = pair(fragment_bytes=400)
        first, second = (
            sender.seal(ExchangeType.INFORMATIONAL, message_id, [(PayloadType.EAP, fill * 700)], response=False)
            for message_id, fill in ((4, b"a"), (5, b"b"))
        )
        return sender, first, second, receiver

    def test_a_window_of_two(self) -> None:
        _, first, second, receiver = self.messages()
        receiver.window = 2
        for mine, other in zip(first[:-1], second[:-1], strict=True):
            assert read(receiver, [mine, other]) is None
        for last, fill in ((second[-1], b"b"), (first[-1], b"a")):
            found = read(receiver, [last])
            assert found is not None
            assert found.bodies == {PayloadType.EAP: [fill * 700]}

    def test_a_window_of_one_keeps_the_newer(self) -> None:
        _, first, second, receiver = self.messages()
        read(receiver, [*first[:-1], second[0]])
        assert receiver.incomplete_request is not None
        assert receiver.incomplete_request.arrived == (1,)
        assert read(receiver, second[1:]) is not None
        # The sender of the older one may still send it anew.
        assert read(receiver, first) is not None
        assert receiver.incomplete_request is None

    def test_requests_and_responses_have_ids_of_their_own(self) -> None:
        sender, first, _, receiver = self.messages()
        response = sender.seal(ExchangeType.INFORMATIONAL, 4, [(PayloadType.EAP, b"r" * 700)], response=True)
        assert read(receiver, [*first[:-1], *response[:-1]]) is None
        assert read(receiver, first[-1:]) is not None
        assert read(receiver, response[-1:]) is not None

    def test_nothing_is_kept_of_what_does_not_verify(self) -> None:
        _, first, second, receiver = self.messages()
        read(receiver, first[:-1])
        forged = second[0][:-1] + bytes((second[0][-1] ^ 1,))
        with pytest.raises(IntegrityError):
            read(receiver, [forged])
        # Nor does it push out what did.
        assert read(receiver, first[-1:]) is not None

    def test_what_is_not_completed_is_forgotten(self) -> None:
        _, first, _, receiver = self.messages()
        read(receiver, first[:-1])
        receiver.forget_incomplete()
        assert receiver.incomplete_request is None
        assert read(receiver, first[-1:]) is None
        assert read(receiver, first[:-1]) is not None
