"""What `hustings init` makes of the record layouts that states and vendors publish."""

import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import app
from tests.features.layout_files import LAYOUTS, OURS, PLACED_TOKENS, Layout, people
from tests.features.score_layouts import Score, placed

NO_STORE = {"MLFLOW_TRACKING_URI": None}


def drafted(
    layout: Layout, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """What `hustings init` drafts of a file, on the console or in a folder; and all
    that it says, where it drafts nothing."""
    monkeypatch.chdir(folder)
    file = layout.write(folder)
    outcome = CliRunner().invoke(app, ["init", file.name], env=NO_STORE)
    if outcome.exit_code != 0:
        return "", outcome.output
    if "[tables." in outcome.stdout:
        return outcome.stdout, ""
    return "\n".join(p.read_text() for p in folder.rglob("campaign.toml")), ""


def ideal(layout: Layout) -> str:
    """The draft that places everything, written from the truth."""
    columns, history, elsewhere = [], [], []
    for kind in OURS:
        column = next((c for c in layout.columns if c.kind == kind and c.counted), None)
        if column is None:
            continue
        codes = {code: ours for code, ours in column.codes.items() if ours}
        said = f'column = "{column.name}"'
        if column.formats:
            said += f', format = "{column.formats[0]}"'
        if codes:
            said += (
                f", map = {{ {', '.join(f'{k!r} = {v!r}' for k, v in codes.items())} }}"
            )
        columns.append(f"{'county_fips' if kind == 'county' else kind} = {{ {said} }}")
    for column in layout.columns:
        if column.kind == "history" and column.counted:
            key = column.election.replace("-* ", "-03 ").replace(" *", " local")
            codes = ", ".join(f"{k!r} = {v}" for k, v in column.codes.items())
            history.append(
                f'"{key}" = {{ column = "{column.name}", map = {{ {codes} }} }}'
            )
        elif column.kind == "special":
            elsewhere.append(column.name)
    fixed = [
        f'"{name}" = [{first}, {last}]'
        for name, (first, last) in layout.positions().items()
        if layout.fixed
    ]
    return "\n".join(
        [f"[features]\nspecial_categories = {elsewhere}", "[tables.voters.columns]",
         *columns, "[tables.voters.history]", *history, "[tables.voters.fixed]",
         *fixed]
    )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.key)
def test_the_scorer_counts_a_draft_that_places_everything(layout: Layout) -> None:
    score = placed(ideal(layout), layout)
    assert (score.wrong, score.left) == ([], [])
    assert score.right or layout.rows == "vote"


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.key)
def test_the_truth_fits_the_file(layout: Layout, tmp_path: Path) -> None:
    text = layout.write(tmp_path).read_bytes().decode(layout.encoding)
    lines = text.split(layout.ending)
    if layout.fixed:
        places = layout.positions().values()
        records = [[line[a - 1 : b].strip() for a, b in places] for line in lines[:-1]]
    else:
        quoting = layout.quoting
        records = list(
            csv.reader(lines[:-1], delimiter=layout.delimiter, quoting=quoting)
        )
    if layout.header:
        assert records.pop(0) == [column.name for column in layout.columns]
    assert {len(record) for record in records} == {len(layout.columns)}
    rows_of_a_voter = 3 if layout.rows == "vote" else 1
    assert len(records) == 300 * rows_of_a_voter + 1
    for at, column in enumerate(layout.columns):
        values = [record[at] for record in records if record[at] not in ("", "*")]
        if column.kind == "voter_id":
            assert len(set(values)) == 300, column.name
        if column.formats:
            years = {time.strptime(v, column.formats[0]).tm_year for v in values}
            assert years <= set(range(1900, 2027)), column.name
        if column.codes:
            assert {record[at] for record in records} <= set(column.codes), column.name
        if column.kind in OURS:
            assert values, column.name


def test_the_scorer_tells_what_is_wrong_and_what_is_left() -> None:
    ohio = next(layout for layout in LAYOUTS if layout.key == "OH SWVF")
    florida = next(layout for layout in LAYOUTS if layout.key == "FL extract")
    score = placed(
        """
        [tables.voters.columns]
        voter_id = { row_number = "V" }
        birth_year = { column = "DATE_OF_BIRTH", format = "%m/%d/%Y" }
        county_fips = { column = "COUNTY_NUMBER", digits = 5 }
        postcode = "MAILING_ZIP"
        party = "PARTY_AFFILIATION"
        state = { value = "OH" }
        [tables.voters.history]
        "2020-11-03 general" = { column = "GENERAL-11/03/2020", map = { X = 1 } }
        "2018-11-06 general" = { column = "GENERAL-11/06/2018", map = {X = 1, "" = 0} }
        "2016-11-08 primary" = { column = "GENERAL-11/08/2016", map = {X = 1, "" = 0} }
        [tables.voters.extra]
        names = ["LAST_NAME", "WARD"]
        """,
        ohio,
    )
    assert [said.partition(":")[0] for said in score.wrong] == [
        "voter_id", "birth_year", "county_fips", "postcode",
        "history 2020-11-03 general", "history 2016-11-08 primary", "offered",
    ]  # fmt: skip
    assert score.right == ["state", "party", "history 2018-11-06 general"]
    assert "registered_on: REGISTRATION_DATE" in score.left
    numbered = placed(
        """
        [features]
        columns = ["*"]
        special_categories = ["column_21"]
        [tables.voters.columns]
        voter_id = "column_2"
        sex = "column_21"
        [tables.voters.extra]
        names = ["column_38", "column_30"]
        """,
        florida,
    )
    assert numbered.right == ["voter_id", "special: Race"]
    assert numbered.wrong == [
        "sex: Race is special", "offered: Email address is a contact",
    ]  # fmt: skip


def lines_of(scores: dict[str, Score]) -> Iterator[str]:
    yield f"{'layout':<14}{'right':>6}{'wrong':>6}{'left':>6}"
    for layout in LAYOUTS:
        score = scores[layout.key]
        counts = (len(score.right), len(score.wrong), len(score.left))
        note = "" if layout.verified else "  (unverified, not counted)"
        yield f"{layout.key:<14}" + "".join(f"{n:>6}" for n in counts) + note
        yield from (f"    wrong  {said}" for said in score.wrong)
        yield from (f"    left   {said}" for said in score.left)


def test_no_column_of_a_published_layout_is_placed_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, refused, repeated = {}, {}, []
    details = [v[key] for v in people() for key in ("phone", "email") if v[key]]
    for number, layout in enumerate(LAYOUTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        draft, refusal = drafted(layout, folder, monkeypatch)
        # votes by rows are no voter file: they may be refused
        if refusal and layout.rows == "voter":
            refused[layout.key] = refusal
        scores[layout.key] = placed(draft, layout)
        lower = (draft + refusal).lower()
        repeated += [
            f"{layout.key}: {token}"
            for token in (*PLACED_TOKENS, *details)
            if token.lower() in lower
        ]
    sys.stdout.write("\n".join(lines_of(scores)) + "\n")
    verified = [layout.key for layout in LAYOUTS if layout.verified]
    assert {key: scores[key].wrong for key in verified if scores[key].wrong} == {}
    assert repeated == []
    # lines of a fixed width show no columns: their layout is declared by `fixed`
    assert [layout for layout in refused if layout != "TX fixed"] == []
    assert "no header" in refused["TX fixed"]
