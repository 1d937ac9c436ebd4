"""What is known of versions comes back as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

import skip2lora as s2
from skip2lora.serve.gate import Verdict
from skip2lora.serve.limits import Limits
from skip2lora.serve.records import ADOPTED, REFUSED, WAITING, Record, Records
from skip2lora.serve.store import Store

VERDICT = Verdict(14, 2, 40, 0.002, True, "fixed 14, broke 2", 1)


def test_records_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, {}, Limits(), lambda _: None)
    records = Records(store)
    assert [each.number for each in records.all()] == [0]
    assert records.newest == 0
    record = records.write(Record(1, 5.0, WAITING, VERDICT, 40))
    assert records.of(1) == record
    assert records.newest == 1
    store.do(lambda db: db.execute("INSERT INTO labels VALUES (17, 1, 'a', 'b', 0, NULL)"))
    adopted = records.adopted(1, 0)
    assert (adopted.state, adopted.until, adopted.before) == (ADOPTED, 17, 0)
    assert records.of(1) == adopted
    of = adopted.to_dict(1)
    assert of["in_use"]
    assert (of["fixed"], of["broke"], of["n"]) == (14, 2, 40)
    assert records.adopted(0, 1).until == 17
    assert records.of(0).before == 1
    assert [each.number for each in records.all()] == [0, 1]
    with pytest.raises(s2.DataError, match="there is no version 2"):
        records.of(2)
    store.close()


def test_of_those_that_were_never_in_use_the_newest_are_remembered(tmp_path: Path) -> None:
    store = Store(tmp_path, {}, Limits(), lambda _: None)
    records = Records(store)
    for number in range(1, 11):
        state = WAITING if number == 6 else REFUSED
        records.write(Record(number, 5.0, state, VERDICT, 40))
    records.adopted(3, 0)
    records.adopted(0, 3)
    assert records.n_refused == 8
    for _ in range(2):  # what is forgotten is counted once
        records.prune(3)
        store.flush()
        assert [each.number for each in records.all()] == [0, 3, 8, 9, 10]
        assert records.n_refused == 8
    records.write(Record(11, 5.0, REFUSED, VERDICT, 40))
    records.prune(3)
    store.flush()
    assert [each.number for each in records.all()] == [0, 3, 9, 10, 11]
    assert records.n_refused == 9
    store.close()
