"""The report's section on linked reactors and on columns of data providers.

It holds counts only: no linked person is on the page.
"""

from collections.abc import Mapping
from typing import Any

from hustings.experiments.report.markup import (
    Html,
    html_block,
    html_section,
    html_table,
    joined,
    paragraph,
)
from hustings.experiments.report.words import (
    Row,
    is_small,
    number_text,
    people_text,
    share_text,
)

FIELD_NAMES = {
    "first_name": "first name",
    "last_name": "last name",
    "birth_date": "date of birth",
    "birth_year": "year of birth",
    "email_sha256": "hash of the e-mail",
    "declared_id": "declared id",
    "first_root": "first name (nicknames resolved)",
    "last_start": "start of the last name",
    "year_of_birth": "year of birth",
}


def linked_section(run_facts: Mapping[str, Any]) -> Html:
    """Links and providers of a run; empty where it has neither.

    Args:
        run_facts: `links`, as in `links.json`, and `providers`, as in `providers.json`.
    """
    parts = []
    if run_facts.get("links"):
        parts.append(joined(_links(run_facts["links"])))
    if (run_facts.get("providers") or {}).get("columns"):
        parts.append(
            html_block("Columns of providers", *_providers(run_facts["providers"]))
        )
    if not parts:
        return Html("")
    return html_section("linked", "Who reacted, found in the voter file", *parts)


def _links(links: Row) -> list[Html]:
    n_linked = links["n_by_key"] + links["n_by_fields"]
    if is_small(links["n_reactors"]):
        return [paragraph("Too few people with a basis on record reacted to tell.")]
    # a difference of two counts must not reveal a small number of people not found
    n_missing = links["n_reactors"] - n_linked
    found_text = "nearly all" if is_small(n_missing) else people_text(n_linked)
    first = (
        f"{people_text(links['n_reactors'])} people who reacted had opted in, signed "
        f"up or written back; {found_text} of them were found in the voter "
        "file. Nobody else was looked for: all others exist only in groups of at least "
        "20 people. Reactions are hints of who cares, never an effect of a message."
    )
    return [
        paragraph(first),
        html_table("Links", ["What", "People"], _counts(links)),
        paragraph(_check_in_words(links)),
        html_table(
            "What they gave of themselves",
            ["Field", "Share who gave it", "Of these, not possible"],
            _fields(links),
        ),
        paragraph(
            "Compared were pairs that agree on "
            + "; or ".join(
                " and ".join(map(_field_name, rule)) for rule in links["rules"]
            )
            + ".",
            "quiet",
        ),
    ]


def _counts(links: Row) -> list[tuple[str, str]]:
    n_linked = links["n_by_key"] + links["n_by_fields"]
    there = n_linked - links["expected_false"] + links["expected_missed"]
    how = [
        ("Linked by an exact key", people_text(links["n_by_key"])),
        ("Linked by their other fields", people_text(links["n_by_fields"])),
    ]
    too_few = is_small(links["n_by_key"]) or is_small(links["n_by_fields"])
    return [
        *([] if too_few or is_small(links["n_reactors"] - n_linked) else how),
        ("In the file, as expected", _expected(there)),
        ("Links that are wrong, as expected", _expected(links["expected_false"])),
        ("In the file but not linked to it, as expected",
         _expected(links["expected_missed"])),
        ("Least probability of a link", number_text(links["threshold"], 2)),
    ]  # fmt: skip


def _expected(count: float) -> str:
    """An expected count in words; it describes the method, so it may be small."""
    return f"about {number_text(count)}"


def _check_in_words(links: Row) -> str:
    check = links.get("check")
    if not check:
        return (
            "Too few people have an exact key to check the probabilities by: they rest "
            "on the fields alone."
        )
    return (
        f"A check without labels: {people_text(check['n'])} people with an exact key "
        "were looked for again by their other fields alone. By the probabilities "
        f"{share_text(check['expected'])} of these links should be right; the key says "
        f"{share_text(check['found'])} (± {share_text(1.96 * check['se'])})."
    )


def _fields(links: Row) -> list[tuple[str, str, str]]:
    bad = links["bad_reactors"]
    return [
        (_field_name(name), share_text(share), people_text(bad.get(name, 0)))
        for name, share in links["filled"].items()
    ]


def _field_name(field: str) -> str:
    return FIELD_NAMES.get(field, field.replace("_", " "))


def _providers(providers: Row) -> list[Html]:
    header = ["Column", "Provider", "Of", "Licence", "Permitted use", "Known of",
              "Agrees with"]  # fmt: skip
    rows = [
        (
            column["column"],
            column["provider"],
            column["observed_on"],
            column["licence"],
            column["permitted_use"],
            share_text(column["coverage"]),
            _agreement(column),
        )
        for column in providers["columns"]
    ]
    return [html_table("Columns of providers", header, rows, words=5)]


def _agreement(column: Row) -> str:
    comparisons = [
        f"{other['with']}: {number_text(other['value'], 2)} ({other['measure']})"
        for other in column["agreement"]
    ]
    return "; ".join(comparisons) or "nothing to compare with"
