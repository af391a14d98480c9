"""Files that were spoilt on the way: no crash, no silent loss, nobody's data told.

Each case spoils one to three things in the voter, delivery, response or reaction file
of a tiny campaign (encodings, byte order marks, quotes, cut lines, NULs, huge fields,
swapped columns, line ends, headers, delimiters) and runs `hustings ingest`. Records are
counted here once more, by a scanner of this file.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import BAD_INPUT, MISSING, OK, app

ORDINARY = (*range(38), 43, 50)
"""Each step alone; a lone quote that swallows lines, and one in a header with names."""
N_SLOW = 5_000
N_VOTERS = 120
"""So many that one row set aside is below the share at which ingest stops."""

CAMPAIGN = (
    """
[campaign]
name = "fuzz"
title = "t"
question = "q"
rule_set = "us_default"
as_of = 2026-03-01
seed = 1
[outcome]
name = "support"
label = "support"
kind = "continuous"
measures = "support"
higher_is_better = true
absent = "missing"
unit_per_point = 1.0
[plan]
budget_usd = 300.0
start_on = 2026-03-02
days = 3
holdout_share = 0.1
[features]
columns = ["*"]
special_categories = []
[tables.voters]
path = "voters.csv"
observed_on = 2026-01-01
{terms}
[tables.voters.columns]
voter_id = "voter_id"
household_id = "household_id"
birth_year = {{ column = "born", format = "%Y-%m-%d" }}
sex = {{ column = "sex", map = {{ F = "F", M = "M" }} }}
postcode = "zip"
party = "party"
[tables.voters.history]
"2022-11-08 general" = "g2022"
[tables.voters.extra]
names = ["income"]
[tables.messages]
{terms}
[[tables.messages.rows]]
message_id = "a"
issue = "jobs"
text = "Text a"
sponsor = "S"
disclaimer = "Paid for by S"
discloses = "none"
[tables.designs]
{terms}
[[tables.designs.rows]]
experiment_id = "e"
message_id = "control"
channel = "none"
probability = 0.5
[[tables.designs.rows]]
experiment_id = "e"
message_id = "a"
channel = "mail"
probability = 0.5
[tables.deliveries]
path = "deliveries.csv"
{terms}
[tables.deliveries.columns]
voter_id = "voter_id"
experiment_id = {{ value = "e" }}
message_id = "message_id"
channel = "channel"
sent_on = "sent_on"
randomised_by = {{ value = "person" }}
[tables.responses]
path = "responses.csv"
{terms}
[tables.responses.columns]
voter_id = "voter_id"
experiment_id = {{ value = "e" }}
outcome = {{ value = "support" }}
value = "value"
observed_at = "observed_at"
[tables.reactions]
path = "reactions.csv"
{terms}
[tables.reactions.columns]
reaction_id = "id"
message_id = "message_id"
platform = {{ value = "facebook" }}
kind = "kind"
reacted_at = "at"
name = "who"
[tables.costs]
{terms}
rows = [{{ message_id = "*", channel = "mail", cost_usd = 0.5 }}]
""".replace("{terms}", 'source = "s"\nlicence = "l"\npermitted_use = "p"')
    .replace("{{", "{")
    .replace("}}", "}")
)

NAMES = ("Quilamore", "Zorvathy", "Brixendale", "Thalingholm")
SECRETS = (*NAMES, "quill.example", "5550100", "Larkspindle")
"""Parts of names, e-mail addresses, telephones and streets: never in the output."""


# --- the campaign as it ought to be ---------------------------------------------------


def clean_files() -> dict[str, str]:
    """The four files, in lines that end with a line feed."""
    rng = np.random.default_rng(4)
    voters = [
        "voter_id,last_name,email,phone,street,household_id,born,sex,zip,party,g2022,income"
    ]
    deliveries = ["voter_id,message_id,channel,sent_on"]
    responses = ["voter_id,value,observed_at"]
    reactions = ["id,message_id,kind,at,who"]
    for i in range(N_VOTERS):
        name = NAMES[i % 4]
        voters.append(
            f'V{i:04d},{name},{name.lower()}{i}@quill.example,919-5550100,"{i} '
            f'Larkspindle St, Apt ""B""",H{i // 2:03d},{1950 + i % 50}-03-0{1 + i % 9},'
            f"{'FM'[i % 2]},{27500 + i % 40},{('DEM', 'REP', 'UNA')[i % 3]},{i % 2},"
            f"{30_000 + 500 * int(rng.integers(0, 90))}"
        )
        arm = ("control,none", "a,mail")[i % 2]
        deliveries.append(f"V{i:04d},{arm},2026-02-01")
        responses.append(f"V{i:04d},{rng.normal(50, 9):.1f},2026-02-15")
        reactions.append(
            f"r{i},a,{('like', 'angry')[i % 2]},2026-02-0{1 + i % 8},{name}"
        )
    return {
        "voters": "\n".join(voters) + "\n",
        "deliveries": "\n".join(deliveries) + "\n",
        "responses": "\n".join(responses) + "\n",
        "reactions": "\n".join(reactions) + "\n",
    }


