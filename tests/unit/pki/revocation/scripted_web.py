"""Where OCSP responses and CRLs come from in tests without a network: URLs that answer by script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pki.revocation.destinations import Destinations
from pki.revocation.evidence import NotUsable
from pki.revocation.fetch import Fetcher

Answer = bytes | Exception | Callable[[bytes], Awaitable[bytes]]


class ScriptedWeb(Fetcher):
    """Answers by script, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0

    async def get(self, url: str, destinations: Destinations, *, limit_bytes: int) -> bytes:
        return await self._answer(url, b"")

    async def post(
        self, url: str, destinations: Destinations, body: bytes, media_type: str, *, limit_bytes: int
    ) -> bytes:
        assert media_type == "application/ocsp-request"
        return await self._answer(url, body)

    async def _answer(self, url: str, body: bytes) -> bytes:
        self.asked.append(url)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = self.answers.get(url, NotUsable("it can't be reached: Connection refused"))
            if isinstance(answer, Exception):
                raise answer
            return answer if isinstance(answer, bytes) else await answer(body)
        finally:
            self.at_once -= 1


def after(seconds: float, answer: bytes) -> Callable[[bytes], Awaitable[bytes]]:
    async def wait(body: bytes) -> bytes:
        await asyncio.sleep(seconds)
        return answer

    return wait
