"""Prediction ids can be told from made-up ones without looking anything up."""

from hypothesis import given
from hypothesis import strategies as st

from core.prediction_ids import ID_LENGTH, is_issued, issue_ids

SECRET = b"0" * 32


def test_issued_ids_are_distinct_and_recognised() -> None:
    ids = issue_ids(SECRET, "taxi_tip", 1_549_065_600_000, 500)
    assert len(set(ids)) == 500
    assert all(is_issued(SECRET, "taxi_tip", prediction_id) for prediction_id in ids)


def test_another_use_case_or_secret_does_not_recognise_them() -> None:
    (prediction_id,) = issue_ids(SECRET, "taxi_tip", 0, 1)
    assert not is_issued(SECRET, "ad_click", prediction_id)
    assert not is_issued(b"1" * 32, "taxi_tip", prediction_id)


@given(text=st.text(max_size=40) | st.text("0123456789abcdef", min_size=ID_LENGTH, max_size=ID_LENGTH))
def test_made_up_ids_are_refused(text: str) -> None:
    assert not is_issued(SECRET, "taxi_tip", text)


@given(place=st.integers(0, ID_LENGTH - 1), digit=st.sampled_from("0123456789abcdef"))
def test_a_changed_digit_is_noticed(place: int, digit: str) -> None:
    (prediction_id,) = issue_ids(SECRET, "taxi_tip", 1_549_065_600_000, 1)
    forged = prediction_id[:place] + digit + prediction_id[place + 1 :]
    assert is_issued(SECRET, "taxi_tip", forged) == (forged == prediction_id)
