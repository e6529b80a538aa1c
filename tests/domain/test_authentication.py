"""Authentication of requests: the header that is sent, and what is shown of its secrets."""

from domain.wire.authentication import compared_authentication, credentials, unmasked_authentication

BASIC = {"type": "basic", "username": "Aladdin", "password": "open sesame"}
BEARER = {"type": "bearer", "token": "mF_9.B5f-4.1JqM"}


def test_the_headers_are_those_of_the_specifications() -> None:
    assert credentials(BASIC) == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617, section 2
    assert credentials(BEARER) == "Bearer mF_9.B5f-4.1JqM"  # RFC 6750, section 2.1


def test_a_comparison_marks_new_secrets_and_shows_none() -> None:
    shown = {"type": "basic", "username": "Aladdin", "password": "•••"}
    assert compared_authentication(BASIC, {**BASIC}) == shown
    assert compared_authentication(BASIC, {**BASIC, "password": "other"}) == {**shown, "password": "••• (new)"}
    assert compared_authentication(BASIC, BEARER) == {"type": "bearer", "token": "••• (new)"}
    assert compared_authentication(BASIC, None) is None


def test_a_mask_stands_for_the_stored_secret_of_the_same_type() -> None:
    masked = {"type": "basic", "username": "Jasmine", "password": "•••"}
    assert unmasked_authentication(masked, BASIC) == ({**masked, "password": "open sesame"}, [])
    for stored in (None, BEARER):
        assert unmasked_authentication(masked, stored) == (masked, ["password"])