# --- records, counted once more -------------------------------------------------------


@dataclass(frozen=True)
class Count:
    """Records of a text below its header.

    Attributes:
        n: By RFC 4180: a line feed, carriage return or both ends a record outside
            quotes; a line without any character is no record. A quote that RFC 4180
            does not have where it stands is an ordinary character.
        n_lines: Lines that hold something, were all quotes ordinary characters.
        clear: Whether every quote stands where RFC 4180 has it; where not, a reader
            may take lines for records.
    """

    n: int
    n_lines: int
    clear: bool


def count_records(text: str, delimiter: str = ",") -> Count:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    n_lines = sum(1 for line in text.split("\n") if line)
    quoted = re.compile(rf'"[^"]*(?:""[^"]*)*"(?=[{delimiter}\n]|\Z)')
    plain = re.compile(rf"[^{delimiter}\n]*")
    n, at, begins, clear = 0, 0, 0, True
    while at < len(text):
        cell = quoted.match(text, at)
        if cell is None:
            cell = plain.match(text, at)
            assert cell is not None
            clear = clear and '"' not in cell.group()
        at = cell.end() + 1
        if text[cell.end() : at] in ("\n", ""):
            n += cell.end() > begins
            begins = at
    return Count(max(0, n - 1), max(0, n_lines - 1), clear)


def test_records_are_counted_by_the_rules_of_quoting() -> None:
    assert count_records("a,b\n1,2\n\n3,4") == Count(2, 2, clear=True)
    assert count_records('a,b\r\n1,"x\ny"\r\n') == Count(1, 2, clear=True)
    assert count_records('a\r"1"\r"2 ""3"""\r') == Count(2, 2, clear=True)
    assert count_records('a,b\n1,6" nail\n2,x\n') == Count(2, 2, clear=False)
    assert count_records('a,b\n1,"open\n2,x\n3,"y\nz"') == Count(3, 4, clear=False)
    assert count_records('a\tb\n1\t"x\ny"\n', "\t") == Count(1, 2, clear=True)
    assert count_records("\ufeff") == count_records("") == Count(0, 0, clear=True)
    assert count_records("a,b\n1,\n") == Count(1, 1, clear=True)
    assert count_records("a\nx\u2028y\x0bz\x1c\x85\n") == Count(1, 1, clear=True)


# --- what happens to files ------------------------------------------------------------


@dataclass
class Spoilt:
    """One file on its way to the disk.

    Attributes:
        text: What it holds.
        raw: Its bytes, once they are more than the encoded text.
        encoding: How it is written.
        delimiter: Between its fields.
        steps: What was done to it.
    """

    text: str
    raw: bytes | None = None
    encoding: str = "utf-8"
    delimiter: str = ","
    steps: list[str] = field(default_factory=list)

    def bytes(self) -> bytes:
        if self.raw is not None:
            return self.raw
        return self.text.encode(self.encoding, errors="replace")


Step = Callable[[Spoilt, np.random.Generator], None]


def _lines(file: Spoilt) -> list[str]:
    return file.text.split("\n")


def _at(lines: list[str], rng: np.random.Generator) -> int:
    """A line below the header."""
    return int(rng.integers(1, max(2, len(lines) - 1))) if len(lines) > 1 else 0


def _in_a_line(change: Callable[[str, np.random.Generator], str]) -> Step:
    def step(file: Spoilt, rng: np.random.Generator) -> None:
        lines = _lines(file)
        at = _at(lines, rng)
        lines[at] = change(lines[at], rng)
        file.text = "\n".join(lines)

    return step


def _insert(sign: str) -> Step:
    """A sign somewhere within a line."""

    def change(line: str, rng: np.random.Generator) -> str:
        at = int(rng.integers(0, len(line) + 1))
        return line[:at] + sign + line[at:]

    return _in_a_line(change)


def _in_a_field(value: str) -> Step:
    """A field replaced, quoted where it must be."""

    def change(line: str, rng: np.random.Generator) -> str:
        cells = line.split(",")
        shown = (
            '"' + value.replace('"', '""') + '"' if set(value) & set(',"\n') else value
        )
        cells[int(rng.integers(0, len(cells)))] = shown
        return ",".join(cells)

    return _in_a_line(change)


def _shorter(line: str, rng: np.random.Generator) -> str:
    return line[: int(rng.integers(0, len(line) + 1))]


