from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from pki.revocation.locations import LONGEST_URL, MOST_URLS, crl_urls, ocsp_urls
from tests.unit.pki.foreign_forge import Company, access, points, user_certificate
from tests.unit.pki.forge import Extension

CORP = Company()


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def certificate(*extensions: Extension) -> x509.Certificate:
    return user_certificate(CORP.issuing, *extensions)


def test_what_the_certificate_names() -> None:
    named = certificate(
        access("http://ocsp.corp.example/", "https://two.example"), points("http://pki.corp.example/1.crl")
    )
    assert ocsp_urls(named) == ("http://ocsp.corp.example/", "https://two.example")
    assert crl_urls(named) == ("http://pki.corp.example/1.crl",)


def test_nothing() -> None:
    assert ocsp_urls(certificate()) == crl_urls(certificate()) == ()


def test_of_an_access_only_the_responders() -> None:
    issuers = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, uri("http://ca.example/ca.crt"))
    directory = x509.AccessDescription(
        AuthorityInformationAccessOID.OCSP, x509.DirectoryName(CORP.root.certificate.subject)
    )
    assert ocsp_urls(certificate((x509.AuthorityInformationAccess([issuers, directory]), False))) == ()


@pytest.mark.parametrize(
    "url",
    [
        "ldap://dc.corp.example/CN=CA?certificateRevocationList",
        "ftp://pki.corp.example/1.crl",
        "file:///etc/passwd",
        "gopher://x/",
        "//pki.corp.example/1.crl",
        "http:pki.corp.example",
        "http://" + "a" * LONGEST_URL,
        "",
    ],
)
def test_only_http_of_a_sane_length(url: str) -> None:
    assert crl_urls(certificate(points(url))) == ()
    assert ocsp_urls(certificate(access(url))) == ()


def test_few_and_each_once() -> None:
    many = [f"http://{number}.example/" for number in range(20)]
    assert crl_urls(certificate(points(many[0], *many))) == tuple(many[:MOST_URLS])
    assert ocsp_urls(certificate(access(*many))) == tuple(many[:MOST_URLS])


def test_no_parts_of_a_list_and_no_lists_of_others() -> None:
    urls = x509.CRLDistributionPoints(
        [
            x509.DistributionPoint(
                [uri("http://a.example/")], None, frozenset({x509.ReasonFlags.key_compromise}), None
            ),
            x509.DistributionPoint([uri("http://b.example/")], None, None, [x509.DNSName("other.example")]),
            x509.DistributionPoint(
                None, x509.RelativeDistinguishedName(list(CORP.root.certificate.subject)), None, None
            ),
            x509.DistributionPoint([x509.DNSName("c.example"), uri("http://c.example/")], None, None, None),
        ]
    )
    assert crl_urls(certificate((urls, False))) == ("http://c.example/",)


def test_an_extension_that_can_not_be_read_names_nothing() -> None:
    broken = x509.UnrecognizedExtension(x509.CRLDistributionPoints.oid, b"\x30\x03\x02\x01\x01")
    assert crl_urls(certificate((broken, False))) == ()
    broken = x509.UnrecognizedExtension(x509.AuthorityInformationAccess.oid, b"\x04\x00")
    assert ocsp_urls(certificate((broken, False))) == ()
