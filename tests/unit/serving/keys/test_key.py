from __future__ import annotations

from serving.keys.key import digest_of, id_in, new_secret


def test_a_new_key_carries_its_id_and_256_bits() -> None:
    secret, key_id = new_secret()
    assert id_in(secret.encode()) == key_id
    assert len(secret) == 3 + 12 + 1 + 43
    assert new_secret() != new_secret()


def test_the_id_salts_the_digest() -> None:
    secret, key_id = new_secret()
    other = secret.replace(key_id, "0" * 12)
    assert digest_of(secret.encode()) != digest_of(other.encode())
    assert secret[16:] not in digest_of(secret.encode())


def test_what_has_not_the_form_of_a_key_has_no_id() -> None:
    secret, _ = new_secret()
    for wrong in (b"", b"eg_", secret.encode()[:-1], secret.encode() + b"\n", b"\xff\x00", secret.upper().encode()):
        assert id_in(wrong) is None
