"""Wishes to be left alone that a person has to read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateIndex, CreateTable

revision, down_revision = "0002", "0001"
_META = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

sa.Table(
    "wishes",
    _META,
    sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("voter_id", sa.Text, index=True, nullable=False, server_default=""),
    sa.Column("person", sa.Text, index=True, nullable=False, server_default=""),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("answered_by", sa.Text),
    sa.Column("answered_at", sa.BigInteger),
    sa.UniqueConstraint("event_id", "channel", "voter_id", "person"),
    sqlite_autoincrement=True,
)


def upgrade() -> None:
    for table in _META.sorted_tables:
        op.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            op.execute(CreateIndex(index, if_not_exists=True))
