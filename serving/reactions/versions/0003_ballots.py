"""Ballots as counties report them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateIndex, CreateTable

revision, down_revision = "0003", "0002"
_META = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

sa.Table(
    "ballots",
    _META,
    sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("voter_id", sa.Text, nullable=False, index=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("method", sa.Text),
    sa.Column("dated", sa.Text, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)


def upgrade() -> None:
    for table in _META.sorted_tables:
        op.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            op.execute(CreateIndex(index, if_not_exists=True))
