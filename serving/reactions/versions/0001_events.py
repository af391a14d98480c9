"""Events, what is set aside, withdrawals, links of persons, posts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateIndex, CreateTable

revision, down_revision = "0001", None
_META = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

sa.Table(
    "reaction_events",
    _META,
    sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("message_id", sa.Text),
    sa.Column("post_id", sa.Text),
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("occurred_at", sa.BigInteger, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("person", sa.Text),
    sa.Column("place", sa.Text),
    sa.Column("age_band", sa.Text),
    sa.Column("sex", sa.Text),
    sa.Column("segment", sa.Text),
    sa.Column("in_area", sa.Boolean),
    sa.Column("account_age_days", sa.Integer),
    sa.Column("text", sa.Text),
    sa.Column("issue", sa.Text),
    sa.Column("issue_confidence", sa.Double),
    sqlite_autoincrement=True,
)

sa.Table(
    "reaction_quarantine",
    _META,
    sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.Text, unique=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

sa.Table(
    "withdrawals",
    _META,
    sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
    sa.Column("voter_id", sa.Text, index=True, nullable=False, server_default=""),
    sa.Column("person", sa.Text, index=True, nullable=False, server_default=""),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("event_id", sa.Text),
    sa.UniqueConstraint("event_id", "channel", "voter_id", "person"),
    sqlite_autoincrement=True,
)

sa.Table(
    "person_links",
    _META,
    sa.Column("person", sa.Text, primary_key=True),
    sa.Column("voter_id", sa.Text, primary_key=True, index=True),
)

sa.Table(
    "posts",
    _META,
    sa.Column("post_id", sa.Text, primary_key=True),
    sa.Column("issue", sa.Text),
    sa.Column("issue_confidence", sa.Double),
)


def upgrade() -> None:
    for table in _META.sorted_tables:
        op.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            op.execute(CreateIndex(index, if_not_exists=True))
