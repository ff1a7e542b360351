"""A person at the console, without a browser: opens pages, fills in forms, keeps cookies, over verified TLS."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar

from tests.lab.namespaces import Namespace
from tests.lab.processes import LabError

TIMEOUT_S = 15.0


@dataclass(slots=True)
class WebForm:
    """A form of a page."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    """Name to what the page filled in; a choice that nobody made is empty."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    url: str
    status: int
    html: str
    forms: tuple[WebForm, ...]
    text: str
    """What a person reads, one space between words."""


class WebVisitor:
    """One browser session from inside a namespace."""

    def __init__(self, namespace: Namespace, trust_pem: str) -> None:
        """
        Args:
            namespace: where the person sits.
            trust_pem: the CA that the portal's certificate must lead to.
        """
        self._namespace = namespace
        context = ssl.create_default_context(cadata=trust_pem)
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPCookieProcessor(CookieJar()),
        )

    def open(self, url: str) -> Page:
        """Follow a link."""
        return self._request(urllib.request.Request(url))

    def submit(self, page: Page, **values: str) -> Page:
        """Fill in the form of `page` that has these fields, and send it.

        Raises:
            LabError: there is no such form.
        """
        form = next((form for form in page.forms if values.keys() <= form.fields.keys()), None)
        if form is None:
            raise LabError(f"{page.url} (status {page.status}) has no form with {sorted(values)}: {page.text[:500]}")
        request = urllib.request.Request(
            urllib.parse.urljoin(page.url, form.action),
            data=urllib.parse.urlencode({**form.fields, **values}).encode(),
            headers={"Referer": page.url, "Origin": page.url[: page.url.index("/", 8)]},
        )
        return self._request(request)

    def _request(self, request: urllib.request.Request) -> Page:
        url, status, body = self._namespace.call(lambda: self._exchange(request))
        parser = _PageParser()
        parser.feed(body)
        return Page(url, status, body, tuple(parser.forms), " ".join(" ".join(parser.words).split()))

    def _exchange(self, request: urllib.request.Request) -> tuple[str, int, str]:
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                return answer.url, answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            # A page that says no is a page.
            with error:
                return error.url or request.full_url, error.code, error.read().decode(errors="replace")
        except OSError as error:
            raise LabError(f"{request.full_url}: {error}") from None


class _PageParser(HTMLParser):
    """Collects forms and readable text."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[WebForm] = []
        self.words: list[str] = []
        self._form: WebForm | None = None
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = WebForm(values.get("action", ""))
            self.forms.append(self._form)
        elif self._form is None:
            return
        elif tag in ("input", "textarea", "button") and "name" in values:
            chosen = values.get("type") not in ("radio", "checkbox") or "checked" in values
            if tag != "button":
                self._fill(values["name"], values.get("value", "") if chosen else "")
        elif tag == "select":
            self._select = values.get("name", "")
            self._fill(self._select, "")
        elif tag == "option" and "selected" in values:
            self._form.fields[self._select] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def _fill(self, name: str, value: str) -> None:
        if self._form is not None and (value or name not in self._form.fields):
            self._form.fields[name] = value
