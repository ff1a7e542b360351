"""Anti-replay window of an inbound SA (RFC 4303 section 3.4.3) with extended sequence numbers (its appendix A)."""

from __future__ import annotations

_HALF = 1 << 32
MIN_WINDOW_PACKETS = 64
MAX_WINDOW_PACKETS = 4096


class ReplayWindow:
    """Which sequence numbers an inbound SA has seen.

    Numbers up to `window_packets` behind the highest are remembered, one octet each in a ring: a packet in order,
    the case that matters, costs a comparison and a store, and no number of any length is shifted. The ring is a
    power of two long, so the window is at least what was asked for.

    `candidate` comes before the integrity check, `mark` after it: no forged packet moves the window.

    Raises:
        ValueError: a window outside 64 to 4096 packets.
    """

    __slots__ = ("_esn", "_mask", "_seen", "_size", "top")

    def __init__(self, window_packets: int, esn: bool, top: int = 0) -> None:
        if not MIN_WINDOW_PACKETS <= window_packets <= MAX_WINDOW_PACKETS:
            raise ValueError(f"a replay window has {MIN_WINDOW_PACKETS} to {MAX_WINDOW_PACKETS} packets")
        self._size = 1 << (window_packets - 1).bit_length()
        self._mask = self._size - 1
        # Everything up to `top` counts as seen; that covers number 0, which no packet has.
        self._seen = bytearray(b"\1" * self._size)
        self._esn = esn
        self.top = top
        """The highest number that was authentic."""

    def candidate(self, low: int) -> int | None:
        """The whole number of a packet that carries its low 32 bits; None for a replay or one that is too old."""
        top = self.top
        sequence = low
        if self._esn:
            sequence = self._whole(low)
            if sequence < 0 or sequence >> 64:
                return None
        if sequence > top:
            return sequence
        if sequence <= top - self._size or self._seen[sequence & self._mask]:
            return None
        return sequence

    def _whole(self, low: int) -> int:
        """Infer the high half: the number lies in the window, or else above it (RFC 4303 appendix A2.2)."""
        bottom = self.top - self._size + 1
        high = self.top >> 32
        bottom_low = bottom % _HALF
        if self.top % _HALF >= self._size - 1:
            # The window lies inside one subspace of 2**32 numbers.
            return (high << 32 | low) if low >= bottom_low else (high + 1 << 32 | low)
        # The window reaches back into the subspace before.
        return (high - 1 << 32 | low) if low >= bottom_low else (high << 32 | low)

    def mark(self, sequence: int) -> None:
        """Remember an authentic packet that `candidate` let through."""
        seen, mask = self._seen, self._mask
        ahead = sequence - self.top
        if ahead > 1:
            self._forget(self.top + 1, min(ahead - 1, self._size))
        if ahead > 0:
            self.top = sequence
        seen[sequence & mask] = 1

    def _forget(self, first: int, count: int) -> None:
        """Clear the places of numbers that were skipped; what was remembered there is too old now."""
        seen, begin = self._seen, first & self._mask
        to_end = min(count, self._size - begin)
        seen[begin : begin + to_end] = bytes(to_end)
        seen[: count - to_end] = bytes(count - to_end)
