"""How advertising platforms take audiences: column names, what is hashed, and how.

Each is as the platform documents it; `source` says where. A platform that asks for
names in plain text is given none.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import pandas as pd

from hustings.features.persons.contact_details import each_distinct, hashed

GMAIL = ("gmail.com", "googlemail.com")
PlatformName = Literal[
    "google", "linkedin", "meta", "snapchat", "tiktok", "uid2", "x"
]  # fmt: skip


@dataclass(frozen=True)
class AudienceFormat:
    """How a platform takes audiences.

    Attributes:
        columns: Field → name of the platform's column. No other field is matched.
        plain: Fields that are not hashed.
        phone_plus: Whether "+" is hashed with a telephone.
        tags: Whose e-mails lose what follows a plus: nobody's, Gmail's (with their
            dots, which Gmail does not read), or all.
        base64_digests: Whether digests are the bytes in Base64, not hexadecimal.
        one_field: Whether a list is of one field.
        source: The page that says so.
    """

    columns: Mapping[str, str]
    plain: frozenset[str] = frozenset()
    phone_plus: bool = True
    tags: Literal["kept", "gmail", "all"] = "kept"
    base64_digests: bool = False
    one_field: bool = False
    source: str = ""

    def compared(self, values: pd.Series, field: str) -> pd.Series:
        """Values in the common form → as this platform compares them."""
        if field == "phone" and not self.phone_plus:
            return values.str.removeprefix("+")
        if field == "email" and self.tags != "kept":
            return each_distinct(values, self._untagged)
        return values

    def _untagged(self, address: str) -> str:
        local, _, domain = address.rpartition("@")
        if domain in GMAIL or self.tags == "all":
            local = local.partition("+")[0] or local
        if domain in GMAIL and self.tags == "gmail":
            local = local.replace(".", "")
        return f"{local}@{domain}"

    def written(self, values: pd.Series, field: str) -> pd.Series:
        """Values as they stand in the file: hashed, unless the platform hashes not."""
        if field in self.plain:
            return values
        digests = hashed(values)
        if not self.base64_digests:
            return digests
        return each_distinct(
            digests, lambda text: base64.b64encode(bytes.fromhex(text)).decode()
        )


FORMATS: Mapping[PlatformName, AudienceFormat] = MappingProxyType(
    {
        "google": AudienceFormat(
            {"email": "Email", "phone": "Phone", "first_name": "First Name",
             "last_name": "Last Name", "country": "Country", "postcode": "Zip"},
            plain=frozenset({"country", "postcode"}), tags="gmail",
            source="support.google.com/google-ads/answer/7476159; "
            "developers.google.com/data-manager/api/devguides/concepts/formatting",
        ),
        "linkedin": AudienceFormat(
            {"email": "email", "country": "country"}, plain=frozenset({"country"}),
            source="linkedin.com/help/lms/answer/a1489764",
        ),
        "meta": AudienceFormat(
            {"email": "email", "phone": "phone", "first_name": "fn", "last_name": "ln",
             "birth_date": "dob", "sex": "gen", "city": "ct", "state": "st",
             "postcode": "zip", "country": "country"}, phone_plus=False,
            source="developers.facebook.com/docs/marketing-api/audiences/guides/"
            "custom-audiences#hash",
        ),
        "snapchat": AudienceFormat(
            {"email": "email", "phone": "phone"}, phone_plus=False, one_field=True,
            source="developers.snap.com/api/marketing-api/Ads-API/customer-lists",
        ),
        "tiktok": AudienceFormat(
            {"email": "Email_SHA256", "phone": "Phone_SHA256"}, tags="all",
            source="ads.tiktok.com/help/article/"
            "list-of-supported-ids-and-formats-for-a-customer-file",
        ),
        "uid2": AudienceFormat(
            {"email": "email_hash", "phone": "phone_hash"}, tags="gmail",
            base64_digests=True,
            source="unifiedid.com/docs/getting-started/gs-normalization-encoding",
        ),
        "x": AudienceFormat(
            {"email": "email"},
            source="developer.x.com/en/docs/x-ads-api/audiences/overview/user-data",
        ),
    }
)  # fmt: skip
"""Formats of platforms. uid2 is what The Trade Desk and others match by."""


def format_of(
    platform: PlatformName | None,
    fields: Sequence[str],
    columns: Mapping[str, str],
    *,
    phone_plus: bool,
) -> AudienceFormat:
    """The format of an audience: the platform's, or as it is declared by itself.

    Columns that are called as Google calls its own are taken for Google's, which does
    not match a hashed country or postcode.

    Args:
        platform: As declared; None for none.
        fields: What people are matched by.
        columns: Field → name of the column, of those that are declared.
        phone_plus: Whether "+" is hashed with a telephone.
    """
    if platform is not None:
        return FORMATS[platform]
    google = FORMATS["google"]
    if columns and all(google.columns.get(f) == columns.get(f) for f in fields):
        return google
    column_of = {field: columns.get(field, f"{field}_sha256") for field in fields}
    return AudienceFormat(column_of, phone_plus=phone_plus)
