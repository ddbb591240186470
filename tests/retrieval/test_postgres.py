"""The same codes in PostgreSQL with pgvector give the results of HashIndex."""

import psycopg
import pytest
import torch

from pml_nmlayer.retrieval import bit_strings_to_codes, codes_to_bit_strings

from .hash_index_cases import clustered_codes, filled, shuffled_ids
from .postgres import postgres

BITS = 48


@pytest.fixture(scope="module")
def address():
    with postgres() as address:
        with psycopg.connect(address, autocommit=True) as db:
            db.execute("CREATE EXTENSION vector")
        yield address


@pytest.fixture(scope="module")
def items():
    codes = clustered_codes(3000, BITS)
    codes[1000:1040] = codes[0]  # ties at every k up to 41
    return codes, shuffled_ids(3000)


@pytest.fixture(scope="module")
def db(address, items):
    codes, ids = items
    with psycopg.connect(address, autocommit=True) as db:
        db.execute(f"CREATE TABLE items (id bigint PRIMARY KEY, code bit({BITS}) NOT NULL)")
        rows = zip(ids.tolist(), codes_to_bit_strings(codes), strict=True)
        with db.cursor().copy("COPY items (id, code) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        yield db


def search(db, query, k):
    return db.execute(
        "SELECT (code <~> %(query)s)::int, id FROM items "
        "ORDER BY code <~> %(query)s, id LIMIT %(k)s",
        {"query": query, "k": k},
    ).fetchall()


def test_versions(db):
    assert db.info.server_version >= 180_000
    (version,) = db.execute(
        "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    ).fetchone()
    assert version.startswith("0.8.")


def test_codes_come_back(db, items):
    codes, ids = items
    rows = db.execute("SELECT id, code FROM items ORDER BY id").fetchall()
    assert [i for i, _ in rows] == sorted(ids.tolist())
    back = bit_strings_to_codes([code for _, code in rows])
    assert torch.equal(back, codes[ids.argsort()].float())


@pytest.mark.parametrize("k", [1, 10, 100])
def test_a_scan_equals_the_flat_index(db, items, k):
    codes, ids = items
    queries = torch.cat([codes[:3], clustered_codes(20, BITS, seed=1)])
    distances, found = filled("flat", codes, ids).search(queries, k)
    for row, query in enumerate(codes_to_bit_strings(queries)):
        expected = list(zip(distances[row].tolist(), found[row].tolist(), strict=True))
        assert search(db, query, k) == expected


def test_a_range_equals_the_flat_index(db, items):
    codes, ids = items
    distances, found = filled("flat", codes, ids).range_search(codes[:3], 9)
    for row, query in enumerate(codes_to_bit_strings(codes[:3])):
        rows = db.execute(
            "SELECT (code <~> %(query)s)::int AS bits, id FROM items "
            "WHERE code <~> %(query)s <= 9 ORDER BY bits, id",
            {"query": query},
        ).fetchall()
        assert rows == list(zip(distances[row].tolist(), found[row].tolist(), strict=True))
        assert len(rows) > 3


def test_hnsw_finds_nearly_all(db, items):
    codes, ids = items
    db.execute("CREATE INDEX items_code ON items USING hnsw (code bit_hamming_ops)")
    db.execute("SET hnsw.ef_search = 100")
    db.execute("SET enable_seqscan = off")  # so small a table would be scanned
    queries = clustered_codes(30, BITS, seed=1)
    farthest = filled("flat", codes, ids).search(queries, 10)[0][:, -1].tolist()
    near = 0
    for query, limit in zip(codes_to_bit_strings(queries), farthest, strict=True):
        statement = "SELECT (code <~> %s)::int FROM items ORDER BY code <~> %s LIMIT 10"
        plan = db.execute(f"EXPLAIN {statement}", [query, query]).fetchall()
        assert any("Index Scan using items_code" in line for (line,) in plan)
        rows = db.execute(statement, [query, query]).fetchall()
        near += sum(bits <= limit for (bits,) in rows)
    db.execute("DROP INDEX items_code")
    assert near / 300 >= 0.95


def test_codes_of_another_length_are_refused(db):
    with pytest.raises(psycopg.errors.StringDataLengthMismatch, match="48"):
        db.execute("INSERT INTO items VALUES (1, %s)", ["0" * 47])
    with pytest.raises(psycopg.DataError, match="different bit lengths 48 and 47"):
        search(db, "0" * 47, 1)