def _encoded(encoding: str) -> Step:
    def step(file: Spoilt, rng: np.random.Generator) -> None:
        lines = _lines(file)
        at = _at(lines, rng)
        lines[at] = lines[at].replace("V", "\u00c9", 1)
        file.text, file.encoding = "\n".join(lines), encoding

    return step


def _raw_bytes(file: Spoilt, rng: np.random.Generator) -> None:
    raw = bytearray(file.bytes())
    for _ in range(int(rng.integers(1, 4))):
        raw.insert(int(rng.integers(0, len(raw) + 1)), int(rng.integers(128, 256)))
    file.raw = bytes(raw)
    file.text = file.raw.decode(file.encoding, errors="replace")


def _ends(end: str, *, mixed: bool = False) -> Step:
    def step(file: Spoilt, rng: np.random.Generator) -> None:
        parts = file.text.split("\n")
        joined = parts[0]
        for part in parts[1:]:
            joined += (end if not mixed or rng.random() < 0.5 else "\n") + part
        file.text = joined

    return step


def _cut(file: Spoilt, rng: np.random.Generator) -> None:
    file.text = file.text[: int(rng.integers(0, len(file.text)))]


def _swap_columns(file: Spoilt, rng: np.random.Generator) -> None:
    lines = _lines(file)
    names = lines[0].split(",")
    if len(names) > 1:
        one, other = rng.choice(len(names), 2, replace=False)
        names[one], names[other] = names[other], names[one]
    file.text = "\n".join([",".join(names), *lines[1:]])


def _header(change: Callable[[list[str], np.random.Generator], list[str]]) -> Step:
    def step(file: Spoilt, rng: np.random.Generator) -> None:
        lines = _lines(file)
        lines[0] = ",".join(change(lines[0].split(","), rng))
        file.text = "\n".join(lines)

    return step


def _twice(names: list[str], rng: np.random.Generator) -> list[str]:
    one, other = rng.integers(0, len(names), 2)
    return [names[other] if i == one else name for i, name in enumerate(names)]


def _copies(file: Spoilt, rng: np.random.Generator) -> None:
    lines = _lines(file)
    at = _at(lines, rng)
    lines[at:at] = [lines[at]] * int(rng.integers(1, 3))
    file.text = "\n".join(lines)


def _blank_lines(file: Spoilt, rng: np.random.Generator) -> None:
    lines = _lines(file)
    at = _at(lines, rng)
    lines[at:at] = [""] * int(rng.integers(1, 4))
    file.text = "\n".join(lines)


def _set(text: str) -> Step:
    def step(file: Spoilt, _: np.random.Generator) -> None:
        file.text, file.raw = text, None

    return step


def _header_only(file: Spoilt, _: np.random.Generator) -> None:
    file.text = _lines(file)[0] + "\n"


def _delimited(sign: str) -> Step:
    def step(file: Spoilt, _: np.random.Generator) -> None:
        file.text, file.delimiter = file.text.replace(",", sign), sign

    return step


STEPS: dict[str, Step] = {
    "a lone quote": _insert('"'),
    "an extra delimiter": _insert(","),
    "a line feed within a line": _insert("\n"),
    "a carriage return within a line": _insert("\r"),
    "a NUL": _insert("\x00"),
    "a backslash": _insert("\\"),
    "ends of line of other alphabets": _insert("\u2028\x0b\x1c\x85"),
    "a line break in quotes": _in_a_field("one\ntwo"),
    "an empty field": _in_a_field(""),
    "NULL": _in_a_field("NULL"),
    "inf": _in_a_field("inf"),
    "a huge number": _in_a_field("9" * 400),
    "a huge field": _in_a_field("x" * 200_000),
    "a huge quoted field": _in_a_field("x, " * 50_000),
    "a formula": _in_a_field('=HYPERLINK("http://x","y")'),
    "a fraction as an id": _in_a_field("1.5e300"),
    "a person in another field": _in_a_field("Zorvathy 5550100"),
    "a cut line": _in_a_line(_shorter),
    "latin-1": _encoded("latin-1"),
    "utf-16": _encoded("utf-16"),
    "utf-16 without a mark": _encoded("utf-16-le"),
    "utf-32": _encoded("utf-32"),
    "a byte order mark": _encoded("utf-8-sig"),
    "bytes of no encoding": _raw_bytes,
    "CRLF": _ends("\r\n"),
    "CR": _ends("\r"),
    "mixed line ends": _ends("\r\n", mixed=True),
    "mixed old line ends": _ends("\r", mixed=True),
    "a cut file": _cut,
    "swapped columns": _swap_columns,
    "a header twice": _header(_twice),
    "a padded header": _header(lambda names, _: [f" {name} " for name in names]),
    "a header in capitals": _header(lambda names, _: [name.upper() for name in names]),
    "a header with a quote": _header(lambda names, _: ['"' + names[0], *names[1:]]),
    "a shorter header": _header(lambda names, _: names[:-1]),
    "a longer header": _header(lambda names, _: [*names, ""]),
    "a row again": _copies,
    "blank lines": _blank_lines,
    "an empty file": _set(""),
    "one line feed": _set("\n"),
    "a header alone": _header_only,
    "tabs": _delimited("\t"),
    "semicolons": _delimited(";"),
}  # fmt: skip


def spoilt_files(seed: int) -> dict[str, Spoilt]:
    """The files of one case; the first cases go through all steps, one by one."""
    rng = np.random.default_rng(seed)
    files = {name: Spoilt(text) for name, text in clean_files().items()}
    names = list(STEPS)
    chosen = [names[seed % len(names)]]
    if seed >= len(names):
        chosen += [str(name) for name in rng.choice(names, int(rng.integers(0, 3)))]
    for name in chosen:
        file = files[str(rng.choice(list(files)))]
        if file.raw is not None:
            continue
        STEPS[name](file, rng)
        file.steps.append(name)
    return files


# --- ingest ---------------------------------------------------------------------------


def faults_of(seed: int, folder: Path) -> list[str]:
    """What is wrong with how `hustings ingest` took one case; empty where nothing."""
    files = spoilt_files(seed)
    (folder / "campaign.toml").write_text(CAMPAIGN)
    for name, file in files.items():
        (folder / f"{name}.csv").write_bytes(file.bytes())
    data = folder / "runs"
    outcome = CliRunner().invoke(
        app, ["ingest", "--campaign", str(folder), "--data", str(data)],
        env={"MLFLOW_TRACKING_URI": None},
    )  # fmt: skip
    output, faults = outcome.output, []
    if outcome.exit_code not in (OK, BAD_INPUT, MISSING):
        faults.append(f"exit {outcome.exit_code}: {output[-300:]!r}")
    if "Traceback" in output or (
        outcome.exception and not isinstance(outcome.exception, SystemExit)
    ):
        faults.append(f"a traceback: {outcome.exception!r}")
    if outcome.exit_code != OK and "error" not in output:
        faults.append(f"exit {outcome.exit_code} without a reason: {output[-300:]!r}")
    # the console breaks lines at its width
    unbroken = output.replace("\n", "")
    faults += [
        f"says {word!r}: {output!r:.400}" for word in SECRETS if word in unbroken
    ]
    if outcome.exit_code == OK:
        report = json.loads(next(data.rglob("ingest.json")).read_text())
        faults += list(_wrong_accounts(report, files))
    steps = {name: file.steps for name, file in files.items() if file.steps}
    return [f"seed {seed}, {steps}: {fault}" for fault in faults]


def _wrong_accounts(
    report: dict[str, dict[str, int]], files: dict[str, Spoilt]
) -> Iterator[str]:
    for name, file in files.items():
        table = report[name]
        accounted = table["accepted"] + table["quarantined"] + table["forgotten"]
        if table["rows_in"] != accounted:
            yield f"{name}: {table['rows_in']} rows in, {accounted} accounted for"
        count = count_records(file.text, file.delimiter)
        allowed = {count.n} if count.clear else {count.n, count.n_lines}
        if table["rows_in"] not in allowed:
            yield f"{name}: {table['rows_in']} rows in, {count}"


@contextmanager
def a_folder(at: Path, seed: int) -> Iterator[Path]:
    folder = at / str(seed)
    folder.mkdir()
    here = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(here)


def all_faults(at: Path, seeds: Iterable[int]) -> list[str]:
    faults = []
    for seed in seeds:
        with a_folder(at, seed) as folder:
            faults += faults_of(seed, folder)
    return faults


def test_the_campaign_is_sound_before_anything_is_spoilt(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text(CAMPAIGN)
    for name, text in clean_files().items():
        (tmp_path / f"{name}.csv").write_text(text)
        assert count_records(text) == Count(N_VOTERS, N_VOTERS, clear=True)
    outcome = CliRunner().invoke(
        app,
        ["ingest", "--campaign", str(tmp_path), "--data", str(tmp_path / "runs")],
        env={"MLFLOW_TRACKING_URI": None},
    )
    assert outcome.exit_code == OK, outcome.output
    report = json.loads(next((tmp_path / "runs").rglob("ingest.json")).read_text())
    assert {report[name]["accepted"] for name in clean_files()} == {N_VOTERS}


def test_a_spoilt_file_is_accounted_for_or_refused(tmp_path: Path) -> None:
    assert all_faults(tmp_path, ORDINARY) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_five_thousand_spoilt_files_are_accounted_for_or_refused(
    tmp_path: Path, part: int
) -> None:
    size = N_SLOW // 10
    first = part * size
    assert all_faults(tmp_path, range(first, first + size)) == []
